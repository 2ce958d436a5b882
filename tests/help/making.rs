//! Commands that make models, or what models are made of.

use super::help;

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
fn keys() {
    snapshot!(help(&["keys", "--help"]), @"
    List the keys of run files: types, defaults and what they do

    Usage: matformer keys [OPTIONS] [KEY]

    Arguments:
      [KEY]
              Part of the names of the keys to list, such as `train` or `eval` [default: all]

    Options:
          --kind <KIND>
              Only the keys of runs on this kind of data

              Possible values:
              - text:   Text, for a language model
              - images: Images in classes, for a vision transformer

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
      matformer keys train
      matformer keys eval --kind images
      matformer keys --json
    ");
}
