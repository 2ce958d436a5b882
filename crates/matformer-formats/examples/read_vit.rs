//! What a folder of transformers' or timm's holds, as an elastic model:
//! `cargo run -p matformer-formats --example read_vit FOLDER`.

use burn::tensor::Device;
use matformer_core::Resource;
use matformer_formats::{Normalization, Preprocessor, import_vit, save_timm};
use matformer_nn::Elastic;
use matformer_vit::{MatVit, MatVitConfig, costs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (scratch, device) = (tempfile::tempdir()?, Device::flex());
    let folder = match std::env::args().nth(1) {
        Some(folder) => folder.into(),
        // Without one: a small model, written as timm would.
        None => {
            let pixels = Normalization { mean: vec![0.5], std: vec![0.5] };
            let pixels = Preprocessor::new(pixels, None);
            let model = MatVit::new(&MatVitConfig::default(), 0, &device)?;
            save_timm(&model, &pixels, scratch.path())?;
            scratch.path().to_owned()
        }
    };
    let imported = import_vit(&folder, None, &device)?;
    let (space, costs) = (imported.model.space(), costs(imported.model.config()));
    println!("{}; left out: {:?}", imported.format, imported.left_out);
    for submodel in space.uniforms() {
        let params = costs.get(Resource::Params)?.cost(&submodel)?;
        println!("{:>4}  {}", space.label(&submodel), Resource::Params.describe(params));
    }
    Ok(())
}
