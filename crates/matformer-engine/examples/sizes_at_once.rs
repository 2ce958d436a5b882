//! Four requests at four sizes share every step: `cargo run --release -p matformer-engine --example sizes_at_once`.

use std::{ops::ControlFlow, time::Instant};

use burn::tensor::Device;
use matformer_engine::{Engine, EngineModel, EngineOptions, Format, Request, generate};
use matformer_lm::{MatLm, Preset};
use matformer_nn::Elastic;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = MatLm::new(&"small".parse::<Preset>()?.config(), 0, &Device::flex())?;
    let sizes = model.space().uniforms();
    let model = EngineModel::of(&model, Format::F32)?;
    let request = |submodel| Request::new((1..40).collect(), submodel, 64);
    let time = |requests: &[Request]| -> Result<f64, Box<dyn std::error::Error>> {
        let options = EngineOptions { slots: requests.len(), ..EngineOptions::default() };
        let mut engine = Engine::new(&model, &options)?;
        let started = Instant::now();
        generate(&mut engine, requests, |_, _| ControlFlow::Continue(()))?;
        Ok(started.elapsed().as_secs_f64())
    };
    for submodel in &sizes {
        let seconds = time(&[request(submodel.clone())])?;
        println!(
            "{:>3} alone: 64 tokens in {:.0} ms",
            model.space().label(submodel),
            seconds * 1e3
        );
    }
    let all: Vec<Request> = sizes.into_iter().map(request).collect();
    println!("all four: 256 tokens in {:.0} ms", time(&all)? * 1e3);
    Ok(())
}
