//! Writes a language model as a GGUF file that llama.cpp runs.

use std::{fmt, io, io::Write, path::Path, str::FromStr};

use burn::tensor::{bf16, f16};
use candle_core::quantized::GgmlDType;
use matformer_core::{Dtype, fs};
use matformer_lm::MatLmConfig;
use matformer_nn::{Error, Result};

use super::{
    ggml::{GgmlType, quantize},
    names::{self, ROPE_FREQS},
    output::{self, Head, Value},
    shape::Shape,
    tokenizer,
};

/// A model that is to be written.
#[derive(Debug)]
pub struct GgufModel<'a> {
    /// Its shape.
    pub config: &'a MatLmConfig,
    /// What it is called: `general.name`.
    pub name: &'a str,
    /// The folder of its `tokenizer.json`, and of `tokenizer_config.json` and `chat_template.jinja`
    /// if it has them.
    pub tokenizer_dir: &'a Path,
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

/// A tensor that is to be written.
pub struct GgufTensor<'a> {
    /// Its name in Hugging Face's folders.
    pub hf_name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Reads its values, row-major.
    pub read: Box<dyn Fn() -> Result<Vec<f32>> + 'a>,
}

impl fmt::Debug for GgufTensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GgufTensor({} {:?})", self.hf_name, self.shape)
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// What is otherwise than asked for, or than with the model's own tokenizer: a sentence each.
    pub notes: Vec<String>,
}

/// Writes a model as a GGUF file, whole or not at all, in place of one that is there. The values of
/// one tensor at a time are in memory.
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
    tensors: Vec<GgufTensor<'_>>,
) -> Result<Written> {
    let shape = Shape::of(model.config)?;
    let ends = model.config.special_tokens.ends();
    let tokens = tokenizer::metadata(model.tokenizer_dir, shape.vocab_size, &ends)?;
    let mut notes = tokens.notes;
    let mut metadata = shape.metadata();
    metadata.insert(1, text("general.type", "model"));
    metadata.insert(2, text("general.name", model.name));
    metadata.push(("general.file_type".to_owned(), Value::Unsigned(dtype.file_type())));
    metadata.push(("general.quantization_version".to_owned(), Value::Unsigned(2)));
    metadata.extend(tokens.metadata);
    let mut heads = Vec::new();
    for tensor in &tensors {
        heads.push(head(path, &shape, dtype, tensor, &mut notes)?);
    }
    if let Some(name) = shape.not_once(&tensors) {
        let twice = tensors.iter().any(|tensor| tensor.hf_name == name);
        return Err(Error::Tensor {
            path: path.to_owned(),
            tensor: name,
            found: if twice { "two of this name" } else { "nothing" }.to_owned(),
            expected: format!("each tensor of `{}` once", shape.arch.name()),
        });
    }
    let mut sources: Vec<Source<'_>> =
        tensors.iter().map(|tensor| Source { tensor: Some(tensor), factors: &[] }).collect();
    let factors = shape.rope_factors();
    if let Some(factors) = &factors {
        let ggml = GgmlType::Plain(Dtype::F32);
        heads.push(Head { name: ROPE_FREQS.to_owned(), shape: vec![factors.len()], ggml });
        sources.push(Source { tensor: None, factors });
    }
    let mut failed = None;
    let written = fs::write_atomic_with(path, |out| {
        output::header(&metadata, &heads, out)?;
        for (head, source) in heads.iter().zip(&sources) {
            let bytes = source.bytes(path, &shape, head).map_err(|error| {
                let message = error.to_string();
                failed = Some(error);
                io::Error::other(message)
            })?;
            out.write_all(&bytes)?;
            output::pad(bytes.len(), out)?;
        }
        Ok(())
    });
    match failed {
        Some(error) => Err(error),
        None => {
            written?;
            Ok(Written { architecture: shape.arch.name(), notes })
        }
    }
}

pub(super) fn text(key: &str, value: &str) -> (String, Value) {
    (key.to_owned(), Value::Text(value.to_owned()))
}

/// Where and how a tensor is stored.
fn head(
    path: &Path,
    shape: &Shape,
    dtype: GgufDtype,
    tensor: &GgufTensor<'_>,
    notes: &mut Vec<String>,
) -> Result<Head> {
    let wrong = |found: String, expected: String| Error::Tensor {
        path: path.to_owned(),
        tensor: tensor.hf_name.clone(),
        found,
        expected,
    };
    let named = names::gguf(&tensor.hf_name);
    let Some((name, expected)) = named.zip(shape.tensor(&tensor.hf_name)) else {
        let expected = format!("a tensor of `{}`", shape.arch.name());
        return Err(wrong("a tensor that llama.cpp does not have".to_owned(), expected));
    };
    if tensor.shape != expected {
        return Err(wrong(format!("shape {:?}", tensor.shape), format!("shape {expected:?}")));
    }
    let ggml = match *tensor.shape {
        [_, width] if !width.is_multiple_of(dtype.ggml().block()) => {
            let block = dtype.ggml().block();
            notes.push(format!(
                "`{name}` has rows of {width}, no multiple of {block}: it is stored as f16"
            ));
            GgmlType::Plain(Dtype::F16)
        }
        [_, _] => dtype.ggml(),
        _ => GgmlType::Plain(Dtype::F32),
    };
    Ok(Head { name, shape: expected, ggml })
}

/// Where the values of a tensor come from.
struct Source<'a> {
    tensor: Option<&'a GgufTensor<'a>>,
    /// The values, where there is no tensor.
    factors: &'a [f32],
}

impl Source<'_> {
    /// The values as they are stored.
    fn bytes(&self, path: &Path, shape: &Shape, head: &Head) -> Result<Vec<u8>> {
        let Some(tensor) = self.tensor else { return encode(head.ggml, self.factors) };
        let values = (tensor.read)()?;
        let wrong = |found: String, expected: &str| Error::Tensor {
            path: path.to_owned(),
            tensor: tensor.hf_name.clone(),
            found,
            expected: expected.to_owned(),
        };
        let n: usize = head.shape.iter().product();
        if values.len() != n {
            return Err(wrong(format!("{} values", values.len()), &format!("{n} of them")));
        }
        let most = match head.ggml {
            GgmlType::Plain(Dtype::F16) => f16::MAX.to_f32(),
            // The scale is an f16.
            GgmlType::Blocks(_) => f16::MAX.to_f32() * 127.0,
            _ => f32::MAX,
        };
        if let Some(bad) = values.iter().find(|value| !value.is_finite() || value.abs() > most) {
            let expected = format!("values of at most {most} for {}", head.ggml.name());
            return Err(wrong(bad.to_string(), &expected));
        }
        let heads = names::permuted_heads(shape.arch, &tensor.hf_name, shape.heads);
        let values = match heads {
            Some(_) => permuted(&values, head.shape[0], shape.heads.dim),
            None => values,
        };
        encode(head.ggml, &values)
    }
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

/// Values as they are stored.
fn encode(ggml: GgmlType, values: &[f32]) -> Result<Vec<u8>> {
    Ok(match ggml {
        GgmlType::Plain(Dtype::F32) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        GgmlType::Plain(Dtype::F16) => {
            values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()
        }
        GgmlType::Plain(Dtype::Bf16) => {
            values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()
        }
        GgmlType::Blocks(blocks) => {
            quantize(blocks, values).map_err(|error| Error::read("blocks", error))?
        }
    })
}
