//! Arguments of the commands that need no model.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use matformer::run_file::RunKind;

use super::values::{at_least_one, kind, whole};

#[derive(Debug, ClapArgs)]
pub struct InitArgs {
    /// Run file to write (`.toml`), or the folder to write it to [default: named after the data]
    #[arg(value_name = "FILE|DIR")]
    pub target: Option<PathBuf>,
    /// Text files and folders (combined), or a folder of images; also `hf:owner/name` and `fetch:NAME`
    #[arg(long, required = true, num_args = 1.., value_name = "DATA")]
    pub data: Vec<String>,
    /// Kind of data [default: detected from the files]
    #[arg(long, value_parser = kind())]
    pub kind: Option<RunKind>,
    /// Model preset [default: chosen to suit the data]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, ClapArgs)]
pub struct KeysArgs {
    /// List only keys whose name contains this, such as `train` or `eval` [default: all]
    pub key: Option<String>,
    /// Only the keys of runs on this kind of data
    #[arg(long, value_parser = kind())]
    pub kind: Option<RunKind>,
}

#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Folder to look in
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Maximum folder depth
    #[arg(long, default_value_t = 5, value_name = "N")]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub depth: usize,
}

#[derive(Debug, ClapArgs)]
pub struct CompareArgs {
    /// Run or model folders
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct ScalingArgs {
    /// Run folders of language models that `report` has evaluated; baselines in these folders are fitted separately
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Number of bootstrap samples for the intervals
    #[arg(long, default_value_t = 1000, value_name = "N")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub resamples: usize,
    /// Random seed for the bootstrap samples
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub seed: u64,
}

#[derive(Debug, ClapArgs)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, ClapArgs)]
pub struct ManArgs {
    /// Write one page per command into this folder [default: print the main page on standard output]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
