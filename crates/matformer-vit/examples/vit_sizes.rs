//! What each size of a vision transformer costs: `cargo run -p matformer-vit --example vit_sizes`.

use matformer_core::Resource;
use matformer_nn::ModelConfig;
use matformer_vit::{MatVitConfig, costs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = MatVitConfig::default();
    let (space, costs) = (config.space()?, costs(&config));
    println!("images of {0}×{0}, {1} tokens", config.image_size, config.tokens());
    for submodel in matformer_core::curve(&space) {
        let cost = |resource| costs.get(resource)?.cost(&submodel);
        println!(
            "{:>12}  {}, {} a token",
            space.label(&submodel),
            Resource::Params.describe(cost(Resource::Params)?),
            Resource::Flops.describe(cost(Resource::Flops)?),
        );
    }
    Ok(())
}
