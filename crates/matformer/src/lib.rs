#![doc = include_str!("../README.md")]

pub mod date;
pub mod doctor;
pub mod images;
pub mod machine;
pub mod memory;
pub mod products;
pub mod run_file;
pub mod runs;
pub mod synthetic;
pub mod text;
pub mod timing;

pub use matformer_core as core;
pub use matformer_data as data;
pub use matformer_engine as engine;
pub use matformer_eval as eval;
pub use matformer_formats as formats;
pub use matformer_lm as lm;
pub use matformer_nn as nn;
pub use matformer_search as search;
pub use matformer_serve as serve;
pub use matformer_sources as sources;
pub use matformer_train as train;
pub use matformer_vit as vit;
