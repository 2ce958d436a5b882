//! The accuracy-cost curve of a run on text.
//!
//! `cargo run -r -p matformer-study --example curve -- runs/demo`

use std::path::PathBuf;

use matformer_nn::DeviceSpec;
use matformer_run::{ModelFolder, Session};
use matformer_runfile::Lm;
use matformer_study::{Keep, measured};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let run = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: curve RUN")?;
    let session = Session::new(DeviceSpec::from_env()?.resolve()?);
    let folder = ModelFolder::<Lm>::load(&run, &session)?;
    for size in measured(&folder, None, Keep::May)?.measured.results.results {
        let error = size.stderr.map_or(String::new(), |stderr| format!(" ± {stderr:.4}"));
        println!("{:>12} {:>10} {:.4}{error}", size.submodel, size.params.total, size.loss);
    }
    Ok(())
}
