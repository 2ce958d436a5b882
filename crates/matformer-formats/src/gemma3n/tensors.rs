//! The tensors of a Gemma 3n model, and what a slice keeps of each.

use std::{io, ops::Range};

use matformer_nn::{Error, Result};

use super::shim::{StoredTensor, TensorRef, Tensors};

use super::config::{Config, Kept};

/// The tensor that tells where the language model's are.
const PER_LAYER: &str = "embed_tokens_per_layer.weight";
const PROJECTION: &str = "per_layer_model_projection.weight";
const EMBEDDING: &str = "embed_tokens.weight";

/// What a slice keeps of a tensor: the same bytes out of each of its blocks.
pub(super) struct Cut<'a> {
    name: String,
    tensor: TensorRef<'a>,
    shape: Vec<usize>,
    /// Bytes of a block.
    block: usize,
    /// What is kept of it.
    ranges: Vec<Range<usize>>,
    /// Whether its parameters are effective ones.
    pub effective: bool,
}

impl<'a> Cut<'a> {
    /// All of it.
    fn whole(name: String, tensor: TensorRef<'a>) -> Self {
        let (block, shape) = (tensor.data.len(), tensor.shape.to_vec());
        Self { name, shape, block, ranges: vec![0..block; 1], tensor, effective: false }
    }

    /// The indices `kept` of the axis `axis`, which consists of `n` equal parts.
    fn parts(self, axis: usize, n: usize, kept: &[usize]) -> Self {
        let outer: usize = self.shape[..axis].iter().product();
        let block = self.tensor.data.len() / outer.max(1);
        let part = block / n.max(1);
        let mut shape = self.shape;
        shape[axis] = shape[axis] / n.max(1) * kept.len();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for &index in kept {
            let next = index * part..(index + 1) * part;
            match ranges.last_mut() {
                Some(last) if last.end == next.start => last.end = next.end,
                _ => ranges.push(next),
            }
        }
        Self { shape, block, ranges, ..self }
    }

    /// The first `width` of the axis `axis`.
    fn first(self, axis: usize, width: usize) -> Self {
        let n = self.shape[axis];
        let kept: Vec<usize> = (0..width).collect();
        self.parts(axis, n, &kept)
    }

    /// Its parameters.
    pub(super) fn params(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }

    /// What is written of it.
    pub(super) fn stored(self) -> StoredTensor<'a> {
        let Self { name, tensor, shape, block, ranges, .. } = self;
        let write = move |out: &mut dyn io::Write| {
            let blocks = tensor.data.chunks_exact(block.max(1));
            blocks
                .flat_map(|block| ranges.iter().map(|range| &block[range.clone()]))
                .try_for_each(|bytes| out.write_all(bytes))
        };
        StoredTensor::new(name, tensor.dtype, shape, write)
    }
}

/// What a slice keeps of each tensor, under the names that it has there.
pub(super) fn cut<'a>(
    tensors: &'a Tensors<'a>,
    config: &Config,
    kept: &Kept,
) -> Result<Vec<Cut<'a>>> {
    let cutter = Cutter { tensors, config, kept, prefix: prefix(tensors)? };
    cutter.check()?;
    let mut cuts = Vec::new();
    for name in tensors.names() {
        if let Some(tensor) = tensors.view(name) {
            cuts.extend(cutter.cut(name, tensor)?);
        }
    }
    Ok(cuts)
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
    fn cut<'a>(&self, name: &str, tensor: TensorRef<'a>) -> Result<Option<Cut<'a>>> {
        let Kept { layers, widths } = self.kept;
        let n = self.config.layers.widths.len();
        let whole = Cut::whole(name.to_owned(), tensor);
        let Some(inside) = name.strip_prefix(self.prefix) else { return Ok(Some(whole)) };
        let whole = Cut { effective: ![PER_LAYER, EMBEDDING].contains(&inside), ..whole };
        match inside {
            PER_LAYER => return Ok(Some(whole.parts(1, n, layers))),
            PROJECTION => return Ok(Some(whole.parts(0, n, layers))),
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
        let whole = Cut { name: format!("{}layers.{new}.{rest}", self.prefix), ..whole };
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
