//! Times the widths of one nested feed-forward block: a width costs its share.

use std::time::Instant;

use burn::tensor::Tensor;
use matformer_core::Block;
use matformer_nn::{
    Activation, DeviceSpec, NestedFfnConfig, Result,
    init::{self, Init},
};

fn main() -> Result<()> {
    let device = DeviceSpec::from_env()?.resolve()?;
    let (d_model, d_ff, rows) = (256, 1024, 2048);
    let config = NestedFfnConfig { d_model, d_ff, activation: Activation::SwiGlu, bias: false };
    let ffn = init::init(config.init(&device), 0, |_, _| Init::Normal(0.05));
    let x = Tensor::<2>::ones([rows, d_model], &device);
    for width in [d_ff / 8, d_ff / 4, d_ff / 2, d_ff] {
        let run = || ffn.forward(x.clone(), &[Block { start: 0, end: rows, width }]).into_data();
        run();
        let started = Instant::now();
        for _ in 0..5 {
            run();
        }
        println!("width {width:4}: {:6.2} ms", started.elapsed().as_secs_f64() * 200.0);
    }
    Ok(())
}
