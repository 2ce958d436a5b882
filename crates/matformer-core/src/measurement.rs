//! `measurements.jsonl`: what was measured of a model, one JSON object per line, only ever added to.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, fs};

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Hash of the weights.
    pub weights: String,
    /// Hash of the data: numbers are compared only where it is equal.
    pub data: String,
    /// The submodel's label: `S`, `64x1+128x4`.
    pub submodel: String,
    /// The submodel's widths, one per layer.
    pub widths: Vec<usize>,
    /// What was measured: `loss`, `bits_per_byte`, …
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// How many observations it is over (tokens, images).
    pub n: u64,
    /// Its standard error, where there is one.
    pub stderr: Option<f64>,
    /// Seed of whatever was drawn in measuring; 0 where nothing was.
    pub seed: u64,
}

/// What a file of measurements holds, in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measurements {
    /// The measurements.
    pub entries: Vec<Measurement>,
    /// Number, from 1, of a last line that was cut off while it was written, and is left out.
    pub torn_line: Option<usize>,
}

/// Which measurement is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// Hash of the weights.
    pub weights: &'a str,
    /// Hash of the data.
    pub data: &'a str,
    /// The submodel's label.
    pub submodel: &'a str,
    /// What was measured.
    pub metric: &'a str,
}

impl Measurements {
    /// The file's name in a model folder.
    pub const FILE: &str = "measurements.jsonl";

    /// Adds measurements to a model folder's file with one write and a sync, and makes the file
    /// if there is none. A torn last line of an earlier write is removed first.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a number is (then nothing is written), or [`Error::Io`].
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
        if path.exists() {
            let old = fs::read(&path)?;
            let whole = old.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            if serde_json::from_slice::<Measurement>(&old[whole..]).is_ok() {
                lines.insert(0, b'\n'); // only the line's end was missing
            } else if whole < old.len() {
                fs::write_atomic(&path, &old[..whole])?;
            }
        }
        fs::append(&path, &lines)
    }

    /// All measurements of a model folder; none if it has no file of them.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::JsonLine`] for a bad line that is not a torn last one.
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

    /// The latest measurement with this key.
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

    /// A folder whose file holds this text.
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
        assert_eq!(all.find(&key), Some(&entry("S", third)), "the latest, to the bit");
        assert_eq!(all.find(&Key { data: "other", ..key }), None);
        assert_eq!(all.find(&Key { submodel: "L", ..key }), None);
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_replaced() {
        // Cut in the middle, at the start, and within a character of two bytes.
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
