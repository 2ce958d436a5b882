//! The command's parts as a library: loads a run folder, and scores a text with two submodels.
//!
//! `cargo run --release -p matformer --example library -- runs/demo`

use std::path::PathBuf;

use matformer::{
    core::SubmodelSpec,
    data::{TOKENIZER_FILE, Tokenizer},
    lm::{MatLm, costs, score},
    nn::{DeviceSpec, Elastic, folder},
};

const TEXT: &str = "fn main() {\n    println!(\"{}\", 1 + 1);\n}\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: library RUN")?;
    let device = DeviceSpec::from_env()?.resolve()?;
    let (model, _) = folder::load::<MatLm>(&dir, &device)?;
    let tokenizer = Tokenizer::load(&dir.join(TOKENIZER_FILE))?;
    let (space, costs) = (model.space(), costs(model.config()));

    let mut tokens = vec![tokenizer.bos()];
    tokens.extend(tokenizer.encode(TEXT)?);
    for spec in ["60%", "100%"] {
        let submodel = spec.parse::<SubmodelSpec>()?.resolve(space, &costs)?;
        let logprobs = score(&model, &submodel, &tokens)?;
        let nats: f32 = logprobs.iter().flatten().map(|logprob| -logprob).sum();
        let bits = nats / std::f32::consts::LN_2 / TEXT.len() as f32;
        println!("{spec:>5} is {}: {bits:.3} bits per byte", space.label(&submodel));
    }
    Ok(())
}
