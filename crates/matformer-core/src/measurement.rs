//! `measurements.jsonl`: what was measured of a model, one JSON object per line, append-only.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, fs};

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Hash of the weights.
    pub weights: String,
    /// Hash of the data. Values are only comparable if it is equal.
    pub data: String,
    /// The submodel's label: `S`, `64x1+128x4`.
    pub submodel: String,
    /// The submodel's widths, one per layer.
    pub widths: Vec<usize>,
    /// The metric: `loss`, `bits_per_byte`, …
    pub metric: String,
    /// The value.
    pub value: f64,
    /// Number of observations (tokens, images).
    pub n: u64,
    /// The standard error of the value, if there is one.
    pub stderr: Option<f64>,
    /// Random seed of the measurement; 0 if it has no random part.
    pub seed: u64,
}

/// The contents of a file of measurements, in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measurements {
    /// The measurements.
    pub entries: Vec<Measurement>,
    /// The number, counted from 1, of a torn last line: its writer was killed. It is not in `entries`.
    pub torn_line: Option<usize>,
}

/// Identifies a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// Hash of the weights.
    pub weights: &'a str,
    /// Hash of the data.
    pub data: &'a str,
    /// The submodel's label.
    pub submodel: &'a str,
    /// The metric.
    pub metric: &'a str,
}

impl Measurements {
    /// The file's name in a model folder.
    pub const FILE: &str = "measurements.jsonl";

    /// Appends measurements to a model folder's file, which is created if there is none. Processes
    /// that append at the same time take turns; a torn last line of a killed one is removed first.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a NaN or infinite number, before anything is written; [`Error::Io`].
    pub fn append(folder: impl AsRef<Path>, entries: &[Measurement]) -> Result<()> {
        let path = folder.as_ref().join(Self::FILE);
        let mut lines = Vec::new();
        for entry in entries {
            let numbers = [Some(entry.value), entry.stderr];
            if let Some(found) = numbers.into_iter().flatten().find(|x| !x.is_finite()) {
                let (metric, submodel) = (entry.metric.clone(), entry.submodel.clone());
                return Err(Error::NotFinite { metric, submodel, found });
            }
            serde_json::to_writer(&mut lines, entry).map_err(|source| Error::Json {
                path: path.clone(),
                what: WHAT,
                source,
            })?;
            lines.push(b'\n');
        }
        let is_whole = |line: &[u8]| serde_json::from_slice::<Measurement>(line).is_ok();
        fs::append_lines(&path, &lines, is_whole)
    }

    /// Reads all measurements of a model folder. There are none if the file does not exist.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::JsonLine`] for a line that is not valid, except a torn last one.
    pub fn read_all(folder: impl AsRef<Path>) -> Result<Self> {
        let path = folder.as_ref().join(Self::FILE);
        let mut all = Self::default();
        if !path.exists() {
            return Ok(all);
        }
        for (i, line) in fs::read(&path)?.split_inclusive(|&byte| byte == b'\n').enumerate() {
            match serde_json::from_slice(line) {
                Ok(entry) => all.entries.push(entry),
                Err(_) if !line.ends_with(b"\n") => all.torn_line = Some(i + 1),
                Err(source) => {
                    return Err(Error::JsonLine { path, line: i + 1, source });
                }
            }
        }
        Ok(all)
    }

    /// The last measurement with this key.
    pub fn find(&self, key: &Key<'_>) -> Option<&Measurement> {
        let matches = |entry: &&Measurement| {
            entry.weights == key.weights
                && entry.data == key.data
                && entry.submodel == key.submodel
                && entry.metric == key.metric
        };
        self.entries.iter().rev().find(matches)
    }
}

const WHAT: &str = "a measurement";

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(submodel: &str, value: f64) -> Measurement {
        Measurement {
            weights: "w".into(),
            data: "d".into(),
            submodel: submodel.into(),
            widths: vec![64, 128],
            metric: "loss".into(),
            value,
            n: 10,
            stderr: Some(0.5),
            seed: 0,
        }
    }

    /// A folder whose file contains this text.
    fn folder(text: impl AsRef<[u8]>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::append(dir.path().join(Measurements::FILE), text.as_ref()).unwrap();
        dir
    }

    fn line(submodel: &str) -> String {
        serde_json::to_string(&entry(submodel, 1.0)).unwrap()
    }

    #[test]
    fn what_is_appended_is_read_and_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Measurements::read_all(dir.path()).unwrap(), Measurements::default());
        let third = 1.0 / 3.0;
        Measurements::append(dir.path(), &[entry("S", 3.5), entry("M", 3.0)]).unwrap();
        Measurements::append(dir.path(), &[entry("S", third)]).unwrap();
        let all = Measurements::read_all(dir.path()).unwrap();
        assert_eq!(all.entries, [entry("S", 3.5), entry("M", 3.0), entry("S", third)]);
        let key = Key { weights: "w", data: "d", submodel: "S", metric: "loss" };
        assert_eq!(all.find(&key), Some(&entry("S", third)), "the last one, bit for bit");
        assert_eq!(all.find(&Key { data: "other", ..key }), None);
        assert_eq!(all.find(&Key { submodel: "L", ..key }), None);
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_replaced() {
        // Cut at the start, in the middle, and within a character of two bytes.
        let torn_text = line("größe").into_bytes();
        let within = torn_text.iter().position(|&byte| byte == 0xc3).unwrap() + 1;
        for cut in [1, 40, within] {
            let text = [line("S").as_bytes(), b"\n", &torn_text[..cut]].concat();
            let dir = folder(text);
            let all = Measurements::read_all(dir.path()).unwrap();
            assert_eq!((all.entries.len(), all.torn_line), (1, Some(2)));
            Measurements::append(dir.path(), &[entry("M", 2.0)]).unwrap();
            let all = Measurements::read_all(dir.path()).unwrap();
            assert_eq!((all.entries.len(), all.torn_line), (2, None));
        }
    }

    /// Two writers append while a third is killed in the middle of a line, again and again.
    #[test]
    fn a_torn_line_costs_no_line_of_another_writer() {
        const LINES: usize = 200;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let write = |submodel| {
            for i in 0..LINES {
                Measurements::append(folder, &[entry(submodel, i as f64)]).unwrap();
            }
        };
        let tear = || {
            use std::io::{Seek, SeekFrom, Write};
            for _ in 0..LINES {
                // What a process leaves that holds the lock and is killed during its write.
                let lock = fs::Lock::take(folder.join(Measurements::FILE)).unwrap();
                lock.file().seek(SeekFrom::End(0)).unwrap();
                lock.file().write_all(&line("torn").as_bytes()[..40]).unwrap();
                drop(lock);
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| write("S"));
            scope.spawn(|| write("M"));
            scope.spawn(tear);
        });
        Measurements::append(folder, &[entry("L", 0.0)]).unwrap();
        let all = Measurements::read_all(folder).unwrap();
        for submodel in ["S", "M"] {
            let of = all.entries.iter().filter(|entry| entry.submodel == submodel);
            let values: Vec<f64> = of.map(|entry| entry.value).collect();
            let expected: Vec<f64> = (0..LINES).map(|i| i as f64).collect();
            assert_eq!(values, expected, "every line of {submodel}, in order");
        }
        assert_eq!((all.entries.len(), all.torn_line), (2 * LINES + 1, None));
    }

    #[test]
    fn a_whole_last_line_without_its_end_stays() {
        let dir = folder(line("S"));
        assert_eq!(Measurements::read_all(dir.path()).unwrap().torn_line, None);
        Measurements::append(dir.path(), &[entry("M", 2.0)]).unwrap();
        assert_eq!(Measurements::read_all(dir.path()).unwrap().entries.len(), 2);
    }

    #[test]
    fn any_other_bad_line_is_an_error_with_its_number() {
        let good = line("S");
        let mut extra = good.clone();
        extra.insert_str(1, "\"extra\":1,");
        for bad in ["", "{}", "nonsense", &good[..40], &extra] {
            for text in [format!("{good}\n{bad}\n{good}\n"), format!("{good}\n{bad}\n")] {
                match Measurements::read_all(folder(text).path()) {
                    Err(Error::JsonLine { line: 2, .. }) => {}
                    other => panic!("{bad}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn numbers_that_json_cannot_hold_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Measurements::append(dir.path(), &[entry("S", 1.0), entry("M", f64::NAN)]);
        assert!(matches!(error, Err(Error::NotFinite { .. })));
        let mut infinite = entry("S", 1.0);
        infinite.stderr = Some(f64::INFINITY);
        assert!(Measurements::append(dir.path(), &[infinite]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().len(), 0);
    }
}
