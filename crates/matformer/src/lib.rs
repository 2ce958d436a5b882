#![doc = include_str!("../README.md")]

pub mod memory;

pub use matformer_bench as bench;
pub use matformer_core as core;
pub use matformer_data as data;
pub use matformer_engine as engine;
pub use matformer_eval as eval;
pub use matformer_exchange as exchange;
pub use matformer_formats as formats;
pub use matformer_lm as lm;
pub use matformer_nn as nn;
pub use matformer_run as run;
pub use matformer_runfile as run_file;
pub use matformer_search as search;
pub use matformer_serve as serve;
pub use matformer_sources as sources;
pub use matformer_study as study;
pub use matformer_tasks as tasks;
pub use matformer_train as train;
pub use matformer_vit as vit;
