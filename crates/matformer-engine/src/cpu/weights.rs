//! The weights of a language model, packed for decoding.

use std::collections::BTreeMap;

use matformer_core::Space;
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{Elastic, folder::ReadParameter, memory::Pages, params};

use super::matrix::{Matrix, Store, View};
use crate::{Error, Format, Result};

/// A product, and a bias where there is one.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    /// `[head_dim]`
    pub(crate) q_norm: Option<Vec<f32>>,
    pub(crate) k_norm: Option<Vec<f32>>,
    pub(crate) attention_post_norm: Option<Vec<f32>>,
    pub(crate) ffn_norm: Vec<f32>,
    /// `[d_ff, d_model]`
    pub(crate) up: Matrix,
    pub(crate) gate: Option<Matrix>,
    /// `[d_model, d_ff]`
    pub(crate) down: Matrix,
    pub(crate) ffn_post_norm: Option<Vec<f32>>,
}

/// A language model's weights and shape.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) config: MatLmConfig,
    pub(crate) space: Space,
    pub(crate) embed: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    /// Absent where it is the embedding.
    pub(crate) head: Option<Matrix>,
    /// Where all matrices are.
    pages: Pages,
}

impl Weights {
    /// Packs the matrices of a model, whose parameters may be unset: `read` gives the values.
    pub(crate) fn read(
        model: &MatLm,
        format: Format,
        read: &mut ReadParameter<'_>,
    ) -> Result<Self> {
        let config = model.config().clone();
        let shapes: BTreeMap<String, Vec<usize>> = params::shapes(model).into_iter().collect();
        let matrices = shapes.values().filter_map(|shape| <[usize; 2]>::try_from(&shape[..]).ok());
        let store = Store::new(format, matrices)?;
        let mut all = Parameters { store, plus_one: config.norm_plus_one, shapes, read };
        let layers = (0..config.n_layers).map(|i| all.layer(i)).collect::<Result<_>>()?;
        Ok(Self {
            space: model.space().clone(),
            embed: all.matrix("embed")?,
            layers,
            norm: all.norm("norm.gamma")?,
            head: all.has("head").then(|| all.matrix("head")).transpose()?,
            config,
            pages: all.store.finish(),
        })
    }

    /// `[vocab, d_model]`
    pub(crate) fn head(&self) -> View<'_> {
        self.view(self.head.as_ref().unwrap_or(&self.embed))
    }

    /// A matrix of these weights, to be read.
    pub(crate) fn view<'a>(&'a self, matrix: &'a Matrix) -> View<'a> {
        matrix.view(&self.pages)
    }
}

/// Parameters by path, each read once: packed weights are never all in f32.
struct Parameters<'a, 'b> {
    store: Store,
    plus_one: bool,
    shapes: BTreeMap<String, Vec<usize>>,
    read: &'a mut ReadParameter<'b>,
}

impl Parameters<'_, '_> {
    fn has(&self, path: &str) -> bool {
        self.shapes.contains_key(path)
    }

    fn take(&mut self, path: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let Some(shape) = self.shapes.remove(path) else {
            return Err(Error::parameter(path, "the model has none"));
        };
        let values = (self.read)(path, &shape)?;
        Ok((shape, values))
    }

    fn matrix(&mut self, path: &str) -> Result<Matrix> {
        let (shape, values) = self.take(path)?;
        let [rows, cols] = shape[..] else {
            return Err(Error::parameter(
                path,
                format!("found shape {shape:?}, expected two dimensions"),
            ));
        };
        self.store.add([rows, cols], &values)
    }

    fn vector(&mut self, path: &str) -> Result<Option<Vec<f32>>> {
        self.has(path).then(|| self.take(path).map(|(_, values)| values)).transpose()
    }

    /// The weight of a norm; where norms multiply by 1 plus it, with the 1.
    fn norm(&mut self, path: &str) -> Result<Vec<f32>> {
        let add = if self.plus_one { 1.0 } else { 0.0 };
        self.take(path).map(|(_, values)| values.into_iter().map(|v| v + add).collect())
    }

    fn norm_if_any(&mut self, path: &str) -> Result<Option<Vec<f32>>> {
        self.has(path).then(|| self.norm(path)).transpose()
    }

    fn linear(&mut self, path: &str) -> Result<Linear> {
        let weight = self.matrix(&format!("{path}.weight"))?;
        Ok(Linear { weight, bias: self.vector(&format!("{path}.bias"))? })
    }

    fn layer(&mut self, index: usize) -> Result<Layer> {
        let at = |name: &str| format!("layers.{index}.{name}");
        Ok(Layer {
            attention_norm: self.norm(&at("attention_norm.gamma"))?,
            q: self.linear(&at("attention.q"))?,
            k: self.linear(&at("attention.k"))?,
            v: self.linear(&at("attention.v"))?,
            o: self.linear(&at("attention.o"))?,
            q_norm: self.norm_if_any(&at("attention.q_norm"))?,
            k_norm: self.norm_if_any(&at("attention.k_norm"))?,
            attention_post_norm: self.norm_if_any(&at("attention_post_norm.gamma"))?,
            ffn_norm: self.norm(&at("ffn_norm.gamma"))?,
            up: self.matrix(&at("ffn.up"))?,
            gate: self.has(&at("ffn.gate")).then(|| self.matrix(&at("ffn.gate"))).transpose()?,
            down: self.matrix(&at("ffn.down"))?,
            ffn_post_norm: self.norm_if_any(&at("ffn_post_norm.gamma"))?,
        })
    }
}
