//! Models that a configuration describes: read from `config.json`, cut to one submodel, given
//! another configuration.

use std::{collections::HashMap, path::Path};

use burn::tensor::{Device, TensorData};
use matformer_core::{Granularities, Granularity, Manifest, Submodel};

use crate::{
    ConfigFile, Error, Folder, Result,
    config::{ModelConfig, Nested},
    params,
};

/// A model kind with a configuration: [`extract`] makes standalone models of its submodels.
pub trait Configured: Folder {
    /// Its shape.
    type Config: ModelConfig;

    /// The model's shape.
    fn config(&self) -> &Self::Config;

    /// A model whose parameters wait to be filled ([`params::unset`]), and take no memory until
    /// then.
    ///
    /// # Errors
    /// When the configuration does not make a model.
    fn unset(config: &Self::Config, device: &Device) -> Result<Self>;

    /// The same widths under other names: those of the folder that the model comes from.
    fn with_granularities(self, granularities: Granularities) -> Self;

    /// The configuration that a folder's `config.json` describes; widths and granularities are the
    /// manifest's.
    ///
    /// # Errors
    /// When a key is missing or holds what the kind does not have.
    fn read_config(file: &ConfigFile, manifest: &Manifest) -> Result<Self::Config>;

    /// What `config.json` calls a field of the configuration.
    fn config_key(field: &str) -> &str;
}

/// The model of a folder, its weights not yet read: [`Folder::build`] of a configured kind.
///
/// # Errors
/// When `config.json` cannot be read, makes no model, or fits the manifest not.
pub fn build<M: Configured>(dir: &Path, manifest: &Manifest, device: &Device) -> Result<M> {
    let file = ConfigFile::read(dir)?;
    let config = M::read_config(&file, manifest)?;
    file.check_manifest(manifest)?;
    let model = M::unset(&config, device).map_err(|error| file.blame(error, M::config_key))?;
    Ok(model.with_granularities(manifest.granularities.clone()))
}

/// The standalone model of one submodel: the same weights, cut by prefix, every layer exactly as
/// wide as the submodel. Granularities that are no wider than it keep their names in it; a width
/// that is none becomes the largest, named after itself: `w96`.
///
/// # Errors
/// When the submodel does not fit the model, or a tensor cannot be read from its device.
pub fn extract<M: Configured>(model: &M, submodel: &Submodel) -> Result<M> {
    let space = model.space();
    space.check(submodel)?;
    let d_ff = submodel.max_width();
    let mut kept: Vec<Granularity> =
        space.granularities.iter().filter(|g| g.width <= d_ff).cloned().collect();
    if kept.last().is_none_or(|last| last.width < d_ff) {
        kept.push(Granularity { name: format!("w{d_ff}"), width: d_ff });
    }
    let granularities = Granularities::try_from(kept)?;
    let config = model.config().with_nested(Nested {
        d_ff,
        granularities: Some(granularities.widths()),
        layer_d_ff: submodel.uniform_width().is_none().then(|| submodel.widths().to_vec()),
        ..model.config().nested()
    });
    let target = M::unset(&config, &model.device())?.with_granularities(granularities);
    refill(model, target, to_prefix)
}

/// The same weights in a model of another configuration, whose granularities and constants may be
/// others.
///
/// # Errors
/// [`Error::Config`] names the first key that other weights would be needed for.
pub fn with_config<M: Configured>(model: &M, config: &M::Config) -> Result<M> {
    converted(model, config, config, to_prefix)
}

/// The weights of a model, each through `convert(path, shape, values)`, in one of another
/// configuration. `comparable` is that configuration without what `convert` takes care of: in all
/// else that decides which tensors there are it must be the model's.
///
/// # Errors
/// [`Error::Config`] names the first key that other weights would be needed for; what `convert`
/// says.
pub fn converted<M: Configured>(
    model: &M,
    config: &M::Config,
    comparable: &M::Config,
    convert: impl FnMut(&str, &[usize], TensorData) -> Result<TensorData>,
) -> Result<M> {
    if let Some((field, found, expected)) = comparable.other_weights(model.config()) {
        return crate::config::unfit(field, found, format!("{expected}, as in the weights"));
    }
    let mut target = M::unset(config, &model.device())?;
    // The same widths keep their names, which the configuration does not hold.
    let (ours, theirs) = (&model.space().granularities, &target.space().granularities);
    if ours.widths() == theirs.widths() {
        target = target.with_granularities(ours.clone());
    }
    refill(model, target, convert)
}

/// Fills a model with the values of another, each converted.
fn refill<M: Configured>(
    model: &M,
    target: M,
    mut convert: impl FnMut(&str, &[usize], TensorData) -> Result<TensorData>,
) -> Result<M> {
    let mut values = HashMap::new();
    params::read(model, |path, data| {
        values.insert(path.to_owned(), data);
        Ok(())
    })?;
    params::fill(target, |path, shape| {
        let data = values.remove(path).ok_or_else(|| missing(path, "no such parameter"))?;
        convert(path, shape, data)
    })
}

fn missing(path: &str, message: &str) -> Error {
    Error::Read { tensor: path.to_owned(), message: message.to_owned() }
}

fn to_prefix(path: &str, shape: &[usize], data: TensorData) -> Result<TensorData> {
    prefix(data, shape).ok_or_else(|| missing(path, "not a prefix"))
}

/// The first entries of a row-major tensor along each of its dimensions: exactly `shape`, which
/// differs in the first two at most.
fn prefix(data: TensorData, shape: &[usize]) -> Option<TensorData> {
    let of = data.shape().to_vec();
    let fits = of.len() == shape.len() && of.iter().zip(shape).all(|(n, wanted)| n >= wanted);
    if !fits || of.get(2..) != shape.get(2..) {
        return None;
    }
    let mut values: Vec<f32> = data.convert::<f32>().try_into_vec::<f32>().ok()?;
    let (row, wanted) = (of[1..].iter().product::<usize>(), shape[1..].iter().product::<usize>());
    values.truncate(shape[0] * row);
    if wanted < row {
        let rows = values.chunks_exact(row);
        values = rows.flat_map(|row| row[..wanted].to_vec()).collect();
    }
    Some(TensorData::new(values, shape.to_vec()))
}
