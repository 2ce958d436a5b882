//! The tensors of a Gemma 3n model, and what a slice keeps of each.

use std::ops::Range;

use matformer_nn::{
    Error, Result,
    weights::{Cut, StoredTensor, TensorRef, Tensors},
};

use super::config::{Config, Kept};

/// The tensor that tells where the language model's are.
const PER_LAYER: &str = "embed_tokens_per_layer.weight";
const PROJECTION: &str = "per_layer_model_projection.weight";
const EMBEDDING: &str = "embed_tokens.weight";

/// What a slice keeps of a tensor.
pub(super) struct Slice<'a> {
    name: String,
    tensor: TensorRef<'a>,
    shape: Vec<usize>,
    part: Part,
    /// Whether its parameters are effective ones.
    pub effective: bool,
}

/// A part of a tensor.
enum Part {
    /// The first entries along the first two dimensions, or all of them.
    First(Cut),
    /// The same bytes of each block of so many bytes.
    OfBlocks { block: usize, ranges: Vec<Range<usize>> },
}

impl<'a> Slice<'a> {
    /// All of a tensor.
    fn whole(name: String, tensor: TensorRef<'a>) -> Self {
        let part = Part::First(Cut::whole(&tensor));
        Self { name, shape: tensor.shape.to_vec(), tensor, part, effective: false }
    }

    /// The first `width` entries of a dimension.
    fn first(mut self, axis: usize, width: usize) -> Self {
        self.shape[axis] = width;
        let (kept, shape) = (self.shape.clone(), self.shape.clone());
        Self { part: Part::First(Cut { kept, shape, dtype: self.tensor.dtype }), ..self }
    }

    /// The entries of a dimension, which has as many for each of `n` layers, that are of the layers
    /// `kept`.
    fn of_layers(mut self, axis: usize, n: usize, kept: &[usize]) -> Self {
        let below: usize = self.shape[axis..].iter().product();
        let block = below * self.tensor.dtype.size();
        let size = block / n;
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for layer in kept {
            let next = layer * size..(layer + 1) * size;
            match ranges.last_mut() {
                Some(last) if last.end == next.start => last.end = next.end,
                _ => ranges.push(next),
            }
        }
        self.shape[axis] = self.shape[axis] / n * kept.len();
        Self { part: Part::OfBlocks { block, ranges }, ..self }
    }

    /// Its parameters.
    pub(super) fn params(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }

    /// What is written of it.
    pub(super) fn stored(self) -> StoredTensor<'a> {
        let Self { name, tensor, shape, part, .. } = self;
        StoredTensor::new(name, tensor.dtype, shape, move |out| match &part {
            Part::First(cut) => tensor.write(cut, out),
            Part::OfBlocks { block, ranges } => tensor.write_blocks(*block, ranges, out),
        })
    }
}

/// What a slice keeps of each tensor, under the names that it has there.
pub(super) fn slices<'a>(
    tensors: &'a Tensors<'a>,
    config: &Config,
    kept: &Kept,
) -> Result<Vec<Slice<'a>>> {
    let cutter = Cutter { tensors, config, kept, prefix: prefix(tensors)? };
    cutter.check()?;
    let mut slices = Vec::new();
    for name in tensors.names() {
        slices.extend(cutter.slice(name, tensors.view(name)?)?);
    }
    Ok(slices)
}

/// What stands in front of the names of the language model's tensors.
fn prefix<'a>(tensors: &'a Tensors<'_>) -> Result<&'a str> {
    let mut found = tensors.names().filter_map(|name| name.strip_suffix(PER_LAYER));
    let missing = || missing(tensors, PER_LAYER, "the per-layer embeddings of a Gemma 3n model");
    found.next().ok_or_else(missing)
}

fn missing(tensors: &Tensors<'_>, name: &str, expected: &str) -> Error {
    Error::Tensor {
        path: tensors.first().to_owned(),
        tensor: name.to_owned(),
        found: "nothing".to_owned(),
        expected: expected.to_owned(),
    }
}

struct Cutter<'a> {
    tensors: &'a Tensors<'a>,
    config: &'a Config,
    kept: &'a Kept,
    prefix: &'a str,
}

impl Cutter<'_> {
    /// That what is cut is there, with the shape that the configuration says.
    fn check(&self) -> Result<()> {
        let Config { layers, hidden, per_layer, .. } = self.config;
        let all = layers.widths.len() * per_layer;
        let vocabulary = self.shape(PER_LAYER).and_then(|shape| shape.first().copied());
        self.expect(PER_LAYER, &[vocabulary.unwrap_or_default(), all])?;
        self.expect(PROJECTION, &[all, *hidden])?;
        for (layer, width) in layers.widths.iter().enumerate() {
            for (name, shape) in [
                ("gate_proj", [*width, *hidden]),
                ("up_proj", [*width, *hidden]),
                ("down_proj", [*hidden, *width]),
            ] {
                self.expect(&format!("layers.{layer}.mlp.{name}.weight"), &shape)?;
            }
        }
        Ok(())
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.shape(&format!("{}{name}", self.prefix))
    }

    fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        let wrong = |found: String| Error::Tensor {
            path: self.tensors.first().to_owned(),
            tensor: format!("{}{name}", self.prefix),
            found,
            expected: format!("shape {shape:?}, as `config.json` says"),
        };
        match self.shape(name) {
            Some(found) if found == shape => Ok(()),
            Some(found) => Err(wrong(format!("shape {found:?}"))),
            None => Err(wrong("nothing".to_owned())),
        }
    }

    /// What is kept of a tensor; nothing of those of a layer that is left out.
    fn slice<'a>(&self, name: &str, tensor: TensorRef<'a>) -> Result<Option<Slice<'a>>> {
        let Kept { layers, widths } = self.kept;
        let n = self.config.layers.widths.len();
        let whole = Slice::whole(name.to_owned(), tensor);
        let Some(inside) = name.strip_prefix(self.prefix) else { return Ok(Some(whole)) };
        let whole = Slice { effective: ![PER_LAYER, EMBEDDING].contains(&inside), ..whole };
        match inside {
            PER_LAYER => return Ok(Some(whole.of_layers(1, n, layers))),
            PROJECTION => return Ok(Some(whole.of_layers(0, n, layers))),
            _ => {}
        }
        let Some((layer, rest)) = inside.strip_prefix("layers.").and_then(|of| of.split_once('.'))
        else {
            return Ok(Some(whole));
        };
        let layer: usize = match layer.parse() {
            Ok(layer) if layer < n => layer,
            _ => return Err(self.unknown_layer(name)),
        };
        let Some(new) = layers.iter().position(|kept| *kept == layer) else { return Ok(None) };
        let whole = Slice { name: format!("{}layers.{new}.{rest}", self.prefix), ..whole };
        Ok(Some(match rest {
            "mlp.gate_proj.weight" | "mlp.up_proj.weight" => whole.first(0, widths[new]),
            "mlp.down_proj.weight" => whole.first(1, widths[new]),
            _ => whole,
        }))
    }

    fn unknown_layer(&self, name: &str) -> Error {
        Error::Tensor {
            path: self.tensors.first().to_owned(),
            tensor: name.to_owned(),
            found: "a tensor of another layer".to_owned(),
            expected: format!("{} layers, as `config.json` says", self.config.layers.widths.len()),
        }
    }
}
