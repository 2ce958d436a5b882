//! Commands that measure models.

use super::help;

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
          --paired-to <FILE>   Output of another search with --json --per-document: also print how far
                               each winner is above what `mix` found there, paired by document

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
fn serve() {
    snapshot!(help(&["serve", "--help"]), @"
    Serve a language model over HTTP, as OpenAI does; each request picks its size

    Usage: matformer serve [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --host <ADDRESS>       Address to listen at; `0.0.0.0` lets other machines connect, preferably
                                 with --api-key-file [default: 127.0.0.1]
          --port <N>             Port to listen at; 0: any free port [default: 8080]
          --name <NAME>          Name of the model in requests; `NAME@SIZE` is one of its sizes
                                 [default: name of the folder]
          --submodel <SUBMODEL>  Size that answers requests without one: `S`, `60%`, `64x1+128x4`, …
                                 [default: the largest]
          --dtype <FORMAT>       Format that weights are held in: `f32`, or on the CPU `bf16` or `q8_0`,
                                 which are faster and nearly as accurate [default: bf16 on the CPU, else
                                 f32]
          --slots <N>            Number of texts that are generated at the same time [default: 8]
          --context <N>          Maximum tokens of prompt and answer together [default: the model's
                                 context]
          --threads <N>          Number of threads that compute [default: all]
          --narrow-when-busy     While requests wait, answer requests without a size at a narrower
                                 trained size; each response names the size that answered
          --api-key-file <FILE>  File with API keys, one per line: requests need one as `Authorization:
                                 Bearer KEY`
          --grace <S>            Maximum seconds for running requests to end after Ctrl-C or SIGTERM
                                 [default: 30]
      -h, --help                 Print help

    Limits of a request:
          --queue <N>         Number of requests that may wait; more are refused with status 429
                              [default: 64]
          --max-tokens <N>    Maximum number of new tokens of an answer [default: the context]
          --max-body <SIZE>   Maximum size of a request's body [default: 2MB]
          --read-timeout <S>  Maximum seconds for the headers of a request to arrive, and again for its
                              body [default: 30]
          --timeout <S>       Maximum seconds from the arrival of a request to the end of its answer
                              [default: 600]

    Global options:
          --device <DEVICE>  Where to compute: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]` [default:
                             MATFORMER_DEVICE, or auto]
          --json             One JSON document on standard output, everything else on standard error
      -q, --quiet            Only errors on standard error
      -v, --verbose...       More on standard error: `-v` what is done, `-vv` with details

    Examples:
      matformer serve runs/demo
      matformer serve runs/demo --name demo --slots 16 --context 512 --narrow-when-busy
      matformer serve runs/demo --host 0.0.0.0 --api-key-file keys.txt
    ");
}
