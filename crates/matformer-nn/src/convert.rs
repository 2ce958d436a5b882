//! Models made of another's weights: cut to one submodel, or with another configuration.

use std::collections::HashMap;

use burn::tensor::TensorData;
use matformer_core::{Granularities, Granularity, Space, Submodel};

use crate::{
    Error, Folder, Result,
    config::{ModelConfig, Nested},
    params::{self, Parameter},
};

/// The standalone model of one submodel: the same weights, cut by prefix, every layer exactly as
/// wide as in the submodel. Granularities up to the submodel's largest width are kept. If that
/// width is not a granularity, it is added as the largest, named after its width: `w96`.
///
/// # Errors
/// When the submodel does not fit the model, or a tensor cannot be read from its device.
pub fn extract<M: Folder>(model: &M, submodel: &Submodel) -> Result<M> {
    model.space().check(submodel)?;
    let (config, space) = standalone(model.config(), model.space(), submodel)?;
    refill(model, &config, space, to_prefix)
}

/// Configuration and space of a model of its own whose layers have the widths of `submodel`, of which there is
/// one per layer. Whether a model of `config` and `space` can run it is not checked: a padded slice is wider.
///
/// # Errors
/// When all widths are 0.
pub fn standalone<C: ModelConfig>(
    config: &C,
    space: &Space,
    submodel: &Submodel,
) -> Result<(C, Space)> {
    let d_ff = submodel.max_width();
    let mut kept: Vec<Granularity> =
        space.granularities.iter().filter(|g| g.width <= d_ff).cloned().collect();
    if kept.last().is_none_or(|last| last.width < d_ff) {
        kept.push(Granularity { name: format!("w{d_ff}"), width: d_ff });
    }
    let granularities = Granularities::try_from(kept)?;
    let layer_d_ff = submodel.uniform_width().is_none().then(|| submodel.widths().to_vec());
    let config = config.with_nested(Nested {
        d_ff,
        granularities: Some(granularities.widths()),
        layer_d_ff: layer_d_ff.clone(),
        ..config.nested()
    });
    let space = Space::new(space.n_layers, d_ff, space.multiple, granularities)?;
    Ok((config, space.with_layers(layer_d_ff)))
}

/// The same weights in a model of another configuration, whose granularities and constants may be
/// others.
///
/// # Errors
/// [`Error::Config`] names the first key that other weights would be needed for.
pub fn with_config<M: Folder>(model: &M, config: &M::Config) -> Result<M> {
    converted(model, config, config, to_prefix)
}

/// A model of another configuration with the weights of this one, each passed through
/// `convert(path, shape, values)`, which returns values of that shape. `comparable` is `config`
/// with each field that `convert` handles set to the model's own value: all its
/// [`WEIGHT_KEYS`](ModelConfig::WEIGHT_KEYS) must equal those of the model.
///
/// # Errors
/// [`Error::Config`] names the first key that other weights would be needed for; an error of
/// `convert` is returned as it is.
pub fn converted<M: Folder>(
    model: &M,
    config: &M::Config,
    comparable: &M::Config,
    convert: impl FnMut(&str, &[usize], TensorData) -> Result<TensorData>,
) -> Result<M> {
    if let Some((field, found, expected)) = comparable.other_weights(model.config()) {
        return crate::config::unfit(field, found, format!("{expected}, as in the weights"));
    }
    let mut space = config.space()?;
    // The same widths keep their names, which the configuration does not hold.
    let ours = &model.space().granularities;
    if ours.widths() == space.granularities.widths() {
        space.granularities = ours.clone();
    }
    refill(model, config, space, convert)
}

/// A model of another configuration, filled with the converted values of this one, one parameter
/// at a time.
fn refill<M: Folder>(
    model: &M,
    config: &M::Config,
    space: Space,
    mut convert: impl FnMut(&str, &[usize], TensorData) -> Result<TensorData>,
) -> Result<M> {
    config.validate()?;
    let target = M::unset(config, space, &model.device())?;
    let parameters: HashMap<String, Parameter> =
        params::all(model).into_iter().map(|p| (p.path.clone(), p)).collect();
    params::fill(target, |path, shape| {
        let parameter =
            parameters.get(path).ok_or_else(|| Error::read(path, "no such parameter"))?;
        let converted = convert(path, shape, parameter.read()?)?;
        // Truncated values keep their old capacity: a clone does not.
        Ok(if parameter.shape == shape { converted } else { converted.clone() })
    })
}

/// The same model with entries of its parameters in another order: `order(path)` gives the order of
/// a parameter's entries along an axis, 0 or 1; `None` leaves it as it is.
///
/// # Errors
/// When a tensor cannot be read from its device.
pub(crate) fn permuted<'a, M: Folder>(
    model: &M,
    order: impl Fn(&str) -> Option<(&'a [usize], usize)>,
) -> Result<M> {
    let (config, space) = (model.config(), model.space().clone());
    refill(model, config, space, |path, shape, data| {
        let Some((order, axis)) = order(path) else {
            return Ok(data);
        };
        let values: Vec<f32> =
            data.convert::<f32>().try_into_vec().map_err(|error| Error::read(path, error))?;
        let row = shape[1..].iter().product::<usize>();
        let rows = values.chunks_exact(row.max(1));
        let values: Vec<f32> = if axis == 0 {
            order.iter().flat_map(|i| &values[i * row..][..row]).copied().collect()
        } else {
            rows.flat_map(|row| order.iter().map(|i| row[*i])).collect()
        };
        Ok(TensorData::new(values, shape.to_vec()))
    })
}

fn to_prefix(path: &str, shape: &[usize], data: TensorData) -> Result<TensorData> {
    prefix(data, shape).ok_or_else(|| Error::read(path, "not a prefix"))
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
