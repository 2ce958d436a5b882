//! The `matformer` binary from end to end: what it prints, writes, refuses and gives back.
//!
//! Snapshots hold what a person reads; `cargo insta review` goes through those that changed.

#[macro_use]
mod support;

mod bad_input;
mod baselines;
mod bench;
mod completions;
mod doctor;
mod elastify;
mod eval;
#[cfg(unix)]
mod fetch;
mod first_day;
mod full_disk;
mod gemma3n;
mod generate;
mod help;
mod image_folders;
mod import;
mod info;
mod init;
mod kills;
mod on_any_device;
mod own_data;
mod ranks;
mod report;
mod resume;
mod retrieve;
mod runs;
mod scaling;
mod score;
mod search;
mod serve;
mod slice;
mod tables;
mod tasks;
mod terminal;
mod train;
mod train_options;
mod vision;
