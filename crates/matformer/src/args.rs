//! Arguments as typed.

mod examples;
mod serve;
mod started;
mod values;
mod version;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
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
pub use self::started::{CompareArgs, CompletionsArgs, InitArgs, KeysArgs, ListArgs, ManArgs};
use self::values::{
    at_least_one, at_least_two, below_one, bias, byte_size, draft_len, penalty, positive,
    probability, share, temperature, up_to_4096, whole,
};
pub use self::version::commit;

/// Heading of the options that every command has.
const GLOBAL: &str = "Global options";

/// Train one elastic transformer, cut out hundreds.
#[derive(Debug, Parser)]
#[command(name = "matformer", version, long_version = version::long(), about, max_term_width = 100)]
#[command(after_help = examples::PROGRAM)]
pub struct Args {
    /// Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default: MATFORMER_DEVICE, or auto]
    #[arg(long, global = true, value_name = "DEVICE", help_heading = GLOBAL)]
    pub device: Option<DeviceSpec>,
    /// One JSON document on standard output, everything else on standard error
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Only errors on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    pub quiet: bool,
    /// More on standard error: `-v` what is done, `-vv` with details
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a run file for data of your own, with a comment to each key
    #[command(after_help = examples::INIT)]
    Init(InitArgs),
    /// List the keys of run files: types, defaults and what they do
    #[command(after_help = examples::KEYS)]
    Keys(KeysArgs),
    /// Train the model that a run file describes
    #[command(after_help = examples::TRAIN)]
    Train(TrainArgs),
    /// Make a pretrained model elastic: order its neurons by importance, then train every size
    #[command(after_help = examples::ELASTIFY)]
    Elastify(ElastifyArgs),
    /// Train every granularity of a run alone, and show them beside the elastic sizes
    #[command(after_help = examples::BASELINES)]
    Baselines(BaselinesArgs),
    /// Held-out loss or accuracy of any submodels, with standard errors
    #[command(after_help = examples::EVAL)]
    Eval(EvalArgs),
    /// Log-probabilities of a text, token by token
    #[command(after_help = examples::SCORE)]
    Score(ScoreArgs),
    /// Generate text from a prompt
    #[command(after_help = examples::GENERATE)]
    Generate(GenerateArgs),
    /// Serve a language model over HTTP, as OpenAI does; each request picks its size
    #[command(after_help = examples::SERVE)]
    Serve(ServeArgs),
    /// Shapes and costs of a model, or of a preset
    #[command(after_help = examples::INFO)]
    Info(InfoArgs),
    /// List the runs and models below a folder
    #[command(after_help = examples::LIST)]
    List(ListArgs),
    /// Show runs side by side: settings that differ, and what is recorded of each
    #[command(after_help = examples::COMPARE)]
    Compare(CompareArgs),
    /// Cut a submodel out into a folder of its own
    #[command(after_help = examples::SLICE)]
    Slice(SliceArgs),
    /// Make a model folder of another program's language model or vision transformer
    #[command(after_help = examples::IMPORT)]
    Import(ImportArgs),
    /// Write embeddings of images, for an index of your own
    #[command(after_help = examples::EMBED)]
    Embed(EmbedArgs),
    /// Search the training images for held-out ones: one gallery, queries of any size
    #[command(after_help = examples::RETRIEVE)]
    Retrieve(RetrieveArgs),
    /// Find the submodel for a budget, by several methods
    #[command(after_help = examples::SEARCH)]
    Search(SearchArgs),
    /// Measure the whole accuracy-cost curve and write it on one HTML page
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
    /// Measure how long a model takes on this device
    #[command(after_help = examples::BENCH)]
    Bench(BenchArgs),
    /// Check that this device computes what the CPU does, and measure how fast it is
    #[command(after_help = examples::DOCTOR)]
    Doctor(DoctorArgs),
    /// Bring a named source of text, images or a model into the cache, or list them
    #[command(after_help = examples::FETCH)]
    Fetch(FetchArgs),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands
    #[command(after_help = examples::MAN)]
    Man(ManArgs),
}

#[derive(Debug, ClapArgs)]
pub struct TrainArgs {
    /// Run file (TOML), or the folder of a run to resume
    #[arg(value_name = "CONFIG|RUN")]
    pub config: Option<PathBuf>,
    /// In place of CONFIG: text files and folders, or a folder of images, to train on with the settings that
    /// `matformer init` would write
    #[arg(long, num_args = 1.., value_name = "DATA")]
    pub data: Vec<String>,
    /// With --data: the named shape of the model [default: one that fits the data]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Override a key of the run file, such as `train.steps=100`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Run folder [default: runs/<name of the run file, or of the data>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Start from the weights of a model folder: what `train.init` sets
    #[arg(long, value_name = "DIR")]
    pub init: Option<String>,
    /// Continue from the last checkpoint of the run folder
    #[arg(long)]
    pub resume: bool,
    /// Print what the run would cost; nothing is written, downloaded or tokenised
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
}

#[derive(Debug, ClapArgs)]
pub struct ElastifyArgs {
    /// Model folder: what `import` or `train` wrote
    pub model: PathBuf,
    /// Text files and folders, or a folder of images; several are joined. Or a run file or run folder:
    /// its `[data]` and `[train]` are used
    #[arg(long, required = true, num_args = 1.., value_name = "DATA")]
    pub data: Vec<String>,
    /// Run folder to write
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Order the neurons of each layer by `activation`, `rms`, `contribution`, `rms-contribution` or
    /// `weights`
    #[arg(long, default_value_t, value_name = "SCORE", help_heading = "Ordering")]
    pub order: Importance,
    /// Training rows, or images, that the score is measured on
    #[arg(long, default_value_t = 512, value_name = "N", help_heading = "Ordering")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub calibration_rows: usize,
    /// Tokens of each of these rows [default: 512, or the model's context]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true, help_heading = "Ordering")]
    pub calibration_tokens: Option<usize>,
    /// Order the neurons and measure, but do not train
    #[arg(long, help_heading = "Ordering")]
    pub order_only: bool,
    /// Held-out tokens, or images, that each size is measured on before ordering, after ordering and
    /// after training
    #[arg(long, default_value_t = 32_768, value_name = "N", help_heading = "Measuring")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub tokens: usize,
    /// Override a key of the run file, such as `train.steps=100`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Continue a run that was interrupted
    #[arg(long)]
    pub resume: bool,
    /// Print what the run would do and cost (with --order-only, what the ordering would read); nothing is written,
    /// downloaded or tokenised
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
}

#[derive(Debug, ClapArgs)]
pub struct BaselinesArgs {
    /// Run folder
    pub run: PathBuf,
    /// How much each baseline sees
    #[arg(long, value_enum, default_value_t = Budget::PerWidth)]
    pub budget: Budget,
}

/// How much data a baseline sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Budget {
    /// As many steps as the elastic run gave to a width in the mean: a quarter of them if it drew one
    /// of four widths in each step
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
    /// Submodels, separated by commas: `S`, `60%`, `64x1+128x4`, … [default: every granularity]
    #[arg(long, value_name = "LIST")]
    pub submodels: Option<String>,
    /// Submodel that the others are compared with [default: the largest]
    #[arg(long, value_name = "SUBMODEL")]
    pub paired_to: Option<SubmodelSpec>,
    /// Run file or run folder whose `[data]` to measure on [default: the model's own run]
    #[arg(long, value_name = "CONFIG|RUN")]
    pub data: Option<PathBuf>,
    /// Held-out tokens, of many documents [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub tokens: Option<usize>,
    /// Predict each token from at most N tokens before it [default: the length of the run's training
    /// rows, or the model's context]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub context: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct ScoreArgs {
    /// Model folder
    pub model: PathBuf,
    /// Submodel: `S`, `60%`, `64x1+128x4`, … [default: the largest]
    #[arg(long, value_name = "SUBMODEL")]
    pub submodel: Option<SubmodelSpec>,
    /// The text [default: standard input]
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
    /// Prompts as JSON Lines, one {"prompt": "..."} per line (`-`: standard input); other keys override the
    /// options for their line. Prints one line of JSON per prompt, in order
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Number of --prompts that are generated at the same time
    #[arg(long, default_value_t = 8, value_name = "N", requires = "prompts")]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub slots: usize,
    /// Narrower submodel that proposes tokens, of which --submodel keeps those that it would have chosen
    /// (speculative decoding); `auto`: whichever trained size is fastest. Faster if most are kept. Without
    /// --temperature the text stays the same
    #[arg(long, value_name = "SUBMODEL|auto", help_heading = "Speculative decoding")]
    pub draft: Option<engine::DraftSpec>,
    /// Number of tokens to propose at a time, 1 to 15 [default: chosen while generating, from measured
    /// speed; 0 where drafting does not pay]
    #[arg(long, value_name = "N", requires = "draft", help_heading = "Speculative decoding")]
    #[arg(value_parser = draft_len, allow_negative_numbers = true)]
    pub draft_len: Option<usize>,
    /// Stop proposing before a token whose most likely value has a lower probability than this
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "P",
        requires = "draft",
        help_heading = "Speculative decoding"
    )]
    #[arg(value_parser = below_one, allow_negative_numbers = true)]
    pub draft_min_p: f64,
    /// Which size takes each token: `fixed`: always --submodel. `escalate=SUBMODEL[,NATS]`: a wider one decides
    /// where the entropy of the next token is above NATS [2]. `phases=SUBMODEL`: another one reads the prompt
    #[arg(long, value_name = "POLICY", default_value = "fixed")]
    pub policy: engine::PolicySpec,
    /// Format that weights are held in: `f32`, or on the CPU `bf16` or `q8_0`, which are faster and nearly as
    /// accurate [default: bf16 on the CPU, else f32]
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<engine::Format>,
    /// Maximum number of new tokens; generation also ends when the context is full
    #[arg(long, default_value_t = 64, value_name = "N")]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub max_tokens: usize,
    /// String that ends the text, and is not part of it; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// With --json or --prompts, also print the log-probability of each token, and the N most likely tokens
    /// with theirs
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub logprobs: Option<usize>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// How tokens are chosen.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Divides logits before a token is sampled; 0: always the most likely token
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    #[arg(value_parser = temperature, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Sample among the K most likely tokens only; 0: among all
    #[arg(long, default_value_t = 0, value_name = "K")]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub top_k: usize,
    /// Sample among the most likely tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    #[arg(value_parser = probability, allow_negative_numbers = true)]
    pub top_p: f64,
    /// Sample among tokens that have at least this share of the probability of the most likely one
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    #[arg(value_parser = share, allow_negative_numbers = true)]
    pub min_p: f64,
    /// Divide positive logits of tokens in the prompt or the text by this, and multiply negative ones; 1: off
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    #[arg(value_parser = positive, allow_negative_numbers = true)]
    pub repetition_penalty: f64,
    /// Subtract this from the logit of a token for each time that it was generated, -2 to 2
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
    /// Random seed of the sampling
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub seed: u64,
}

#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["model", "preset"]))]
pub struct InfoArgs {
    /// Model folder
    pub model: Option<PathBuf>,
    /// A preset's costs; without a name, the paper's model table beside ours
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub preset: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct SliceArgs {
    /// Model folder, or one of Gemma 3n
    pub model: PathBuf,
    /// Submodel: `S`, `60%`, `128`, `64x1+128x4`, … (of Gemma 3n: --widths, or --config and --row)
    #[arg(long, value_name = "SUBMODEL")]
    pub submodel: Option<SubmodelSpec>,
    /// Folder to write, or file for GGUF; it must not exist
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Hf)]
    pub format: Format,
    /// Pad narrower layers with zeros to the widest: for programs that need equal widths
    #[arg(long)]
    pub pad: bool,
    /// How weights are stored [default: as in the model]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub dtype: Option<SliceDtype>,
    /// Size above which the weights of a folder are written as several files, such as `500MB`
    /// [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = byte_size)]
    pub shard_size: Option<u64>,
    #[command(flatten)]
    pub gemma3n: Gemma3nArgs,
}

/// What to keep of a Gemma 3n model.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Gemma 3n")]
pub struct Gemma3nArgs {
    /// Feed-forward width of each layer that is kept, `8192x20+16384x10`, or of all, `8192`
    #[arg(long, value_name = "WIDTHS", conflicts_with_all = ["submodel", "config", "row", "format", "pad", "dtype"])]
    pub widths: Option<Gemma3nWidths>,
    /// Layers to leave out, counted from 0
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', value_parser = whole::<usize>)]
    #[arg(requires = "widths")]
    pub skip_layers: Option<Vec<usize>>,
    /// Table of slices in CSV, `google/gemma3n-slicing-configs` or that of mistral.rs
    #[arg(long, value_name = "FILE", requires = "row")]
    #[arg(conflicts_with_all = ["submodel", "format", "pad", "dtype"])]
    pub config: Option<PathBuf>,
    /// Name of a slice in it
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
    /// 8 bits in blocks of 32, of GGUF
    #[value(name = "q8_0")]
    Q8_0,
}

/// Format of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A model folder, in the form of Hugging Face
    Hf,
    /// A GGUF file of a language model, for llama.cpp
    Gguf,
    /// A folder in the form of timm, of a vision model
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
    /// Folder of `config.json` and safetensors (a language model of transformers, or a vision
    /// transformer of transformers or timm), GGUF file, or a named source such as `fetch:smollm2`
    #[arg(value_name = "DIR|FILE.gguf")]
    pub source: PathBuf,
    /// Folder to write; it must not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Feed-forward widths that get names, ascending, the last the model's own [default: for
    /// a language model 1/4, 1/2, 3/4 and all of it, rounded to multiples of 256 or 32; for a vision
    /// model 1/8, 1/4, 1/2 and all of it]
    #[arg(long, value_name = "W1,W2,…", value_delimiter = ',', value_parser = at_least_one)]
    pub granularities: Option<Vec<usize>>,
    /// Size above which a language model's weights are written as several files, such as `500MB`
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
    /// File to write; it must not exist: `.npy`, with the names and labels in a `.json` beside it, or
    /// `.safetensors`
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Run file or run folder whose images to embed [default: the model's own run]
    #[arg(long, value_name = "CONFIG|RUN")]
    pub data: Option<PathBuf>,
    /// Part of the images
    #[arg(long, value_enum, default_value_t = Part::HeldOut)]
    pub part: Part,
    /// Number of images, spread evenly [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub images: Option<usize>,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What is trained on
    Train,
    /// What is not
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
    /// Search also a gallery that the query's own encoder embedded
    #[arg(long)]
    pub symmetric: bool,
    /// Search the held-out images of the first folder for those of the others (`data.also`): images of
    /// the same name match
    #[arg(long, conflicts_with_all = ["images", "gallery_images"])]
    pub across: bool,
    /// Run file or run folder whose images to search [default: the model's own run]
    #[arg(long, value_name = "CONFIG|RUN")]
    pub data: Option<PathBuf>,
    /// Queries, spread evenly over the held-out images [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub images: Option<usize>,
    /// Gallery images, spread evenly over the training images [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub gallery_images: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct SearchArgs {
    /// Model folder
    pub model: PathBuf,
    /// What the submodel may cost: `60%`, `60%flops`, `1.2M`, `8ms`; may be repeated: all hold at once
    #[arg(long = "budget", value_name = "BUDGET", required = true, allow_hyphen_values = true)]
    pub budgets: Vec<core::Budget>,
    /// Ways to search, separated by commas: `mix`, `exact`, `exact-surrogate`, `predictor`,
    /// `non-decreasing`, `random`, `evolution`, `exhaustive` [default: these, exhaustive where there are
    /// at most 1,024 submodels]; for comparison the largest of other families: `decreasing`, `up-down`,
    /// `down-up`, `extremes`
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub method: Option<Vec<Method>>,
    /// Submodels that a method may try, where it has a choice
    #[arg(long, default_value_t = 200, value_name = "N")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub evaluations: usize,
    /// Random seed of the search
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub seed: u64,
    /// Run file or run folder whose `[data]` to measure on [default: the model's own run]
    #[arg(long, value_name = "CONFIG|RUN", help_heading = "Held-out data")]
    pub data: Option<PathBuf>,
    /// Held-out tokens, or images, of each half: the one's choose, the other's judge [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true, help_heading = "Held-out data")]
    pub tokens: Option<usize>,
    /// Another number for the half that judges: only what was found is measured on it
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true, help_heading = "Held-out data")]
    pub judge_tokens: Option<usize>,
    /// With --json: also the losses of each document that judged, for comparisons with other models
    #[arg(long, help_heading = "Held-out data")]
    pub per_document: bool,
    /// Output of another search with --json --per-document: also print how far each winner is above what
    /// `mix` found there, paired by document
    #[arg(long, value_name = "FILE", help_heading = "Held-out data")]
    pub paired_to: Option<PathBuf>,
    /// Megabytes for the hidden states of one sweep of submodels
    #[arg(long, default_value_t = 256, value_name = "MB")]
    #[arg(value_parser = at_least_one, allow_negative_numbers = true)]
    pub memory: usize,
}

#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    /// Time each thing for a fifth of a second, and leave the medium model out
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
    /// Every layer at every width: what `8ms` as a budget means from then on
    #[command(after_help = examples::BENCH_LAYERS)]
    Layers(LayersArgs),
    /// Generation: tokens per second of every trained size, in every format, for one and for several texts
    #[command(after_help = examples::BENCH_DECODE)]
    Decode(DecodeArgs),
}

#[derive(Debug, ClapArgs)]
pub struct DecodeArgs {
    /// Model folder
    pub model: PathBuf,
    /// Size to measure; may be repeated [default: every trained size]
    #[arg(long = "submodel", value_name = "SUBMODEL")]
    pub submodels: Vec<SubmodelSpec>,
    /// Formats to hold the weights in, separated by commas [default: all that the device has]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub dtype: Vec<engine::Format>,
    /// Numbers of texts to generate at the same time, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16], value_name = "LIST")]
    #[arg(value_parser = up_to_4096)]
    pub batch: Vec<usize>,
    /// New tokens of each text, 2 or more: the first comes with its prompt
    #[arg(long, default_value_t = 64, value_name = "N")]
    #[arg(value_parser = at_least_two, allow_negative_numbers = true)]
    pub tokens: usize,
    /// Tokens of the prompt whose reading is timed [default: 512, or half the context]
    #[arg(long, value_name = "N", value_parser = up_to_4096, allow_negative_numbers = true)]
    pub prefill: Option<usize>,
    /// Text file, or JSON Lines with a {"prompt": "..."} per line: measure the loss of each format on it, and
    /// speculative decoding of continuations of its parts in the first format; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Speculative decoding and loss")]
    pub text: Vec<PathBuf>,
    /// Number of prompts that speculative decoding is measured on
    #[arg(
        long,
        default_value_t = 8,
        value_name = "N",
        requires = "text",
        help_heading = "Speculative decoding and loss"
    )]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub prompts: usize,
    /// Number of rounds; medians are printed
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
    /// Times that everything is measured, in turn; medians count
    #[arg(long, default_value_t = 31, value_name = "N")]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub rounds: usize,
    /// Rows of a training step's batch
    #[arg(long, default_value_t = 8, value_name = "N")]
    #[arg(value_parser = up_to_4096, allow_negative_numbers = true)]
    pub rows: usize,
}

#[derive(Debug, ClapArgs)]
pub struct ReportArgs {
    /// Run folder; several are laid over each other on one page, compared with the first
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Page to write [default: report/index.html in the first run]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Held-out tokens, of many documents [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub tokens: Option<usize>,
    /// Predict each token from at most N tokens before it [default: the length of the run's training
    /// rows]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub context: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct FetchArgs {
    /// Source to fetch [default: list them]
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
