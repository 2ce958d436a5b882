//! Submodels cut out of weights files: no model is in memory.

use std::collections::HashMap;

use matformer_core::{Dtype, Submodel};

use crate::{
    Error, Folder, Result,
    convert::standalone,
    params,
    weights::{Cut, StoredTensor, Tensors, common_dtype},
};

/// What is cut out, and how it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceOptions {
    /// The submodel.
    pub submodel: Submodel,
    /// Whether narrower layers are padded with zeros to the widest: a model of equal widths that
    /// computes the same.
    pub pad: bool,
    /// How numbers are written; as they are stored if absent.
    pub dtype: Option<Dtype>,
}

/// A submodel before its weights are copied.
pub struct Slice<'a, M> {
    /// The standalone model, its parameters unset.
    pub model: M,
    /// Its tensors, which are copied when they are written.
    pub tensors: Vec<StoredTensor<'a>>,
}

impl<M: Folder> Slice<'_, M> {
    /// Number of its parameters.
    pub fn params(&self) -> usize {
        let numbers = |tensor: &StoredTensor<'_>| tensor.shape.iter().product::<usize>();
        self.tensors.iter().map(numbers).sum()
    }

    /// The dtype that all its tensors have, or f32 where they have several.
    pub fn dtype(&self) -> Dtype {
        common_dtype(self.tensors.iter().map(|tensor| tensor.dtype))
    }
}

/// The standalone model of one submodel, as [`extract`](crate::extract) gives it, of a model whose parameters may be
/// unset ([`load_unset`](crate::folder::load_unset)). Writing its tensors reads only the bytes of the submodel, piece
/// by piece, and fails if a value is NaN or infinite.
///
/// # Errors
/// When the submodel does not fit the model, or a tensor is missing or has another shape or dtype
/// than the model's.
pub fn slice<'a, M: Folder>(
    model: &M,
    tensors: &'a Tensors<'_>,
    options: &SliceOptions,
) -> Result<Slice<'a, M>> {
    let SliceOptions { submodel, pad, dtype } = options;
    model.space().check(submodel)?;
    let unset = |submodel: &Submodel| -> Result<M> {
        let (config, space) = standalone(model.config(), model.space(), submodel)?;
        M::unset(&config, space, &model.device())
    };
    let kept = unset(submodel)?;
    let target = if *pad { unset(&submodel.padded())? } else { unset(submodel)? };
    let shapes =
        |model: &M| -> HashMap<String, Vec<usize>> { params::shapes(model).into_iter().collect() };
    let (all, kept) = (shapes(model), shapes(&kept));
    let cut = |(path, shape): (String, Vec<usize>)| {
        let of = |shapes: &HashMap<String, Vec<usize>>| {
            let found = shapes.get(&path).cloned();
            found.ok_or_else(|| Error::read(&path, "no such parameter"))
        };
        let view = tensors.view_of_shape(&model.tensor_name(&path), &of(&all)?)?;
        let dtype = dtype.unwrap_or(view.dtype);
        let cut = Cut { kept: of(&kept)?, shape: shape.clone(), dtype };
        let name = target.tensor_name(&path);
        Ok(StoredTensor::new(name, dtype, shape, move |out| view.write(&cut, out)))
    };
    let tensors = params::shapes(&target).into_iter().map(cut).collect::<Result<_>>()?;
    Ok(Slice { model: target, tensors })
}
