//! Commands that make models, or what models are made of.

use super::help;

#[test]
fn train() {
    snapshot!(help(&["train", "--help"]), @r"
    Train the model described by a run file

    Usage: matformer train [OPTIONS] [CONFIG|RUN]

    Arguments:
      [CONFIG|RUN]  Run file (TOML), or with --resume the run folder

    Options:
          --data <DATA>...   Train on these text files and folders, or this folder of images, with the
                             settings that `matformer init` would choose (instead of CONFIG)
          --preset <NAME>    With --data: model preset [default: chosen to suit the data]
          --set <KEY=VALUE>  Override a key of the run file, such as `train.steps=100`; can be repeated
          --out <DIR>        Run folder to write [default: runs/NAME, after the run file or the data]
          --init <DIR>       Initialise the weights from a model folder (sets `train.init`)
          --resume           Continue from the last checkpoint of the run folder
          --dry-run          Print the estimated time, memory and FLOPs of the run, without writing,
                             downloading or tokenising anything
      -h, --help             Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer train my.toml --dry-run
      matformer train my.toml --out runs/longer --set train.steps=4000
      matformer train --data my.jsonl --preset small
      matformer train runs/longer --resume
    ");
}

#[test]
fn slice() {
    snapshot!(help(&["slice", "--help"]), @r"
    Export a submodel as a standalone model (Hugging Face, GGUF or timm)

    Usage: matformer slice [OPTIONS] --out <PATH> <MODEL>

    Arguments:
      <MODEL>
              Model folder, or the folder of a Gemma 3n checkpoint

    Options:
          --submodel <SUBMODEL>
              Submodel: `S`, `60%`, `128`, `64x1+128x4`, … (of Gemma 3n: --widths, or --config and
              --row)

          --out <PATH>
              Output folder, or output file for GGUF; must not exist yet

          --format <FORMAT>
              Output format

              Possible values:
              - hf:   Model folder in Hugging Face format
              - gguf: GGUF file for llama.cpp (language models)
              - timm: Folder in timm format (vision models)

              [default: hf]

          --pad
              Pad narrower layers with zeros to the largest width, for programs that need the same width
              in all layers

          --dtype <TYPE>
              Data type of the weights [default: as in the model]

              Possible values:
              - f32:  32 bits
              - bf16: 16 bits, bfloat16
              - f16:  16 bits, IEEE half precision
              - q8_0: 8 bits, quantised in blocks of 32 (GGUF only)

          --shard-size <SIZE>
              Maximum size of a weights file, such as `500MB`; larger models are split into shards
              [default: 5GB]

      -h, --help
              Print help (see a summary with '-h')

    Gemma 3n:
          --widths <WIDTHS>
              Feed-forward width of each remaining layer, such as `8192x20+16384x10`, or one width for
              all, such as `8192`

          --skip-layers <LAYERS>
              Layers to skip, comma-separated, numbered from 0

          --config <FILE>
              CSV table of slicing configurations, from `google/gemma3n-slicing-configs` or mistral.rs
              (a local file)

          --row <NAME>
              Name of the configuration (row) in that table

    Global options:
          --device <DEVICE>
              Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in [default:
              $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through wgpu, CPU]

          --json
              Print the result as JSON on standard output, everything else on standard error

      -q, --quiet
              Print only errors

      -v, --verbose...
              More log output: `-v` info, `-vv` debug

    Examples:
      matformer slice runs/demo --submodel S --out slim
      matformer slice runs/demo --submodel 60% --format gguf --dtype q8_0 --out slim-60.gguf
      matformer slice runs/demo --submodel 60% --pad --out padded-60
    ");
}

#[test]
fn fetch() {
    snapshot!(help(&["fetch", "--help"]), @r"
    Download a built-in dataset or model into the cache, or list them

    Usage: matformer fetch [OPTIONS] [NAME]

    Arguments:
      [NAME]  Dataset or model to download [default: list all]

    Options:
      -h, --help  Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer fetch
      matformer fetch prose
    ");
}

#[test]
fn init() {
    snapshot!(help(&["init", "--help"]), @r"
    Write a commented run file (TOML config) that suits your data

    Usage: matformer init [OPTIONS] --data <DATA>... [FILE|DIR]

    Arguments:
      [FILE|DIR]
              Run file to write (`.toml`), or the folder to write it to [default: named after the data]

    Options:
          --data <DATA>...
              Text files and folders (combined), or a folder of images; also `hf:owner/name` and
              `fetch:NAME`

          --kind <KIND>
              Kind of data [default: detected from the files]

              Possible values:
              - text:   Text, for a language model
              - images: Labelled images, for a vision transformer

          --preset <NAME>
              Model preset [default: chosen to suit the data]

          --force
              Overwrite the file if it exists

      -h, --help
              Print help (see a summary with '-h')

    Global options:
          --device <DEVICE>
              Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in [default:
              $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through wgpu, CPU]

          --json
              Print the result as JSON on standard output, everything else on standard error

      -q, --quiet
              Print only errors

      -v, --verbose...
              More log output: `-v` info, `-vv` debug

    Examples:
      matformer init --data my.jsonl
      matformer init mine.toml --data notes papers --preset small
      matformer init vision --kind images --data pictures
    ");
}

#[test]
fn elastify() {
    snapshot!(help(&["elastify", "--help"]), @r"
    Make a pretrained model elastic: sort its neurons by importance, then train all sizes

    Usage: matformer elastify [OPTIONS] --data <DATA>... --out <RUN> <MODEL>

    Arguments:
      <MODEL>  Model folder written by `import` or `train`

    Options:
          --data <DATA>...   Text files and folders (concatenated), or a folder of images; or a run file
                             or run folder, whose `[data]` and `[train]` are used
          --out <RUN>        Run folder to write
          --set <KEY=VALUE>  Override a key of the run file, such as `train.steps=100`; may be repeated
          --resume           Resume an interrupted run
          --dry-run          Print the planned steps and the estimated cost (with --order-only, of the
                             ordering), without writing, downloading or tokenising anything
      -h, --help             Print help

    Ordering:
          --order <SCORE>           Importance score: mean absolute activation (`activation`), root mean
                                    square (`rms`), these times the norm of the neuron's column of
                                    `down` (`contribution`, `rms-contribution`), or weight norms
                                    (`weights`) [default: rms]
          --calibration-rows <N>    Number of training sequences, or images, used for calibration
                                    [default: 512]
          --calibration-tokens <N>  Tokens per calibration sequence [default: 512 or the context length,
                                    whichever is less]
          --order-only              Sort the neurons and evaluate, but do not train

    Measuring:
          --tokens <N>  Held-out tokens, or images, for the evaluations before ordering, after ordering
                        and after training [default: 32768]

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer elastify base --data my.jsonl --out runs/elastic
      matformer elastify base --data run.toml --out runs/elastic --set train.steps=5000
      matformer elastify base --data my.jsonl --out runs/ordered --order-only
    ");
}

#[test]
fn baselines() {
    snapshot!(help(&["baselines", "--help"]), @r"
    Train a separate model for each size of a run, and compare them with the elastic sizes

    Usage: matformer baselines [OPTIONS] <RUN>

    Arguments:
      <RUN>
              Run folder

    Options:
          --budget <BUDGET>
              Training budget of each baseline

              Possible values:
              - per-width: As many steps as the whole elastic run spent on one width on average: a
                quarter of its steps if each step sampled one of four widths
              - total:     As many steps as the elastic run

              [default: per-width]

          --tokens <N>
              Number of held-out tokens to compare them on, taken from many documents [default: all]

      -h, --help
              Print help (see a summary with '-h')

    Global options:
          --device <DEVICE>
              Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in [default:
              $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through wgpu, CPU]

          --json
              Print the result as JSON on standard output, everything else on standard error

      -q, --quiet
              Print only errors

      -v, --verbose...
              More log output: `-v` info, `-vv` debug

    Examples:
      matformer baselines runs/demo
      matformer baselines runs/demo --budget total
    ");
}

#[test]
fn import() {
    snapshot!(help(&["import", "--help"]), @r"
    Import a language model or vision transformer (Hugging Face, GGUF or timm)

    Usage: matformer import [OPTIONS] --out <DIR> <DIR|FILE.gguf>

    Arguments:
      <DIR|FILE.gguf>  Folder with `config.json` and safetensors (language model from transformers, or
                       vision transformer from transformers or timm), GGUF file, or built-in model such
                       as `fetch:smollm2`

    Options:
          --out <DIR>                Folder to write; it must not exist
          --granularities <W1,W2,…>  Granularities: ascending feed-forward widths, ending with the
                                     model's full width [default: 1/4, 1/2, 3/4 and all of it for
                                     language models, rounded to multiples of 256 or 32; 1/8, 1/4, 1/2
                                     and all of it for vision models]
          --shard-size <SIZE>        Maximum size of a weights file of a language model, such as
                                     `500MB`; larger models are split into shards [default: 5GB]
      -h, --help                     Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer import path/to/llama --out base
      matformer import model.gguf --out base --granularities 512,1024,1536
      matformer import fetch:smollm2 --out smollm2
    ");
}

#[test]
fn keys() {
    snapshot!(help(&["keys", "--help"]), @r"
    List the keys of run files: types, defaults and what they do

    Usage: matformer keys [OPTIONS] [KEY]

    Arguments:
      [KEY]
              List only keys whose name contains this, such as `train` or `eval` [default: all]

    Options:
          --kind <KIND>
              Only the keys of runs on this kind of data

              Possible values:
              - text:   Text, for a language model
              - images: Labelled images, for a vision transformer

      -h, --help
              Print help (see a summary with '-h')

    Global options:
          --device <DEVICE>
              Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in [default:
              $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through wgpu, CPU]

          --json
              Print the result as JSON on standard output, everything else on standard error

      -q, --quiet
              Print only errors

      -v, --verbose...
              More log output: `-v` info, `-vv` debug

    Examples:
      matformer keys train
      matformer keys eval --kind images
      matformer keys --json
    ");
}
