//! Runs that are killed at any moment: no more than one checkpoint interval is lost, nothing that
//! is left is unreadable, and the end is that of a run that was never disturbed.

#![cfg(unix)]

use std::{
    io::{BufRead, BufReader},
    process::Child,
    time::{Duration, Instant},
};

use crate::support::{Output, Place};

/// Steps between two checkpoints.
const INTERVAL: u64 = 4;

#[test]
fn sampled() {
    killed("sampled", 7);
}

#[test]
fn joint() {
    killed("joint", 7);
}

#[test]
fn sandwich() {
    killed("sandwich", 6);
}

/// Starts and kills runs until `kills` have been killed, then lets the last one end.
fn killed(draw: &str, kills: usize) {
    let place = Place::new();
    let train = |out: &str| {
        let draw = format!("train.draw={draw}");
        let sets = [&draw, "train.steps=36", "train.eval_every=12", "train.keep=2"];
        let sets = sets.into_iter().flat_map(|set| ["--set", set]);
        let arguments = ["train", "run.toml", "--resume", "--out", out].into_iter().chain(sets);
        place.command(&arguments.collect::<Vec<_>>()).spawn().unwrap()
    };
    let mut random = Random::keyed(draw);
    let (mut run, mut done) = ("parts-0".to_owned(), 0);
    let mut finished = Vec::new();
    while done < kills {
        match kill(train(&run), &mut random) {
            Some(said) => {
                check(&place, &run, said);
                done += 1;
            }
            // It was quicker.
            None => {
                finished.push(run);
                run = format!("parts-{}", finished.len());
            }
        }
    }
    finished.push(run);
    let last = train(finished.last().unwrap()).wait_with_output().unwrap();
    Output::of(last).ok();
    Output::of(train("whole").wait_with_output().unwrap()).ok();
    let weights =
        |run: &str| std::fs::read(place.path(format!("{run}/model.safetensors"))).unwrap();
    for run in &finished {
        let files = place.list(run);
        assert!(!files.contains(".tmp-"), "{run}: what kills left is removed: {files}");
        assert!(weights(run) == weights("whole"), "{draw}, {run}: other weights than undisturbed");
    }
}

/// Kills a run at some moment: in its first tenths of a second, or around some step of the next
/// interval and a half. Returns the last step that it said it had made (0 if none), or `None` if it
/// ended before.
fn kill(mut child: Child, random: &mut Random) -> Option<u64> {
    let started = Instant::now();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = 0;
    match random.below(4) {
        0 => {
            let moment = Duration::from_millis(random.below(250));
            std::thread::sleep(moment.saturating_sub(started.elapsed()));
        }
        _ => {
            let steps = random.below(INTERVAL + INTERVAL / 2);
            said = lines.by_ref().filter_map(|line| step(&line)).nth(steps as usize).unwrap_or(0);
            std::thread::sleep(Duration::from_micros(random.below(30_000)));
        }
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let last = lines.filter_map(|line| step(&line)).last();
    (!status.success()).then_some(last.unwrap_or(said))
}

/// The number in `step 5/36  loss …`: a step that was made.
fn step(line: &str) -> Option<u64> {
    line.strip_prefix("step ")?.split_once('/')?.0.parse().ok()
}

/// What a killed run left, when it had said that it made `said` steps.
fn check(place: &Place, run: &str, said: u64) {
    let mut folders = vec![];
    let checkpoints = place.path(format!("{run}/checkpoints"));
    for entry in std::fs::read_dir(checkpoints).into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("step-") {
            folders.push(format!("{run}/checkpoints/{name}"));
        }
    }
    let latest = folders.iter().filter_map(|f| f.rsplit('-').next()?.parse::<u64>().ok()).max();
    assert!(latest.unwrap_or(0) + INTERVAL >= said, "{run}: {said} steps, {folders:?}");
    if place.path(format!("{run}/matformer.json")).exists() {
        folders.push(run.to_owned());
    }
    for folder in folders {
        place.matformer(&["info", &folder]).ok();
    }
}

/// The same numbers in every run of the tests.
struct Random(u64);

impl Random {
    fn keyed(key: &str) -> Self {
        Self(key.bytes().fold(7, |state, byte| state * 31 + u64::from(byte)))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % n
    }
}
