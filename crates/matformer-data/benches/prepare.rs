//! How fast rows are prepared, and in how much memory:
//! `cargo bench -p matformer-data --bench prepare -- 400 1600`, in megabytes of rows.
//!
//! The rows are generated: words of a vocabulary of 40,000 that is used as unevenly as a language's, 20 to
//! 400 in a row. The tokenizer is trained, with 2,048 tokens. Each size runs in a process of its own, so
//! that the peak of its memory is known.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use matformer_data::{DataConfig, prepare};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [child, path] = &arguments[..]
        && child == "--prepare"
    {
        return measure(Path::new(path));
    }
    let sizes: Vec<u64> = match arguments.is_empty() {
        true => vec![100, 400],
        false => arguments.iter().map(|size| size.parse()).collect::<Result<_, _>>()?,
    };
    for size in sizes {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("rows.jsonl");
        generate(&path, size * 1_000_000)?;
        let child = Command::new(std::env::current_exe()?).arg("--prepare").arg(&path).status()?;
        if !child.success() {
            return Err(format!("preparing {size} MB: {child}").into());
        }
    }
    Ok(())
}

/// Prepares a file and prints what that took.
fn measure(path: &Path) -> Result<(), Failure> {
    let config = DataConfig { paths: vec![path.into()], ..DataConfig::default() };
    let cache = path.with_file_name("cache");
    let start = Instant::now();
    let prepared = prepare(&config, &cache, &mut |_| {})?;
    let first = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let again = prepare(&config, &cache, &mut |_| {})?;
    let second = start.elapsed().as_secs_f64();
    assert!(again.reused && again.data_hash() == prepared.data_hash());
    let megabytes = std::fs::metadata(path)?.len() as f64 / 1e6;
    let documents = prepared.summary.train.documents + prepared.summary.held_out.documents;
    println!(
        "{megabytes:.0} MB in {documents} rows: {first:.1} s, {:.1} MB/s, peak memory {}; again {:.3} s; data {}",
        megabytes / first,
        peak().unwrap_or_else(|| "unknown".into()),
        second,
        prepared.data_hash().short(),
    );
    Ok(())
}

/// The most memory that this process has had, where the system says it.
fn peak() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(format!("{} MB", kilobytes / 1024))
}

/// Writes rows until there are `bytes` of them.
fn generate(path: &Path, bytes: u64) -> Result<(), Failure> {
    let mut random = Random(5);
    let syllables =
        ["ba", "ce", "di", "fo", "gu", "ha", "ker", "lin", "mou", "nai", "pa", "stou", "tri"];
    let word = |random: &mut Random| -> String {
        let length = 1 + random.below(4);
        (0..length).map(|_| syllables[random.below(syllables.len())]).collect()
    };
    let words: Vec<String> = (0..40_000).map(|_| word(&mut random)).collect();
    let mut out = BufWriter::new(File::create(path)?);
    let (mut written, mut row) = (0, String::new());
    while written < bytes {
        row.clear();
        row.push_str("{\"text\": \"");
        for _ in 0..20 + random.below(380) {
            // The rank of a word is drawn as evenly in its logarithm as Zipf's law has it.
            let rank = (words.len() as f64).powf(random.unit()) as usize - 1;
            row.push_str(&words[rank.min(words.len() - 1)]);
            row.push(' ');
        }
        row.push_str(&format!("{}.\"}}\n", random.below(1_000_000_000)));
        out.write_all(row.as_bytes())?;
        written += row.len() as u64;
    }
    Ok(out.flush()?)
}

/// SplitMix64: the same rows everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
