//! Writes a language model as a GGUF file that llama.cpp runs.

use std::{collections::BTreeMap, fmt, io, io::Write, path::Path, str::FromStr};

use burn::tensor::f16;
use candle_core::quantized::GgmlDType;
use matformer_core::{Dtype, fs};
use matformer_lm::MatLm;
use matformer_nn::{
    Error, Folder, Result, params,
    weights::{self, StoredTensor},
};

use super::{
    GgufFacts,
    ggml::{self, GgmlType, quantize},
    names::{self, ROPE_FREQS},
    output::{self, Head, Value, entry},
    shape::Shape,
    tokenizer,
};

/// A model that is to be written.
#[derive(Debug)]
pub struct GgufModel<'a> {
    /// Its shape and the names of its tensors; their values are not looked at.
    pub model: &'a MatLm,
    /// What it is called: `general.name`.
    pub name: &'a str,
    /// The folder of its `tokenizer.json`, and of `tokenizer_config.json` and `chat_template.jinja`
    /// if it has them.
    pub tokenizer_dir: &'a Path,
    /// What stands in place of `tokenizer_config.json`: with the special tokens that only other files
    /// name.
    pub tokenizer_config: Option<&'a str>,
    /// What the file says of it as a slice.
    pub facts: Option<GgufFacts<'a>>,
}

/// How matrices are stored. Vectors stay f32, as llama.cpp wants them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GgufDtype {
    /// 32 bits each.
    F32,
    /// 16 bits as IEEE 754 has them.
    #[default]
    F16,
    /// The upper half of an f32.
    Bf16,
    /// 8 bits and a scale per 32 neighbours. A matrix whose rows are no multiple of 32 is stored as
    /// f16.
    Q8_0,
}

impl GgufDtype {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0];

    fn ggml(self) -> GgmlType {
        match self {
            Self::F32 => GgmlType::Plain(Dtype::F32),
            Self::F16 => GgmlType::Plain(Dtype::F16),
            Self::Bf16 => GgmlType::Plain(Dtype::Bf16),
            Self::Q8_0 => GgmlType::Blocks(GgmlDType::Q8_0),
        }
    }

    /// `general.file_type`, as llama.cpp numbers files whose matrices are mostly of one type.
    fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Bf16 => 32,
        }
    }
}

impl fmt::Display for GgufDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ggml().name())
    }
}

impl FromStr for GgufDtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|dtype| dtype.to_string() == text);
        named.ok_or_else(|| format!("`{text}`; expected f32, f16, bf16 or q8_0"))
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Notes for the user about deviations from the requested options or from the model's own tokenizer, one sentence
    /// each.
    pub notes: Vec<String>,
}

/// Writes a model as a GGUF file, whole or not at all, in place of one that is there; missing folders above it
/// are made. The values of one tensor at a time are in memory.
///
/// The architecture is `llama`, `qwen2`, `qwen3` or `smollm3` by what the model has, or `deci` where
/// the widths of its layers differ.
///
/// # Errors
/// When llama.cpp cannot run the model or has no tokenizer like its own, a tensor is unknown, missing
/// or of another shape, a value is NaN, infinite or too large for f16, or the file cannot be written.
pub fn write(
    path: &Path,
    model: &GgufModel<'_>,
    dtype: GgufDtype,
    mut tensors: Vec<StoredTensor<'_>>,
) -> Result<Written> {
    let shape = Shape::of(model.model.config())?;
    let sources = tokenizer::Sources {
        dir: model.tokenizer_dir,
        config: model.tokenizer_config,
        bos: shape.config.special_tokens.bos(),
        ends: shape.config.special_tokens.ends(),
    };
    let tokens = tokenizer::metadata(&sources, shape.config.vocab_size)?;
    let mut metadata = shape.metadata();
    metadata.insert(1, entry("general.type", "model"));
    metadata.insert(2, entry("general.name", model.name));
    metadata.push(("general.file_type".to_owned(), Value::Unsigned(dtype.file_type())));
    metadata.push(("general.quantization_version".to_owned(), Value::Unsigned(2)));
    if let Some(facts) = &model.facts {
        metadata.extend(facts.metadata()?);
    }
    metadata.extend(tokens.metadata);
    let mut notes = tokens.notes;
    let mut heads = heads(path, model.model, &shape, dtype, &tensors, &mut notes)?;
    if let Some(factors) = shape.rope_factors() {
        let (n, dtype) = (vec![factors.len()], Dtype::F32);
        let ggml = GgmlType::Plain(dtype);
        heads.push(Head { name: ROPE_FREQS.to_owned(), shape: n.clone(), ggml });
        tensors.push(StoredTensor::new(ROPE_FREQS, dtype, n, move |out| {
            weights::write_values(factors.iter().copied(), dtype, out)
        }));
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    fs::write_atomic_with(path, |out| {
        output::header(&metadata, &heads, out)?;
        for (head, tensor) in heads.iter().zip(&tensors) {
            let bytes = bytes(path, &shape, head, tensor).map_err(io::Error::other)?;
            out.write_all(&bytes)?;
            output::pad(bytes.len(), out)?;
        }
        Ok(())
    })?;
    Ok(Written { architecture: shape.arch.name(), notes })
}

/// Where and how each tensor is stored. Each tensor of the model must be there once.
fn heads(
    path: &Path,
    model: &MatLm,
    shape: &Shape<'_>,
    dtype: GgufDtype,
    tensors: &[StoredTensor<'_>],
    notes: &mut Vec<String>,
) -> Result<Vec<Head>> {
    let shapes = params::shapes(model).into_iter();
    let expected: BTreeMap<String, Vec<usize>> =
        shapes.map(|(param, shape)| (model.tensor_name(&param), shape)).collect();
    let mut left = expected.clone();
    let wrong = |tensor: &str, found: &str, expected: String| Error::Tensor {
        path: path.to_owned(),
        tensor: tensor.to_owned(),
        found: found.to_owned(),
        expected,
    };
    let once = || format!("each tensor of `{}` once", shape.arch.name());
    let mut heads = Vec::new();
    for tensor in tensors {
        let Some((name, expected)) = names::gguf(&tensor.name).zip(expected.get(&tensor.name))
        else {
            let expected = format!("a tensor of `{}`", shape.arch.name());
            return Err(wrong(&tensor.name, "a tensor that llama.cpp does not have", expected));
        };
        if tensor.shape != *expected {
            let found = format!("shape {:?}", tensor.shape);
            return Err(wrong(&tensor.name, &found, format!("shape {expected:?}")));
        }
        if left.remove(&tensor.name).is_none() {
            return Err(wrong(&tensor.name, "two of this name", once()));
        }
        heads.push(head(name, &tensor.shape, dtype, notes));
    }
    match left.first_key_value() {
        None => Ok(heads),
        Some((missing, _)) => Err(wrong(missing, "nothing", once())),
    }
}

/// How a tensor of this shape is stored.
fn head(name: String, shape: &[usize], dtype: GgufDtype, notes: &mut Vec<String>) -> Head {
    let block = dtype.ggml().block();
    let ggml = match *shape {
        [_, width] if !width.is_multiple_of(block) => {
            notes.push(format!(
                "`{name}` has rows of {width}, no multiple of {block}: it is stored as f16"
            ));
            GgmlType::Plain(Dtype::F16)
        }
        [_, _] => dtype.ggml(),
        _ => GgmlType::Plain(Dtype::F32),
    };
    Head { name, shape: shape.to_vec(), ggml }
}

/// The values of a tensor as they are stored.
fn bytes(
    path: &Path,
    shape: &Shape<'_>,
    head: &Head,
    tensor: &StoredTensor<'_>,
) -> Result<Vec<u8>> {
    let values = tensor.floats()?;
    let wrong = |found: String, expected: String| Error::Tensor {
        path: path.to_owned(),
        tensor: tensor.name.clone(),
        found,
        expected,
    };
    let n: usize = head.shape.iter().product();
    if values.len() != n {
        return Err(wrong(format!("{} values", values.len()), format!("{n} of them")));
    }
    let most = match head.ggml {
        GgmlType::Plain(Dtype::F16) => f16::MAX.to_f32(),
        // The scale is an f16.
        GgmlType::Blocks(_) => f16::MAX.to_f32() * 127.0,
        _ => f32::MAX,
    };
    if let Some(bad) = values.iter().find(|value| !value.is_finite() || value.abs() > most) {
        let expected = format!("values of at most {most} for {}", head.ggml.name());
        return Err(wrong(bad.to_string(), expected));
    }
    let heads = shape.heads();
    let values = match names::permuted_heads(shape.arch, &tensor.name, heads) {
        Some(_) => permuted(&values, head.shape[0], heads.dim),
        None => values,
    };
    let encoded = match head.ggml {
        GgmlType::Plain(dtype) => ggml::stored(values, dtype).map_err(|e| e.to_string()),
        GgmlType::Blocks(blocks) => quantize(blocks, &values).map_err(|e| e.to_string()),
    };
    encoded.map_err(|error| Error::read(&tensor.name, error))
}

/// The rows of queries or keys in the order of llama.cpp.
fn permuted(values: &[f32], rows: usize, head_dim: usize) -> Vec<f32> {
    let width = values.len() / rows;
    let row = |row| {
        let from = names::row_in_hugging_face(row, head_dim) * width;
        &values[from..from + width]
    };
    (0..rows).flat_map(row).copied().collect()
}
