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
      train      Train the model that a run file describes
      elastify   Make a pretrained model elastic: order its neurons by importance, then train every size
      baselines  Train every granularity of a run alone, and show them beside the elastic sizes
      eval       Held-out loss or accuracy of any submodels, with standard errors
      score      Log-probabilities of a text, token by token
      generate   Generate text from a prompt
      info       Shapes and costs of a model, or of a preset
      slice      Cut a submodel out into a folder of its own
      import     Make a model folder of another program's language model or vision transformer
      embed      Write embeddings of images, for an index of your own
      retrieve   Search the training images for held-out ones: one gallery, queries of any size
      search     Find the submodel for a budget, by several methods
      report     Measure the whole accuracy-cost curve and write it on one HTML page
      bench      Measure how long a model takes on this device
      doctor     Check that this device computes what the CPU does, and measure how fast it is
      fetch      Bring a named source of text, images or a model into the cache, or list them
      help       Print this message or the help of the given subcommand(s)

    Options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details
      -h, --help             Print help
      -V, --version          Print version
    ");
}

#[test]
fn version() {
    assert_eq!(help(&["--version"]), concat!("matformer ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn train() {
    snapshot!(help(&["train", "--help"]), @"
    Train the model that a run file describes

    Usage: matformer train [OPTIONS] <CONFIG|RUN>

    Arguments:
      <CONFIG|RUN>  Run file (TOML), or the folder of a run to resume

    Options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --set <KEY=VALUE>  Override a key of the run file, such as `train.steps=100`; may be repeated
          --json             One JSON document on standard output, everything else on standard error
          --out <DIR>        Run folder [default: runs/<name of the run file>]
          --init <DIR>       Start from the weights of a model folder: what `train.init` sets
      -q, --quiet            Only errors on standard error
          --resume           Go on from the last checkpoint of the run folder
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details
          --dry-run          Say what the run would cost; nothing is written, downloaded or tokenised
      -h, --help             Print help
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
          --device <DEVICE>       Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`
                                  [default: MATFORMER_DEVICE, or auto]
          --submodels <LIST>      Submodels, separated by commas: `S`, `60%`, `64x1+128x4`, … [default:
                                  every granularity]
          --json                  One JSON document on standard output, everything else on standard
                                  error
          --paired-to <SUBMODEL>  Submodel that the others are compared with [default: the largest]
          --data <CONFIG|RUN>     Run file or run folder whose `[data]` to measure on [default: the
                                  model's own run]
      -q, --quiet                 Only errors on standard error
          --tokens <N>            Held-out tokens, of many documents [default: all]
      -v, --verbose...            More on standard error: `-v` what is done, `-vv` with details
          --context <N>           Predict each token from at most N tokens before it [default: the
                                  length of the run's training rows, or the model's context]
      -h, --help                  Print help
    ");
}

#[test]
fn score() {
    snapshot!(help(&["score", "--help"]), @"
    Log-probabilities of a text, token by token

    Usage: matformer score [OPTIONS] --text <TEXT> <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --device <DEVICE>      Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`
                                 [default: MATFORMER_DEVICE, or auto]
          --submodel <SUBMODEL>  Submodel: `S`, `60%`, `64x1+128x4`, … [default: the largest]
          --json                 One JSON document on standard output, everything else on standard error
          --text <TEXT>          The text
      -q, --quiet                Only errors on standard error
      -v, --verbose...           More on standard error: `-v` what is done, `-vv` with details
      -h, --help                 Print help
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
          --device <DEVICE>        Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`
                                   [default: MATFORMER_DEVICE, or auto]
          --submodel <SUBMODEL>    Submodel: `S`, `60%`, `64x1+128x4`, … [default: the largest]
          --json                   One JSON document on standard output, everything else on standard
                                   error
          --prompt <TEXT>          Text to continue [default: standard input]
          --prompts <FILE>         Prompts as JSON Lines, one {"prompt": "..."} per line (`-`: standard
                                   input); other keys override the options for their line. Prints one
                                   line of JSON per prompt, in order
      -q, --quiet                  Only errors on standard error
          --slots <N>              Number of --prompts that are generated at the same time [default: 8]
      -v, --verbose...             More on standard error: `-v` what is done, `-vv` with details
          --draft <SUBMODEL|auto>  Narrower submodel that proposes tokens, of which --submodel keeps
                                   those that it would have chosen (speculative decoding); `auto`:
                                   whichever trained size is fastest. Faster if most are kept. Without
                                   --temperature the text stays the same
          --draft-len <N>          Number of tokens to propose at a time, 1 to 15 [default: chosen while
                                   generating, from measured speed; 0 where drafting does not pay]
          --draft-min-p <P>        Stop proposing before a token whose most likely value has a lower
                                   probability than this [default: 0]
          --policy <POLICY>        Which size takes each token: `fixed`: always --submodel.
                                   `escalate=SUBMODEL[,NATS]`: a wider one decides where the entropy of
                                   the next token is above NATS [2]. `phases=SUBMODEL`: another one
                                   reads the prompt [default: fixed]
          --dtype <FORMAT>         Format that weights are held in: `f32`, or on the CPU `bf16` or
                                   `q8_0`, which are faster and nearly as accurate [default: bf16 on the
                                   CPU, else f32]
          --max-tokens <N>         Maximum number of new tokens; generation also ends when the context
                                   is full [default: 64]
          --stop <TEXT>            String that ends the text, and is not part of it; may be repeated
          --logprobs <N>           With --json or --prompts, also print the log-probability of each
                                   token, and the N most likely tokens with theirs
      -h, --help                   Print help

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
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --preset [<NAME>]  A preset's costs; without a name, the paper's model table beside ours
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details
      -h, --help             Print help
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
          --device <DEVICE>
              Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default: MATFORMER_DEVICE,
              or auto]

          --submodel <SUBMODEL>
              Submodel: `S`, `60%`, `128`, `64x1+128x4`, … (of Gemma 3n: --widths, or --config and
              --row)

          --json
              One JSON document on standard output, everything else on standard error

          --out <PATH>
              Folder to write, or file for GGUF; it must not exist

          --format <FORMAT>
              Output format

              Possible values:
              - hf:   A model folder, in the form of Hugging Face
              - gguf: A GGUF file of a language model, for llama.cpp
              - timm: A folder in the form of timm, of a vision model

              [default: hf]

      -q, --quiet
              Only errors on standard error

          --pad
              Pad narrower layers with zeros to the widest: for programs that need equal widths

      -v, --verbose...
              More on standard error: `-v` what is done, `-vv` with details

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
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --tokens <N>       Held-out tokens, of many documents [default: all]
          --context <N>      Predict each token from at most N tokens before it [default: the length of
                             the run's training rows]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details
      -h, --help             Print help
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
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details
      -h, --help             Print help
    ");
}

#[test]
fn no_command() {
    let output = Place::new().matformer(&[]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""));
    assert!(output.stderr.starts_with("Train one elastic transformer"), "{output}");
}
