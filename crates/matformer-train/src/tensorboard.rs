//! TensorBoard's event files: the metrics of a run as scalars.
//!
//! A file is a sequence of records as TensorFlow writes them (length, masked CRC-32C of it, payload, masked
//! CRC-32C of that), each of which is a protobuf message `Event`. Only the few fields that scalars need are
//! written: <https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto>.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use matformer_core::fs;

use crate::{MetricsLine, Result};

/// What the names of event files begin with.
const PREFIX: &str = "events.out.tfevents.";
/// Events reach the file at least this often.
const PATIENCE: Duration = Duration::from_secs(15);
/// Version of the format.
const VERSION: &[u8] = b"brain.Event:2";

/// The event file that a run writes.
#[derive(Debug)]
pub(crate) struct EventLog {
    path: PathBuf,
    waiting: Vec<u8>,
    flushed: Instant,
    /// `tokens_per_second`, `images_per_second`.
    speed: String,
}

impl EventLog {
    /// A new file in the folder of a run that resumes after `step` steps. Later events of older files are
    /// removed: they are of steps that will be made again.
    pub(crate) fn open(run: &Path, step: u64, targets: &str) -> Result<Self> {
        for path in files(run)? {
            remove_after(&path, step)?;
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        // TensorBoard reads files in the order of their names.
        let path = run.join(format!("{PREFIX}{seconds:010}.matformer.{step}"));
        let mut log = Self {
            path,
            waiting: Vec::new(),
            flushed: Instant::now(),
            speed: format!("{targets}_per_second"),
        };
        log.event(0, &bytes(3, VERSION));
        if step > 0 {
            // A session that starts: a TensorBoard that is open forgets what follows this step, too.
            log.event(step + 1, &bytes(7, &number(1, 1)));
        }
        log.flush()?;
        Ok(log)
    }

    /// Adds the scalars of a line of metrics.
    pub(crate) fn push(&mut self, line: &MetricsLine) -> Result<()> {
        let mut scalars: Vec<(String, f64)> = Vec::new();
        let mut group = |name: &str, values: &std::collections::BTreeMap<String, f64>| {
            scalars.extend(values.iter().map(|(size, value)| (format!("{name}/{size}"), *value)));
        };
        match line {
            MetricsLine::Train(line) => {
                group("loss", &line.loss);
                group("distill", &line.distill);
                scalars.extend([
                    ("learning_rate".to_owned(), line.learning_rate),
                    ("grad_norm".to_owned(), line.grad_norm),
                    (self.speed.clone(), line.tokens_per_second),
                ]);
            }
            MetricsLine::HeldOut(line) => {
                group("held_out", &line.held_out);
                for (at, losses) in line.sources.iter().enumerate() {
                    group(&format!("held_out_source_{}", at + 1), losses);
                }
            }
            MetricsLine::Skipped(_) => return Ok(()),
        }
        let summary: Vec<u8> =
            scalars.iter().flat_map(|(tag, value)| scalar(tag, *value)).collect();
        self.event(line.step(), &bytes(5, &summary));
        if self.flushed.elapsed() > PATIENCE { self.flush() } else { Ok(()) }
    }

    /// Writes the waiting events.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.flushed = Instant::now();
        if !waiting.is_empty() {
            fs::append(&self.path, &waiting)?;
        }
        Ok(())
    }

    fn event(&mut self, step: u64, what: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
        let time = [&[0x09][..], &now.to_le_bytes()].concat();
        self.waiting.extend(record(&[&time[..], &number(2, step), what].concat()));
    }
}

/// The event files of a run, in the order of their names.
fn files(run: &Path) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(run)?;
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(PREFIX) && path.is_file()
    });
    Ok(files)
}

/// Cuts a file off before its first event of a later step, or its first damaged record.
fn remove_after(path: &Path, step: u64) -> Result<()> {
    let all = fs::read(path)?;
    let mut kept = 0;
    while let Some((event, end)) = next(&all, kept) {
        if step_of(event) > step {
            break;
        }
        kept = end;
    }
    if kept < all.len() {
        fs::write_atomic(path, &all[..kept])?;
    }
    Ok(())
}

/// The event of the record at `at`, and where the record ends; nothing where it is torn or damaged.
fn next(all: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let part = |from: usize, len: usize| all.get(from..from.checked_add(len)?);
    let sum = |from| Some(u32::from_le_bytes(part(from, 4)?.try_into().ok()?));
    let head = part(at, 8)?;
    let len = usize::try_from(u64::from_le_bytes(head.try_into().ok()?)).ok()?;
    let event = part(at + 12, len)?;
    let sound = sum(at + 8)? == masked_crc(head) && sum(at + 12 + len)? == masked_crc(event);
    sound.then_some((event, at + 16 + len))
}

/// The step of an event: its field 2, which comes second.
fn step_of(event: &[u8]) -> u64 {
    let varint = event.get(9..).and_then(|rest| rest.strip_prefix(&[0x10]));
    let mut step = 0;
    for (i, byte) in varint.unwrap_or_default().iter().take(10).enumerate() {
        step |= u64::from(byte & 0x7f) << (7 * i).min(63);
        if byte & 0x80 == 0 {
            break;
        }
    }
    step
}

/// A payload as a record.
fn record(payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u64).to_le_bytes();
    let sums = [masked_crc(&len), masked_crc(payload)].map(u32::to_le_bytes);
    [&len[..], &sums[0], payload, &sums[1]].concat()
}

/// A value of a summary: field 1 of it, with a tag and a float.
fn scalar(tag: &str, value: f64) -> Vec<u8> {
    let float = [&[0x15][..], &(value as f32).to_le_bytes()].concat();
    bytes(1, &[bytes(1, tag.as_bytes()), float].concat())
}

/// A field of protobuf that holds bytes, a text or a message.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2][..], &varint(content.len() as u64), content].concat()
}

/// A field of protobuf that holds a number.
fn number(field: u8, value: u64) -> Vec<u8> {
    [&[field << 3][..], &varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// CRC-32C, rotated and shifted as TensorFlow stores it.
fn masked_crc(bytes: &[u8]) -> u32 {
    /// The polynomial of Castagnoli, its bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let crc = !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 }
        })
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeldOut, metrics::tests::train};

    /// A field of a message: its number, its bytes (of a number: as a varint), and what follows.
    fn field(message: &[u8]) -> Option<(u8, &[u8], &[u8])> {
        let (key, rest) = message.split_first()?;
        let len = match key & 7 {
            0 => 1 + rest.iter().take_while(|byte| **byte & 0x80 != 0).count(),
            1 => 8,
            5 => 4,
            _ => {
                let (len, rest) =
                    rest.split_at(1 + rest.iter().take_while(|b| **b & 0x80 != 0).count());
                let len = len.iter().rev().fold(0, |n, byte| n << 7 | usize::from(byte & 0x7f));
                return Some((key >> 3, &rest[..len], &rest[len..]));
            }
        };
        Some((key >> 3, &rest[..len], &rest[len..]))
    }

    fn fields(mut message: &[u8]) -> Vec<(u8, &[u8])> {
        let mut all = Vec::new();
        while let Some((number, content, rest)) = field(message) {
            all.push((number, content));
            message = rest;
        }
        all
    }

    /// All scalars of a run, as (step, tag, value), file by file.
    fn scalars(run: &Path) -> Vec<(u64, String, f32)> {
        let mut found = Vec::new();
        for path in files(run).unwrap() {
            let (all, mut at) = (std::fs::read(&path).unwrap(), 0);
            while let Some((event, end)) = next(&all, at) {
                at = end;
                for (_, summary) in fields(event).into_iter().filter(|(number, _)| *number == 5) {
                    for (_, value) in fields(summary) {
                        let [(1, tag), (2, float)] = fields(value)[..] else { panic!("{value:?}") };
                        let tag = String::from_utf8(tag.to_vec()).unwrap();
                        let float = f32::from_le_bytes(float.try_into().unwrap());
                        found.push((step_of(event), tag, float));
                    }
                }
            }
            assert_eq!(at, all.len(), "a whole file");
        }
        found
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4: 32 bytes of zeros.
        let unmasked = masked_crc(&[0; 32]).wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, 0x8a91_36aa);
    }

    #[test]
    fn scalars_read_back() {
        let run = tempfile::tempdir().unwrap();
        let mut log = EventLog::open(run.path(), 0, "tokens").unwrap();
        log.push(&train(300)).unwrap();
        let held_out = HeldOut {
            step: 300,
            held_out: [("XL".to_owned(), 1.5)].into(),
            sources: vec![[("XL".to_owned(), 1.25)].into()],
        };
        log.push(&MetricsLine::HeldOut(held_out)).unwrap();
        log.flush().unwrap();
        let expected = [
            ("loss/S", 2.5),
            ("learning_rate", 1e-3),
            ("grad_norm", 1.0),
            ("tokens_per_second", 100.0),
            ("held_out/XL", 1.5),
            ("held_out_source_1/XL", 1.25),
        ];
        assert_eq!(scalars(run.path()), expected.map(|(tag, value)| (300, tag.to_owned(), value)));
    }

    #[test]
    fn a_resumed_run_has_each_step_once() {
        let run = tempfile::tempdir().unwrap();
        let mut log = EventLog::open(run.path(), 0, "tokens").unwrap();
        (1..=5).for_each(|step| log.push(&train(step)).unwrap());
        log.flush().unwrap();
        // As a process that is killed while it writes leaves it.
        let torn = &record(b"an event")[..15];
        fs::append(&log.path, torn).unwrap();
        let mut log = EventLog::open(run.path(), 3, "tokens").unwrap();
        (4..=6).for_each(|step| log.push(&train(step)).unwrap());
        log.flush().unwrap();
        assert_eq!(files(run.path()).unwrap().len(), 2);
        let losses = scalars(run.path()).into_iter().filter(|(_, tag, _)| tag == "loss/S");
        assert_eq!(losses.map(|(step, ..)| step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }
}
