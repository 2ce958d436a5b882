//! `--help`: the reference that everybody has.

mod making;
mod measuring;

use crate::support::Place;

fn help(arguments: &[&str]) -> String {
    let text = Place::new().matformer(arguments).ok().stdout;
    // A line between paragraphs may hold blanks.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn program() {
    snapshot!(help(&["--help"]), @r"
    Train one elastic transformer, extract hundreds.

    Usage: matformer [OPTIONS] <COMMAND>

    Commands:
      init         Write a commented run file (TOML config) that suits your data
      keys         List the keys of run files: types, defaults and what they do
      train        Train the model described by a run file
      elastify     Make a pretrained model elastic: sort its neurons by importance, then train all sizes
      baselines    Train a separate model for each size of a run, and compare them with the elastic
                   sizes
      eval         Evaluate submodels on held-out data: loss or accuracy with standard errors
      score        Print the log-probability of each token of a text
      generate     Generate text from a prompt
      serve        Serve a language model over an OpenAI-compatible API; each request picks its size
      info         Show shapes and costs of a model or preset
      list         List the runs and models in a folder, recursively
      compare      Compare runs side by side: settings that differ, and recorded results
      scaling      Fit a scaling law to the recorded losses of runs and of their baselines
      slice        Export a submodel as a standalone model (Hugging Face, GGUF or timm)
      import       Import a language model or vision transformer (Hugging Face, GGUF or timm)
      embed        Compute image embeddings, for use in your own index
      retrieve     Image retrieval: search the training images with held-out images as queries, embedded
                   by any size
      search       Search for the best submodel within a budget
      report       Evaluate all sizes and write the accuracy-cost curve as an HTML page
      bench        Benchmark a model on this device: layer latency, or generation speed
      doctor       Check that this device gives the same results as the CPU, and benchmark it
      fetch        Download a built-in dataset or model into the cache, or list them
      completions  Print a completion script for a shell
      man          Print the manual page, or write the manual pages of all commands
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Environment variables:
      MATFORMER_DEVICE   Default for --device
      MATFORMER_CACHE    Cache folder for tokenised and downloaded data [default: runs/.data in the
      working directory]
      MATFORMER_SOURCES  TOML file that replaces the built-in table of datasets and models for `fetch`
      MATFORMER_LOG      Log levels, such as `debug` or `warn,matformer_data=debug`
      RAYON_NUM_THREADS  Number of CPU threads [default: all]
      HF_TOKEN           Token for private and gated repositories of the Hugging Face Hub
      HF_HOME            Hugging Face home; the cache is its subfolder `hub` [default:
      ~/.cache/huggingface]
      HF_HUB_CACHE       Hugging Face cache folder, overrides HF_HOME [default: $HF_HOME/hub]
      HF_HUB_OFFLINE     `1`: use only cached Hub files
      HF_ENDPOINT        URL of the Hub or of a mirror

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
fn generate() {
    snapshot!(help(&["generate", "--help"]), @r#"
    Generate text from a prompt

    Usage: matformer generate [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder

    Options:
          --submodel <SUBMODEL>  Submodel: `S`, `60%`, `64x1+128x4`, … [default: the largest]
          --prompt <TEXT>        Text to continue [default: standard input]
          --prompts <FILE>       JSON Lines file with one {"prompt": "..."} per line (`-`: standard
                                 input); other keys override the options for that prompt. Prints one
                                 JSON line per prompt, in the same order
          --slots <N>            With --prompts: maximum number of prompts processed at once (batch
                                 size) [default: 8]
          --policy <POLICY>      Which submodel generates each token. `fixed`: always --submodel;
                                 `escalate=SUBMODEL[,NATS]`: a wider submodel where the entropy of
                                 --submodel is above NATS (default 2); `phases=SUBMODEL`: another
                                 submodel for the prompt (prefill) [default: fixed]
          --dtype <FORMAT>       Weight format in memory: `f32`; on the CPU also `bf16` and `q8_0`,
                                 which are faster and nearly as accurate [default: bf16 on the CPU, f32
                                 elsewhere]
          --max-tokens <N>       Maximum number of new tokens; generation also ends when the context is
                                 full [default: 64]
          --stop <TEXT>          Stop string; not included in the output; can be repeated
          --logprobs <N>         With --json or --prompts: also print the log-probability of each token
                                 and of the N most likely alternatives
      -h, --help                 Print help

    Speculative decoding:
          --draft <SUBMODEL|auto>  Draft submodel for speculative decoding: a narrower submodel drafts
                                   tokens, --submodel verifies them. `auto`: whichever trained size is
                                   fastest. Speeds up generation if most drafts are accepted; greedy
                                   output does not change
          --draft-len <N>          Number of tokens to draft at a time, 1 to 15 [default: adapted to
                                   measured speed and acceptance rate; no drafting where it would be
                                   slower]
          --draft-min-p <P>        Stop drafting when the top probability of the draft submodel falls
                                   below this [default: 0]

    Sampling:
          --temperature <T>         Sampling temperature; 0: greedy decoding [default: 0]
          --top-k <K>               Sample only from the K most likely tokens; 0: off [default: 0]
          --top-p <P>               Nucleus sampling: sample from the smallest set of tokens with at
                                    least this total probability; 1: off [default: 1]
          --min-p <P>               Sample only from tokens with at least this fraction of the top
                                    token's probability; 0: off [default: 0]
          --repetition-penalty <R>  Divide positive logits of tokens that occur in the prompt or output
                                    by this, and multiply negative ones; 1: off [default: 1]
          --frequency-penalty <X>   Subtract this from a token's logit for each time it was generated,
                                    -2 to 2 [default: 0]
          --presence-penalty <X>    Subtract this from the logit of every token that was generated, -2
                                    to 2 [default: 0]
          --logit-bias <TOKEN=X>    Add a number to the logit of a token, such as 1234=-5; may be
                                    repeated
          --seed <SEED>             Random seed for sampling [default: 0]

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer generate runs/demo --prompt 'fn main'
      matformer generate runs/demo --submodel 60% --temperature 0.8 --top-p 0.9 --prompt 'fn main'
      matformer generate runs/demo --draft S --max-tokens 256 < prompt.txt
      matformer generate runs/demo --prompts prompts.jsonl > answers.jsonl
    "#);
}

#[test]
fn info() {
    snapshot!(help(&["info", "--help"]), @r"
    Show shapes and costs of a model or preset

    Usage: matformer info [OPTIONS] <MODEL|--preset [<NAME>]>

    Arguments:
      [MODEL]  Model folder

    Options:
          --preset [<NAME>]  Show the costs of a preset; without a name, compare the paper's model table
                             with ours
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
      matformer info runs/demo
      matformer info --preset small
      matformer info --preset
    ");
}

#[test]
fn list() {
    snapshot!(help(&["list", "--help"]), @r"
    List the runs and models in a folder, recursively

    Usage: matformer list [OPTIONS] [DIR]

    Arguments:
      [DIR]  Folder to look in [default: .]

    Options:
          --depth <N>  Maximum folder depth [default: 5]
      -h, --help       Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer list
      matformer list runs
      matformer list runs --json
    ");
}

#[test]
fn compare() {
    snapshot!(help(&["compare", "--help"]), @r"
    Compare runs side by side: settings that differ, and recorded results

    Usage: matformer compare [OPTIONS] <RUN> <RUN>...

    Arguments:
      <RUN> <RUN>...  Run or model folders

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
      matformer compare runs/a runs/b
      matformer compare runs/a runs/b runs/c --json
    ");
}

#[test]
fn scaling() {
    snapshot!(help(&["scaling", "--help"]), @r"
    Fit a scaling law to the recorded losses of runs and of their baselines

    Usage: matformer scaling [OPTIONS] <RUN>...

    Arguments:
      <RUN>...  Run folders of language models that `report` has evaluated; baselines in these folders
                are fitted separately

    Options:
          --resamples <N>  Number of bootstrap samples for the intervals [default: 1000]
          --seed <SEED>    Random seed for the bootstrap samples [default: 0]
      -h, --help           Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer scaling runs/demo runs/small
      matformer scaling runs/a runs/b runs/c --json
    ");
}

#[test]
fn completions() {
    snapshot!(help(&["completions", "--help"]), @r"
    Print a completion script for a shell

    Usage: matformer completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  Shell [possible values: bash, elvish, fish, powershell, zsh]

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
      matformer completions bash > ~/.local/share/bash-completion/completions/matformer
      matformer completions zsh > _matformer       # in a folder of $fpath
      matformer completions fish > ~/.config/fish/completions/matformer.fish
    ");
}

#[test]
fn man() {
    snapshot!(help(&["man", "--help"]), @r"
    Print the manual page, or write the manual pages of all commands

    Usage: matformer man [OPTIONS]

    Options:
          --out <DIR>  Write one page per command into this folder [default: print the main page on
                       standard output]
      -h, --help       Print help

    Global options:
          --device <DEVICE>  Device: `auto`, `flex` (CPU), `wgpu[:N]`, `cuda[:N]`, if compiled in
                             [default: $MATFORMER_DEVICE, or auto: the first of CUDA, a GPU through
                             wgpu, CPU]
          --json             Print the result as JSON on standard output, everything else on standard
                             error
      -q, --quiet            Print only errors
      -v, --verbose...       More log output: `-v` info, `-vv` debug

    Examples:
      matformer man | man -l -
      matformer man --out ~/.local/share/man/man1
    ");
}

#[test]
fn no_command() {
    let output = Place::new().matformer(&[]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""));
    assert!(output.stderr.starts_with("Train one elastic transformer"), "{output}");
}
