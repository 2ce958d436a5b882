//! Input that cannot be worked with: exit code 2, a message that says what to do, nothing on
//! standard output, nothing written.

mod data;
mod folders;
mod logs;
mod model;
mod options;
mod output;
mod run_file;
mod submodel;

use crate::support::Place;

/// The least that a run file needs.
const FILE: &str = "[data]\npaths = [\"text\"]\n";

/// What `train` says of a run file that it refuses.
fn train(file: &str, sets: &[&str]) -> String {
    let place = Place::trained();
    place.write("bad.toml", file);
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> =
        ["train", "bad.toml", "--out", "out"].into_iter().chain(sets).collect();
    place.refused(&arguments)
}
