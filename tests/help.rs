//! `--help`: the reference that everybody has.

use crate::support::Place;

fn help(arguments: &[&str]) -> String {
    let text = Place::new().matformer(arguments).ok().stdout;
    // A line between paragraphs may hold blanks.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn program() {
    snapshot!(help(&["--help"]), @"
    Train one elastic transformer, cut out hundreds.

    Usage: matformer [OPTIONS] <COMMAND>

    Commands:
      init         Write a run file for data of your own, with a comment to each key
      train        Train the model that a run file describes
      elastify     Make a pretrained model elastic: order its neurons by importance, then train every
                   size
      baselines    Train every granularity of a run alone, and show them beside the elastic sizes
      eval         Held-out loss or accuracy of any submodels, with standard errors
      score        Log-probabilities of a text, token by token
      generate     Generate text from a prompt
      info         Shapes and costs of a model, or of a preset
      list         List the runs and models below a folder
      compare      Show runs side by side: settings that differ, and what is recorded of each
      slice        Cut a submodel out into a folder of its own
      import       Make a model folder of another program's language model or vision transformer
      embed        Write embeddings of images, for an index of your own
      retrieve     Search the training images for held-out ones: one gallery, queries of any size
      search       Find the submodel for a budget, by several methods
      report       Measure the whole accuracy-cost curve and write it on one HTML page
      bench        Measure how long a model takes on this device
      doctor       Check that this device computes what the CPU does, and measure how fast it is
      fetch        Bring a named source of text, images or a model into the cache, or list them
      completions  Print a completion script for a shell
      man          Print the manual page, or write those of all commands
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Environment variables:
      MATFORMER_DEVICE   Device, where --device is not given
      MATFORMER_CACHE    Folder for prepared and fetched data [default: runs/.data]
      MATFORMER_SOURCES  Table of the sources that `fetch` knows [default: built in]
      MATFORMER_LOG      Levels of the log: `debug`, `warn,matformer_data=debug`
      RAYON_NUM_THREADS  Number of CPU threads [default: all]
      HF_TOKEN           Token for private and gated repositories of the Hugging Face Hub
      HF_HOME            Folder of the Hub's files, in `hub` below it [default: ~/.cache/huggingface]
      HF_HUB_CACHE       The same folder, named itself
      HF_HUB_OFFLINE     `1`: read only files of the Hub that are in its cache
      HF_ENDPOINT        Address of the Hub, for mirrors

    Examples:
      matformer init --data my.jsonl
      matformer train my.toml
      matformer report runs/my
      matformer slice runs/my --submodel S --out slim
    ");
}

#[test]
fn version() {
    let short = concat!("matformer ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(help(&["-V"]), short);
    let long = help(&["--version"]);
    let lines: Vec<&str> = long.strip_prefix(short).unwrap().lines().collect();
    // Outside a checkout there is no commit.
    let [.., backends] = lines[..] else { panic!("{long}") };
    assert!(backends.starts_with("backends: flex (CPU)"), "{long}");
    for commit in &lines[..lines.len() - 1] {
        let commit = commit.strip_prefix("commit ").unwrap().trim_end_matches(" (modified)");
        assert!(commit.len() == 10 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{long}");
    }
}

#[test]
fn train() {
    snapshot!(help(&["train", "--help"]), @"
    Train the model that a run file describes

    Usage: matformer train [OPTIONS] [CONFIG|RUN]

    Arguments:
      [CONFIG|RUN]  Run file (TOML), or the folder of a run to resume

    Options:
          --data <DATA>...   In place of CONFIG: text files and folders, or a folder of images, to train
                             on with the settings that `matformer init` would write
          --preset <NAME>    With --data: the named shape of the model [default: one that fits the data]
          --set <KEY=VALUE>  Override a key of the run file, such as `train.steps=100`; may be repeated
          --out <DIR>        Run folder [default: runs/<name of the run file, or of the data>]
          --init <DIR>       Start from the weights of a model folder: what `train.init` sets
          --resume           Continue from the last checkpoint of the run folder
          --dry-run          Print what the run would cost; nothing is written, downloaded or tokenised
      -h, --help             Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer train my.toml --dry-run
      matformer train my.toml --out runs/longer --set train.steps=4000
      matformer train --data my.jsonl --preset small
      matformer train runs/longer --resume
    ");
}

#[test]
fn eval() {
    snapshot!(help(&["eval", "--help"]), @"
    Held-out loss or accuracy of any submodels, with standard errors

    Usage: matformer eval [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --submodels <LIST>      Submodels, separated by commas: `S`, `60%`, `64x1+128x4`, … [default:
                                  every granularity]
          --paired-to <SUBMODEL>  Submodel that the others are compared with [default: the largest]
          --data <CONFIG|RUN>     Run file or run folder whose `[data]` to measure on [default: the
                                  model's own run]
          --tokens <N>            Held-out tokens, of many documents [default: all]
          --context <N>           Predict each token from at most N tokens before it [default: the
                                  length of the run's training rows, or the model's context]
      -h, --help                  Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer eval runs/demo
      matformer eval runs/demo --submodels S,M,L,XL,60% --tokens 100000
      matformer eval slim --data runs/demo --json
    ");
}

#[test]
fn score() {
    snapshot!(help(&["score", "--help"]), @"
    Log-probabilities of a text, token by token

    Usage: matformer score [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --submodel <SUBMODEL>  Submodel: `S`, `60%`, `64x1+128x4`, … [default: the largest]
          --text <TEXT>          The text [default: standard input]
      -h, --help                 Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer score runs/demo --text 'fn main() {}'
      matformer score runs/demo --submodel S < main.rs
    ");
}

#[test]
fn generate() {
    snapshot!(help(&["generate", "--help"]), @r#"
    Generate text from a prompt

    Usage: matformer generate [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --submodel <SUBMODEL>  Submodel: `S`, `60%`, `64x1+128x4`, … [default: the largest]
          --prompt <TEXT>        Text to continue [default: standard input]
          --prompts <FILE>       Prompts as JSON Lines, one {"prompt": "..."} per line (`-`: standard
                                 input); other keys override the options for their line. Prints one line
                                 of JSON per prompt, in order
          --slots <N>            Number of --prompts that are generated at the same time [default: 8]
          --policy <POLICY>      Which size takes each token: `fixed`: always --submodel.
                                 `escalate=SUBMODEL[,NATS]`: a wider one decides where the entropy of
                                 the next token is above NATS [2]. `phases=SUBMODEL`: another one reads
                                 the prompt [default: fixed]
          --dtype <FORMAT>       Format that weights are held in: `f32`, or on the CPU `bf16` or `q8_0`,
                                 which are faster and nearly as accurate [default: bf16 on the CPU, else
                                 f32]
          --max-tokens <N>       Maximum number of new tokens; generation also ends when the context is
                                 full [default: 64]
          --stop <TEXT>          String that ends the text, and is not part of it; may be repeated
          --logprobs <N>         With --json or --prompts, also print the log-probability of each token,
                                 and the N most likely tokens with theirs
      -h, --help                 Print help

    Speculative decoding:
          --draft <SUBMODEL|auto>  Narrower submodel that proposes tokens, of which --submodel keeps
                                   those that it would have chosen (speculative decoding); `auto`:
                                   whichever trained size is fastest. Faster if most are kept. Without
                                   --temperature the text stays the same
          --draft-len <N>          Number of tokens to propose at a time, 1 to 15 [default: chosen while
                                   generating, from measured speed; 0 where drafting does not pay]
          --draft-min-p <P>        Stop proposing before a token whose most likely value has a lower
                                   probability than this [default: 0]

    Sampling:
          --temperature <T>         Divides logits before a token is sampled; 0: always the most likely
                                    token [default: 0]
          --top-k <K>               Sample among the K most likely tokens only; 0: among all [default:
                                    0]
          --top-p <P>               Sample among the most likely tokens that together have this
                                    probability [default: 1]
          --min-p <P>               Sample among tokens that have at least this share of the probability
                                    of the most likely one [default: 0]
          --repetition-penalty <R>  Divide positive logits of tokens in the prompt or the text by this,
                                    and multiply negative ones; 1: off [default: 1]
          --frequency-penalty <X>   Subtract this from the logit of a token for each time that it was
                                    generated, -2 to 2 [default: 0]
          --presence-penalty <X>    Subtract this from the logit of every token that was generated, -2
                                    to 2 [default: 0]
          --logit-bias <TOKEN=X>    Add a number to the logit of a token, such as 1234=-5; may be
                                    repeated
          --seed <SEED>             Random seed of the sampling [default: 0]

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer generate runs/demo --prompt 'fn main'
      matformer generate runs/demo --submodel 60% --temperature 0.8 --top-p 0.9 --prompt 'fn main'
      matformer generate runs/demo --draft S --max-tokens 256 < prompt.txt
      matformer generate runs/demo --prompts prompts.jsonl > answers.jsonl
    "#);
}

#[test]
fn info() {
    snapshot!(help(&["info", "--help"]), @"
    Shapes and costs of a model, or of a preset

    Usage: matformer info [OPTIONS] <MODEL|--preset [<NAME>]>

    Arguments:
      [MODEL]  Model folder

    Options:
          --preset [<NAME>]  A preset's costs; without a name, the paper's model table beside ours
      -h, --help             Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer info runs/demo
      matformer info --preset small
      matformer info --preset
    ");
}

#[test]
fn slice() {
    snapshot!(help(&["slice", "--help"]), @"
    Cut a submodel out into a folder of its own

    Usage: matformer slice [OPTIONS] --out <PATH> <MODEL>

    Arguments:
      <MODEL>
              Model folder, or one of Gemma 3n

    Options:
          --submodel <SUBMODEL>
              Submodel: `S`, `60%`, `128`, `64x1+128x4`, … (of Gemma 3n: --widths, or --config and
              --row)

          --out <PATH>
              Folder to write, or file for GGUF; it must not exist

          --format <FORMAT>
              Output format

              Possible values:
              - hf:   A model folder, in the form of Hugging Face
              - gguf: A GGUF file of a language model, for llama.cpp
              - timm: A folder in the form of timm, of a vision model

              [default: hf]

          --pad
              Pad narrower layers with zeros to the widest: for programs that need equal widths

          --dtype <TYPE>
              How weights are stored [default: as in the model]

              Possible values:
              - f32:  32 bits
              - bf16: 16 bits, bfloat16
              - f16:  16 bits, IEEE half precision
              - q8_0: 8 bits in blocks of 32, of GGUF

          --shard-size <SIZE>
              Size above which the weights of a folder are written as several files, such as `500MB`
              [default: 5GB]

      -h, --help
              Print help (see a summary with '-h')

    Gemma 3n:
          --widths <WIDTHS>
              Feed-forward width of each layer that is kept, `8192x20+16384x10`, or of all, `8192`

          --skip-layers <LAYERS>
              Layers to leave out, counted from 0

          --config <FILE>
              Table of slices in CSV, `google/gemma3n-slicing-configs` or that of mistral.rs

          --row <NAME>
              Name of a slice in it

    Global options:
          --device <DEVICE>
              Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default: MATFORMER_DEVICE,
              or auto]

          --json
              One JSON document on standard output, everything else on standard error

      -q, --quiet
              Only errors on standard error

      -v, --verbose...
              More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer slice runs/demo --submodel S --out slim
      matformer slice runs/demo --submodel 60% --format gguf --dtype q8_0 --out slim-60.gguf
      matformer slice runs/demo --submodel 60% --pad --out padded-60
    ");
}

#[test]
fn report() {
    snapshot!(help(&["report", "--help"]), @"
    Measure the whole accuracy-cost curve and write it on one HTML page

    Usage: matformer report [OPTIONS] <RUN>...

    Arguments:
      <RUN>...  Run folder; several are laid over each other on one page, compared with the first

    Options:
          --out <FILE>   Page to write [default: report/index.html in the first run]
          --tokens <N>   Held-out tokens, of many documents [default: all]
          --context <N>  Predict each token from at most N tokens before it [default: the length of the
                         run's training rows]
      -h, --help         Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer report runs/demo
      matformer report runs/demo --tokens 200000 --out demo.html
      matformer report runs/demo runs/joint
    ");
}

#[test]
fn fetch() {
    snapshot!(help(&["fetch", "--help"]), @"
    Bring a named source of text, images or a model into the cache, or list them

    Usage: matformer fetch [OPTIONS] [NAME]

    Arguments:
      [NAME]  Source to fetch [default: list them]

    Options:
      -h, --help  Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer fetch
      matformer fetch prose
    ");
}

#[test]
fn init() {
    snapshot!(help(&["init", "--help"]), @"
    Write a run file for data of your own, with a comment to each key

    Usage: matformer init [OPTIONS] --data <DATA>... [FILE|DIR]

    Arguments:
      [FILE|DIR]
              File to write (`.toml`), or the folder for it [default: named after the data]

    Options:
          --data <DATA>...
              Text files and folders, or a folder of images; several are joined. Also `hf:owner/name`
              and `fetch:NAME`

          --kind <KIND>
              Kind of data [default: by the files]

              Possible values:
              - text:   Text, for a language model
              - images: Images in classes, for a vision transformer

          --preset <NAME>
              Named shape of the model [default: one that fits the data]

          --force
              Overwrite the file if it exists

      -h, --help
              Print help (see a summary with '-h')

    Global options:
          --device <DEVICE>
              Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default: MATFORMER_DEVICE,
              or auto]

          --json
              One JSON document on standard output, everything else on standard error

      -q, --quiet
              Only errors on standard error

      -v, --verbose...
              More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer init --data my.jsonl
      matformer init runs.toml --data notes papers --preset small
      matformer init vision --kind images --data pictures
    ");
}

#[test]
fn elastify() {
    snapshot!(help(&["elastify", "--help"]), @"
    Make a pretrained model elastic: order its neurons by importance, then train every size

    Usage: matformer elastify [OPTIONS] --data <DATA>... --out <RUN> <MODEL>

    Arguments:
      <MODEL>  Model folder: what `import` or `train` wrote

    Options:
          --data <DATA>...   Text files and folders, or a folder of images; several are joined. Or a run
                             file or run folder: its `[data]` and `[train]` are used
          --out <RUN>        Run folder to write
          --set <KEY=VALUE>  Override a key of the run file, such as `train.steps=100`; may be repeated
          --resume           Continue a run that was interrupted
          --dry-run          Print what the run would do and cost (with --order-only, what the ordering
                             would read); nothing is written, downloaded or tokenised
      -h, --help             Print help

    Ordering:
          --order <SCORE>           Order the neurons of each layer by `activation`, `rms`,
                                    `contribution`, `rms-contribution` or `weights` [default: rms]
          --calibration-rows <N>    Training rows, or images, that the score is measured on [default:
                                    512]
          --calibration-tokens <N>  Tokens of each of these rows [default: 512, or the model's context]
          --order-only              Order the neurons and measure, but do not train

    Measuring:
          --tokens <N>  Held-out tokens, or images, that each size is measured on before ordering, after
                        ordering and after training [default: 32768]

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer elastify base --data my.jsonl --out runs/elastic
      matformer elastify base --data run.toml --out runs/elastic --set train.steps=5000
      matformer elastify base --data my.jsonl --out runs/ordered --order-only
    ");
}

#[test]
fn baselines() {
    snapshot!(help(&["baselines", "--help"]), @"
    Train every granularity of a run alone, and show them beside the elastic sizes

    Usage: matformer baselines [OPTIONS] <RUN>

    Arguments:
      <RUN>
              Run folder

    Options:
          --budget <BUDGET>
              How much each baseline sees

              Possible values:
              - per-width: As many steps as the elastic run gave to a width in the mean: a quarter of
                them if it drew one of four widths in each step
              - total:     As many steps as the elastic run

              [default: per-width]

      -h, --help
              Print help (see a summary with '-h')

    Global options:
          --device <DEVICE>
              Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default: MATFORMER_DEVICE,
              or auto]

          --json
              One JSON document on standard output, everything else on standard error

      -q, --quiet
              Only errors on standard error

      -v, --verbose...
              More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer baselines runs/demo
      matformer baselines runs/demo --budget total
    ");
}

#[test]
fn list() {
    snapshot!(help(&["list", "--help"]), @"
    List the runs and models below a folder

    Usage: matformer list [OPTIONS] [DIR]

    Arguments:
      [DIR]  Folder to look in [default: .]

    Options:
          --depth <N>  How many folders deep to look [default: 5]
      -h, --help       Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer list
      matformer list runs
      matformer list runs --json
    ");
}

#[test]
fn compare() {
    snapshot!(help(&["compare", "--help"]), @"
    Show runs side by side: settings that differ, and what is recorded of each

    Usage: matformer compare [OPTIONS] <RUN> <RUN>...

    Arguments:
      <RUN> <RUN>...  Folders of runs or models

    Options:
      -h, --help  Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer compare runs/a runs/b
      matformer compare runs/a runs/b runs/c --json
    ");
}

#[test]
fn import() {
    snapshot!(help(&["import", "--help"]), @"
    Make a model folder of another program's language model or vision transformer

    Usage: matformer import [OPTIONS] --out <DIR> <DIR|FILE.gguf>

    Arguments:
      <DIR|FILE.gguf>  Folder of `config.json` and safetensors (a language model of transformers, or a
                       vision transformer of transformers or timm), GGUF file, or a named source such as
                       `fetch:smollm2`

    Options:
          --out <DIR>                Folder to write; it must not exist
          --granularities <W1,W2,…>  Feed-forward widths that get names, ascending, the last the model's
                                     own [default: for a language model 1/4, 1/2, 3/4 and all of it,
                                     rounded to multiples of 256 or 32; for a vision model 1/8, 1/4, 1/2
                                     and all of it]
          --shard-size <SIZE>        Size above which a language model's weights are written as several
                                     files, such as `500MB` [default: 5GB]
      -h, --help                     Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer import path/to/llama --out base
      matformer import model.gguf --out base --granularities 512,1024,1536
      matformer import fetch:smollm2 --out smollm2
    ");
}

#[test]
fn embed() {
    snapshot!(help(&["embed", "--help"]), @"
    Write embeddings of images, for an index of your own

    Usage: matformer embed [OPTIONS] --out <FILE> <MODEL>

    Arguments:
      <MODEL>
              Model folder of a vision model

    Options:
          --submodel <SUBMODEL>
              Submodel: `S`, `60%`, `48x1+96x5`, … [default: the largest]

          --out <FILE>
              File to write; it must not exist: `.npy`, with the names and labels in a `.json` beside
              it, or `.safetensors`

          --data <CONFIG|RUN>
              Run file or run folder whose images to embed [default: the model's own run]

          --part <PART>
              Part of the images

              Possible values:
              - train:    What is trained on
              - held-out: What is not

              [default: held-out]

          --images <N>
              Number of images, spread evenly [default: all]

      -h, --help
              Print help (see a summary with '-h')

    Global options:
          --device <DEVICE>
              Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default: MATFORMER_DEVICE,
              or auto]

          --json
              One JSON document on standard output, everything else on standard error

      -q, --quiet
              Only errors on standard error

      -v, --verbose...
              More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer embed runs/fashion-mnist --out held-out.npy
      matformer embed runs/fashion-mnist --submodel M --part train --images 1000 --out train.safetensors
    ");
}

#[test]
fn retrieve() {
    snapshot!(help(&["retrieve", "--help"]), @"
    Search the training images for held-out ones: one gallery, queries of any size

    Usage: matformer retrieve [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder of a vision model

    Options:
          --submodels <LIST>    Submodels that embed the queries, separated by commas [default: every
                                granularity]
          --gallery <SUBMODEL>  Submodel that embeds the gallery [default: the largest]
          --symmetric           Search also a gallery that the query's own encoder embedded
          --across              Search the held-out images of the first folder for those of the others
                                (`data.also`): images of the same name match
          --data <CONFIG|RUN>   Run file or run folder whose images to search [default: the model's own
                                run]
          --images <N>          Queries, spread evenly over the held-out images [default: all]
          --gallery-images <N>  Gallery images, spread evenly over the training images [default: all]
      -h, --help                Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer retrieve runs/fashion-mnist
      matformer retrieve runs/fashion-mnist --submodels S,M,L,XL --symmetric
      matformer retrieve runs/emoji --across
    ");
}

#[test]
fn search() {
    snapshot!(help(&["search", "--help"]), @"
    Find the submodel for a budget, by several methods

    Usage: matformer search [OPTIONS] --budget <BUDGET> <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --budget <BUDGET>  What the submodel may cost: `60%`, `60%flops`, `1.2M`, `8ms`; may be
                             repeated: all hold at once
          --method <LIST>    Ways to search, separated by commas: `mix`, `exact`, `exact-surrogate`,
                             `predictor`, `non-decreasing`, `random`, `evolution`, `exhaustive`
                             [default: these, exhaustive where there are at most 1,024 submodels]; for
                             comparison the largest of other families: `decreasing`, `up-down`,
                             `down-up`, `extremes`
          --evaluations <N>  Submodels that a method may try, where it has a choice [default: 200]
          --seed <SEED>      Random seed of the search [default: 0]
          --memory <MB>      Megabytes for the hidden states of one sweep of submodels [default: 256]
      -h, --help             Print help

    Held-out data:
          --data <CONFIG|RUN>  Run file or run folder whose `[data]` to measure on [default: the model's
                               own run]
          --tokens <N>         Held-out tokens, or images, of each half: the one's choose, the other's
                               judge [default: all]
          --judge-tokens <N>   Another number for the half that judges: only what was found is measured
                               on it
          --per-document       With --json: also the losses of each document that judged, for
                               comparisons with other models

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer search runs/demo --budget 60%
      matformer search runs/demo --budget 60% --budget 70%flops --method evolution,exact
      matformer search runs/demo --budget 8ms --tokens 100000
    ");
}

#[test]
fn bench() {
    snapshot!(help(&["bench", "--help"]), @"
    Measure how long a model takes on this device

    Usage: matformer bench [OPTIONS] <COMMAND>

    Commands:
      layers  Every layer at every width: what `8ms` as a budget means from then on
      decode  Generation: tokens per second of every trained size, in every format, for one and for
              several texts
      help    Print this message or the help of the given subcommand(s)

    Options:
      -h, --help  Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer bench layers runs/demo
      matformer bench decode runs/demo --dtype f32,bf16
    ");
}

#[test]
fn doctor() {
    snapshot!(help(&["doctor", "--help"]), @"
    Check that this device computes what the CPU does, and measure how fast it is

    Usage: matformer doctor [OPTIONS]

    Options:
          --quick  Time each thing for a fifth of a second, and leave the medium model out
      -h, --help   Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer doctor
      matformer doctor --device cuda --quick
    ");
}

#[test]
fn completions() {
    snapshot!(help(&["completions", "--help"]), @"
    Print a completion script for a shell

    Usage: matformer completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  Shell [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -h, --help  Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer completions bash > ~/.local/share/bash-completion/completions/matformer
      matformer completions zsh > _matformer       # in a folder of $fpath
      matformer completions fish > ~/.config/fish/completions/matformer.fish
    ");
}

#[test]
fn man() {
    snapshot!(help(&["man", "--help"]), @"
    Print the manual page, or write those of all commands

    Usage: matformer man [OPTIONS]

    Options:
          --out <DIR>  Folder to write a page for each command to [default: the page of the program on
                       standard output]
      -h, --help       Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer man | man -l -
      matformer man --out ~/.local/share/man/man1
    ");
}

#[test]
fn bench_layers() {
    snapshot!(help(&["bench", "layers", "--help"]), @"
    Every layer at every width: what `8ms` as a budget means from then on

    Usage: matformer bench layers [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --rounds <N>  Times that everything is measured, in turn; medians count [default: 31]
          --rows <N>    Rows of a training step's batch [default: 8]
      -h, --help        Print help

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer bench layers runs/demo
      matformer bench layers runs/demo --rounds 101
    ");
}

#[test]
fn bench_decode() {
    snapshot!(help(&["bench", "decode", "--help"]), @r#"
    Generation: tokens per second of every trained size, in every format, for one and for several texts

    Usage: matformer bench decode [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --submodel <SUBMODEL>  Size to measure; may be repeated [default: every trained size]
          --dtype <LIST>         Formats to hold the weights in, separated by commas [default: all that
                                 the device has]
          --batch <LIST>         Numbers of texts to generate at the same time, separated by commas
                                 [default: 1 4 16]
          --tokens <N>           New tokens of each text, 2 or more: the first comes with its prompt
                                 [default: 64]
          --prefill <N>          Tokens of the prompt whose reading is timed [default: 512, or half the
                                 context]
          --rounds <N>           Number of rounds; medians are printed [default: 3]
          --threads <N>          Number of threads [default: all]
      -h, --help                 Print help

    Speculative decoding and loss:
          --text <FILE>  Text file, or JSON Lines with a {"prompt": "..."} per line: measure the loss of
                         each format on it, and speculative decoding of continuations of its parts in
                         the first format; may be repeated
          --prompts <N>  Number of prompts that speculative decoding is measured on [default: 8]

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer bench decode runs/demo
      matformer bench decode runs/demo --dtype f32,bf16 --batch 1,8
      matformer bench decode runs/demo --text prompts.jsonl --threads 4
    "#);
}

#[test]
fn no_command() {
    let output = Place::new().matformer(&[]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""));
    assert!(output.stderr.starts_with("Train one elastic transformer"), "{output}");
}
