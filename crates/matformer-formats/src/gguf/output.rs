//! Writes the container of a GGUF file: metadata, then where the tensors lie, then their values.

use std::io::{self, Write};

use super::{
    container::{ALIGNMENT, MAGIC, kind},
    ggml::GgmlType,
};

/// Version of the format that is written.
const VERSION: u32 = 3;

/// A value of the metadata that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u32),
    Float(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Unsigneds(Vec<u32>),
    Integers(Vec<i32>),
    Floats(Vec<f32>),
}

/// An entry of the metadata with a text.
pub(super) fn entry(key: &str, value: &str) -> (String, Value) {
    (key.to_owned(), Value::Text(value.to_owned()))
}

/// A tensor that is to be written.
#[derive(Debug)]
pub(super) struct Head {
    /// Its name in the file.
    pub(super) name: String,
    /// Its shape, the longest stride first.
    pub(super) shape: Vec<usize>,
    /// How its values are stored.
    pub(super) ggml: GgmlType,
}

impl Head {
    /// Bytes of its values.
    pub(super) fn bytes(&self) -> usize {
        let elements: usize = self.shape.iter().product();
        elements / self.ggml.block() * self.ggml.block_bytes()
    }
}

/// Writes everything before the values of the first tensor.
pub(super) fn header(
    metadata: &[(String, Value)],
    tensors: &[Head],
    out: &mut impl Write,
) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(key, &mut bytes);
        value.append(&mut bytes);
    }
    let mut offset = 0;
    for tensor in tensors {
        text(&tensor.name, &mut bytes);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        for dim in tensor.shape.iter().rev() {
            bytes.extend((*dim as u64).to_le_bytes());
        }
        bytes.extend(tensor.ggml.number().to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&bytes)
}

/// Fills up behind the values of a tensor, of which there are `bytes`.
pub(super) fn pad(bytes: usize, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; ALIGNMENT][..bytes.next_multiple_of(ALIGNMENT) - bytes])
}

fn text(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Value {
    /// Appends its type and itself.
    fn append(&self, bytes: &mut Vec<u8>) {
        let array = |kind: u32, len: usize, bytes: &mut Vec<u8>| {
            bytes.extend(kind::ARRAY.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend((len as u64).to_le_bytes());
        };
        match self {
            Self::Unsigned(value) => {
                bytes.extend(kind::U32.to_le_bytes());
                bytes.extend(value.to_le_bytes());
            }
            Self::Float(value) => {
                bytes.extend(kind::F32.to_le_bytes());
                bytes.extend(value.to_le_bytes());
            }
            Self::Bool(value) => {
                bytes.extend(kind::BOOL.to_le_bytes());
                bytes.push(u8::from(*value));
            }
            Self::Text(value) => {
                bytes.extend(kind::STRING.to_le_bytes());
                text(value, bytes);
            }
            Self::Texts(list) => {
                array(kind::STRING, list.len(), bytes);
                list.iter().for_each(|value| text(value, bytes));
            }
            Self::Unsigneds(list) => {
                array(kind::U32, list.len(), bytes);
                bytes.extend(list.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Integers(list) => {
                array(kind::I32, list.len(), bytes);
                bytes.extend(list.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Floats(list) => {
                array(kind::F32, list.len(), bytes);
                bytes.extend(list.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
    }
}
