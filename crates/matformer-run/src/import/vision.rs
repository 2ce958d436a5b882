//! Vision transformers of other programs, which are loaded: their tensors change form.

use std::path::Path;

use burn::module::Module;
use matformer_core::{Draw, Manifest, Provenance, fs};
use matformer_data::AugmentConfig;
use matformer_formats::{Normalization, PREPROCESSOR_FILE, Preprocessor, files_of, import_vit};
use matformer_nn::{Elastic, Folder, folder};
use matformer_runfile::{Tables, Vit};
use matformer_vit::MatVit;

use super::{Imported, LeftOut, Order};
use crate::{
    Session,
    error::{Hinted, OrBadInput, Result},
    kind::Model,
};

/// Why a tensor is left out.
const NO_USE: &str = "as classification has no use for it";

pub(super) fn write(source: &Path, order: &Order, session: &Session) -> Result<Imported> {
    if order.shard_bytes.is_some() {
        return Err(Hinted {
            message: "--shard-size: only weights of language models are written as several files"
                .to_owned(),
            hint: "leave it out".to_owned(),
        }
        .into());
    }
    let imported =
        import_vit(source, order.granularities.as_deref(), &session.device).bad_input()?;
    let (model, space) = (&imported.model, imported.model.space());
    let largest = space.granularities.largest().name.clone();
    // The one width that its training saw.
    let objective = Draw::Baseline { granularity: largest };
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: 0,
        steps: 0,
        tokens: 0,
        data_hash: String::new(),
        parent: Some(imported.weights_sha256.clone()),
    };
    let mut manifest = Manifest::new(MatVit::KIND, space, objective, provenance);
    manifest.dtype = imported.dtype;
    let config = model.config();
    let stated = imported.preprocessor.clone();
    let preprocessor = stated.clone().unwrap_or_else(|| {
        let (mean, std) = AugmentConfig::default().normalization(config.channels);
        Preprocessor::new(Normalization { mean, std }, None)
    });
    let scratch = fs::scratch_dir(&order.out).bad_input()?;
    fs::write_files(scratch.path(), &files_of(source).bad_input()?)?;
    let file = scratch.path().join(PREPROCESSOR_FILE);
    fs::write_atomic(file, &preprocessor.to_file(config.image_size))?;
    folder::save(model, &manifest, scratch.path())?;
    fs::publish_dir(scratch.path(), &order.out)?;

    let mut notes = Vec::new();
    if stated.is_none() {
        notes.push(format!(
            "{} does not say how pixels are scaled: mean and standard deviation 0.5 are assumed",
            source.display()
        ));
    }
    let differs = preprocessor.differs.iter();
    notes.extend(differs.map(|differs| format!("its image processor differs: {differs}")));
    if imported.headless {
        notes.push("no classification head: a head of zeros with 1 class is added".to_owned());
    }
    let left_out = imported.left_out.iter();
    Ok(Imported {
        kind: Vit::NAME,
        format: imported.format.to_string(),
        described: Vit::describe(config),
        params: model.num_params(),
        dtype: imported.dtype.name(),
        tokenizer: None,
        headless: Some(imported.headless),
        left_out: left_out.map(|name| LeftOut { tensor: name.clone(), why: NO_USE }).collect(),
        notes,
        rounded_to: None,
        manifest,
    })
}
