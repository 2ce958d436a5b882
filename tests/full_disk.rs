//! A disk that is full at some write: exit code 1, the file and the reason named, the last
//! checkpoint whole, and a resumed run that ends as if nothing had been.
//!
//! The disk is a small file system in memory that only the processes here see. Where the system
//! does not let the tests mount one, they say so and check nothing.

#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::support::{Output, Place};

/// The `train` of these tests, slow enough for the disk to fill between two steps.
const TRAIN: [&str; 6] =
    ["train", "run.toml", "--out", "disk/run", "--set", "train.tokens_per_step=512"];

/// A place whose `disk` is full when a test wants it to be.
struct Disk {
    place: Place,
    /// Holds the file system; ends when its standard input does.
    holder: Child,
    _hold: ChildStdin,
}

impl Disk {
    /// `None`, with a word, where none can be mounted.
    fn new() -> Option<Self> {
        let place = Place::new();
        fs::create_dir(place.path("disk")).unwrap();
        let script = "mount -t tmpfs -o size=16m tmpfs \"$0\" && echo mounted && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(place.path("disk"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| eprintln!("not tested, no `unshare`: {e}"))
            .ok()?;
        let hold = holder.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "mounted\n" {
            let output = Output::of(holder.wait_with_output().unwrap());
            eprintln!("not tested, cannot mount a file system: {}", output.stderr.trim());
            return None;
        }
        let disk = Self { place, holder, _hold: hold };
        let entered = disk.inside(Command::new("true")).status();
        if !entered.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("not tested, cannot enter the mount namespace: {entered:?}");
            return None;
        }
        Some(disk)
    }

    /// A command that sees the disk.
    fn inside(&self, command: Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        if let Some(dir) = command.get_current_dir() {
            entered.arg(format!("--wdns={}", dir.display())).current_dir(dir);
        }
        entered.arg("--").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(name, value),
                None => entered.env_remove(name),
            };
        }
        entered.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        entered
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command.env("MATFORMER_CACHE", "disk/cache");
        self.inside(command)
    }

    fn matformer(&self, arguments: &[&str]) -> Output {
        Output::of(self.command(arguments).output().unwrap())
    }

    /// Where the tests find what those processes see as `disk`.
    fn path(&self, name: &str) -> PathBuf {
        let inside = self.place.path("disk").join(name);
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(inside.strip_prefix("/").unwrap())
    }

    /// Fills the disk up to so many bytes.
    fn fill(&self, left: u64) {
        let mut filler = File::create(self.path("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
        let length = filler.metadata().unwrap().len();
        filler.set_len(length.saturating_sub(left)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }

    /// Steps of the published checkpoints; each loads.
    fn checkpoints(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(self.path("run/checkpoints")) else { return vec![] };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut steps = vec![];
        for name in names.filter(|name| name.starts_with("step-")) {
            self.matformer(&["info", &format!("disk/run/checkpoints/{name}")]).ok();
            steps.push(name["step-".len()..].parse().unwrap());
        }
        steps.sort_unstable();
        steps
    }

    /// Trains, fills the disk up to `left` bytes once `line` is read, and returns what was said at
    /// last.
    fn train_until_full(&self, line: &str, left: impl FnOnce(&Self) -> u64) -> String {
        let mut child = self.command(&TRAIN).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(stderr.any(|l| l.starts_with(line)), "no line `{line}`");
        self.fill(left(self));
        let said = stderr.last().unwrap_or_default();
        let output = Output::of(child.wait_with_output().unwrap());
        assert_eq!(output.code, Some(1), "{said}\n{output}");
        said
    }

    /// With room again, the run goes on and ends with the weights of one that always had it.
    fn ends_as_if_nothing_had_been(&self) {
        self.free();
        self.matformer(&[&TRAIN[..], &["--resume"]].concat()).ok();
        let whole = ["train", "run.toml", "--out", "whole", "--set", TRAIN[5]];
        self.place.matformer(&whole).ok();
        let whole = fs::read(self.place.path("whole/model.safetensors")).unwrap();
        assert!(fs::read(self.path("run/model.safetensors")).unwrap() == whole, "other weights");
    }
}

/// That an error names a file whose path has these two texts, and says why.
fn names(said: &str, before: &str, after: &str) {
    let rest = said.strip_prefix("error: cannot ").and_then(|s| s.split_once(" `"));
    let (path, why) = rest.and_then(|(_, rest)| rest.split_once('`')).unwrap_or_default();
    assert!(path.contains(before) && path.ends_with(after), "{said}");
    assert_eq!(why, ": No space left on device (os error 28)", "{said}");
}

#[test]
fn while_data_are_prepared() {
    let Some(disk) = Disk::new() else { return };
    disk.fill(24 << 10);
    let output = disk.matformer(&TRAIN);
    assert_eq!(output.code, Some(1), "{output}");
    names(output.stderr.lines().last().unwrap(), "disk/cache/", "");
    assert!(!disk.path("run").exists());
    disk.ends_as_if_nothing_had_been();
}

#[test]
fn at_a_line_of_metrics() {
    let Some(disk) = Disk::new() else { return };
    let said = disk.train_until_full("step 1/", |_| 0);
    names(&said, "disk/run/", "metrics.jsonl");
    assert_eq!(disk.checkpoints(), [0; 0]);
    disk.ends_as_if_nothing_had_been();
}

#[test]
fn at_a_checkpoint() {
    let Some(disk) = Disk::new() else { return };
    let said = disk.train_until_full("step 5/", |_| 64 << 10);
    names(&said, "disk/run/checkpoints/", "/model.safetensors");
    assert_eq!(disk.checkpoints(), [4]);
    disk.ends_as_if_nothing_had_been();
}

#[test]
fn at_the_final_model() {
    let Some(disk) = Disk::new() else { return };
    let size = |disk: &Disk| {
        let files = ["", "train"].iter().flat_map(|folder| {
            fs::read_dir(disk.path("run/checkpoints/step-000008").join(folder)).unwrap()
        });
        let pages = |entry: std::io::Result<fs::DirEntry>| {
            entry.unwrap().metadata().unwrap().len().div_ceil(4096) * 4096
        };
        files.map(pages).sum::<u64>()
    };
    // Room for the last checkpoint, and for a part of the model.
    let said = disk.train_until_full("step 9/", |disk| size(disk) + (100 << 10));
    names(&said, "disk/run/", "model.safetensors");
    assert_eq!(disk.checkpoints(), [4, 8, 12]);
    assert!(!disk.path("run/matformer.json").exists());
    disk.ends_as_if_nothing_had_been();
}
