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
    snapshot!(help(&["--help"]), @"
    Train one elastic transformer, cut out hundreds.

    Usage: matformer [OPTIONS] <COMMAND>

    Commands:
      init         Write a run file for data of your own, with a comment to each key
      keys         List the keys of run files: types, defaults and what they do
      train        Train the model that a run file describes
      elastify     Make a pretrained model elastic: order its neurons by importance, then train every
                   size
      baselines    Train every granularity of a run alone, and show them beside the elastic sizes
      eval         Held-out loss or accuracy of any submodels, with standard errors
      score        Log-probabilities of a text, token by token
      generate     Generate text from a prompt
      serve        Serve a language model over HTTP, as OpenAI does; each request picks its size
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
fn no_command() {
    let output = Place::new().matformer(&[]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""));
    assert!(output.stderr.starts_with("Train one elastic transformer"), "{output}");
}
