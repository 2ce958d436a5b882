//! What each size of a preset costs: `cargo run -p matformer-lm --example sizes -- small`.

use matformer_core::Resource;
use matformer_lm::{Preset, costs};
use matformer_nn::ModelConfig;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "small".to_owned());
    let config = name.parse::<Preset>()?.config();
    let (space, costs) = (config.space()?, costs(&config));
    println!("{:>10} {:>14} {:>14} {:>14}", "", "parameters", "non-embedding", "FLOPs/token");
    for submodel in matformer_core::curve(&space) {
        let cost = |resource| costs.get(resource)?.cost(&submodel);
        println!(
            "{:>10} {:>14} {:>14} {:>14}",
            space.label(&submodel),
            cost(Resource::Params)?,
            cost(Resource::NonEmbedding)?,
            cost(Resource::Flops)?
        );
    }
    Ok(())
}
