//! The container of a GGUF file: its metadata and where its tensors lie.
//!
//! candle has a reader of the container, `gguf_file::Content::read`. It is not used here: it divides
//! by an alignment of 0, keeps one of two equal names, replaces what is not UTF-8, does not look for
//! tensors that overlap or lie behind the end of the file, and refuses an unknown type without the
//! name of the tensor. This one reads a mapped file in place: what it allocates is in proportion to
//! what it has read, never to what a header says.

use std::{collections::BTreeMap, fmt, ops::Range, path::Path};

use matformer_nn::{Error, Result};

use super::ggml::GgmlType;

/// What a file starts with.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";

/// Bytes that tensors are aligned to unless the file says otherwise.
pub(super) const ALIGNMENT: usize = 32;

/// Types of values, as the format numbers them.
pub(super) mod kind {
    pub(in super::super) const U8: u32 = 0;
    pub(in super::super) const I8: u32 = 1;
    pub(in super::super) const U16: u32 = 2;
    pub(in super::super) const I16: u32 = 3;
    pub(in super::super) const U32: u32 = 4;
    pub(in super::super) const I32: u32 = 5;
    pub(in super::super) const F32: u32 = 6;
    pub(in super::super) const BOOL: u32 = 7;
    pub(in super::super) const STRING: u32 = 8;
    pub(in super::super) const ARRAY: u32 = 9;
    pub(in super::super) const U64: u32 = 10;
    pub(in super::super) const I64: u32 = 11;
    pub(in super::super) const F64: u32 = 12;
}

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    /// The shortest decimal number that is the stored one: `1e-5`, not `9.99999974e-6`.
    Float(f64),
    Bool(bool),
    Text(String),
    Array(Array),
}

/// An array of the metadata, which stays in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    /// Type of its elements: one of [`kind`], not an array.
    pub(super) kind: u32,
    /// How many there are.
    pub(super) len: usize,
    /// Where they lie in the file.
    pub(super) bytes: Range<usize>,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Text(value) if value.len() > 64 => write!(f, "a text of {} bytes", value.len()),
            Self::Text(value) => write!(f, "`{value}`"),
            Self::Array(array) => write!(f, "an array of {}", array.len),
        }
    }
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Its name in the file.
    pub(super) name: String,
    /// Its shape, the longest stride first: `[out, in]` of a matrix.
    pub(super) shape: Vec<usize>,
    /// How its values are stored.
    pub(super) ggml: GgmlType,
    /// Its bytes in the file.
    pub(super) bytes: Range<usize>,
}

/// What a file says before its values.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<Stored>,
}

impl Container {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// When it is not a GGUF file of version 2 or 3, is cut off or malformed, has a key or a tensor
    /// twice, or has a tensor of a type that is not read, behind its end or on top of another.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let mut reader = Reader { path, bytes, at: 0 };
        if reader.take(4, "a GGUF file")? != MAGIC {
            return Err(reader.wrong("no `GGUF` at its start", "a GGUF file"));
        }
        match reader.u32()? {
            2 | 3 => {}
            other if other.swap_bytes() <= 3 => {
                return Err(reader.wrong("a big-endian file", "a little-endian GGUF file"));
            }
            other => return Err(reader.wrong(&format!("version {other}"), "version 2 or 3")),
        }
        let (n_tensors, n_keys) = (reader.u64()?, reader.u64()?);
        let mut metadata = BTreeMap::new();
        for _ in 0..n_keys {
            let key = reader.text("a key of the metadata")?.to_owned();
            let kind = reader.u32()?;
            let value = reader.value(kind, &key)?;
            if metadata.contains_key(&key) {
                return Err(reader.wrong(&format!("key `{key}` twice"), "each key once"));
            }
            metadata.insert(key, value);
        }
        let alignment = alignment(&metadata, &reader)?;
        let mut headers = Vec::new();
        for _ in 0..n_tensors {
            headers.push(reader.tensor()?);
        }
        let start = reader.at.next_multiple_of(alignment);
        let place = |header| reader.place(header, start, alignment);
        let tensors = headers.into_iter().map(place).collect::<Result<Vec<_>>>()?;
        reader.check_apart(&tensors)?;
        Ok(Self { metadata, tensors })
    }
}

/// The bytes that tensors are aligned to.
fn alignment(metadata: &BTreeMap<String, Value>, reader: &Reader<'_>) -> Result<usize> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(Value::Unsigned(n)) if (8..=1 << 20).contains(n) && n.is_power_of_two() => {
            Ok(*n as usize)
        }
        Some(other) => {
            let found = format!("`general.alignment` is {other}");
            Err(reader.wrong(&found, "a power of two from 8 to 1048576"))
        }
    }
}

/// A tensor as its header describes it.
struct Header {
    name: String,
    shape: Vec<u64>,
    ggml: u32,
    offset: u64,
}

/// Reads values one after the other.
struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, found: &str, expected: &str) -> Error {
        Error::File {
            path: self.path.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }

    /// The next `n` bytes, which are part of `what`.
    fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(n).ok().filter(|n| *n <= left) {
            Some(n) => {
                let taken = &self.bytes[self.at..self.at + n];
                self.at += n;
                Ok(taken)
            }
            None => {
                let found = format!("{left} bytes from byte {} to the end", self.at);
                Err(self.wrong(&found, &format!("{n} bytes for {what}")))
            }
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, "a number")?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self, what: &str) -> Result<&'a str> {
        let (start, len) = (self.at, self.u64()?);
        std::str::from_utf8(self.take(len, what)?).map_err(|_| {
            self.wrong(&format!("bytes that are not UTF-8 in {what} at byte {start}"), "UTF-8")
        })
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value> {
        Ok(match kind {
            kind::U8 => Value::Unsigned(self.array::<1>()?[0].into()),
            kind::U16 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            kind::U32 => Value::Unsigned(self.u32()?.into()),
            kind::U64 => Value::Unsigned(self.u64()?),
            kind::I8 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            kind::I16 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            kind::I32 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            kind::I64 => Value::Signed(i64::from_le_bytes(self.array()?)),
            kind::F32 => Value::Float(shortest(f32::from_le_bytes(self.array()?))),
            kind::F64 => Value::Float(f64::from_le_bytes(self.array()?)),
            kind::BOOL => match self.array::<1>()?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => {
                    return Err(self.wrong(&format!("`{key}`: a bool of {other}"), "0 or 1"));
                }
            },
            kind::STRING => Value::Text(self.text(&format!("`{key}`"))?.to_owned()),
            kind::ARRAY => Value::Array(self.value_array(key)?),
            other => {
                let found = format!("`{key}`: a value of type {other}");
                return Err(self.wrong(&found, "a type from 0 to 12"));
            }
        })
    }

    fn value_array(&mut self, key: &str) -> Result<Array> {
        let (kind, len) = (self.u32()?, self.u64()?);
        let what = format!("`{key}`, an array of {len}");
        let start = self.at;
        let size = match kind {
            kind::U8 | kind::I8 | kind::BOOL => 1,
            kind::U16 | kind::I16 => 2,
            kind::U32 | kind::I32 | kind::F32 => 4,
            kind::U64 | kind::I64 | kind::F64 => 8,
            kind::STRING => {
                // Each has eight bytes at least, so that this ends with the file.
                for _ in 0..len {
                    self.text(&what)?;
                }
                0
            }
            other => {
                let found = format!("`{key}`: an array of values of type {other}");
                return Err(self.wrong(&found, "an array of numbers, bools or texts"));
            }
        };
        self.take(len.saturating_mul(size), &what)?;
        // As many elements as there are bytes at most.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(Array { kind, len, bytes: start..self.at })
    }

    fn tensor(&mut self) -> Result<Header> {
        let name = self.text("the name of a tensor")?.to_owned();
        let n_dims = self.u32()?;
        if !(1..=4).contains(&n_dims) {
            return Err(self.tensor_error(&name, format!("{n_dims} dimensions"), "1 to 4"));
        }
        let mut shape = (0..n_dims).map(|_| self.u64()).collect::<Result<Vec<_>>>()?;
        // The file has the dimension whose elements are neighbours first.
        shape.reverse();
        Ok(Header { name, shape, ggml: self.u32()?, offset: self.u64()? })
    }

    /// Where a tensor's values lie, behind byte `start`.
    fn place(&self, header: Header, start: usize, alignment: usize) -> Result<Stored> {
        let Header { name, shape, ggml, offset } = header;
        let ggml = match GgmlType::read(ggml) {
            Ok(ggml) => ggml,
            Err(found) => return Err(self.tensor_error(&name, found, &GgmlType::expected())),
        };
        let elements = shape.iter().try_fold(1_u64, |n, dim| n.checked_mul(*dim));
        let row = *shape.last().unwrap_or(&0);
        let block = ggml.block() as u64;
        let Some(elements) = elements.filter(|n| *n > 0) else {
            return Err(self.tensor_error(&name, format!("shape {shape:?}"), "1 to 2⁶⁴ elements"));
        };
        if row % block != 0 {
            let expected = format!("rows of a multiple of {block} for {}", ggml.name());
            return Err(self.tensor_error(&name, format!("rows of {row}"), &expected));
        }
        if offset % alignment as u64 != 0 {
            let expected = format!("a multiple of the alignment {alignment}");
            return Err(self.tensor_error(&name, format!("offset {offset}"), &expected));
        }
        let size = (elements / block).checked_mul(ggml.block_bytes() as u64);
        let first = offset.checked_add(start as u64);
        let end = first.zip(size).and_then(|(first, size)| first.checked_add(size));
        match (first, end) {
            (Some(first), Some(end)) if end <= self.bytes.len() as u64 => Ok(Stored {
                name,
                // No dimension is larger than the file, whose length is a `usize`.
                shape: shape.into_iter().map(|dim| dim as usize).collect(),
                ggml,
                bytes: first as usize..end as usize,
            }),
            _ => {
                let found = format!("offset {offset} and shape {shape:?} of {}", ggml.name());
                let expected =
                    format!("values before the end of the file, byte {}", self.bytes.len());
                Err(self.tensor_error(&name, found, &expected))
            }
        }
    }

    /// Checks that no two tensors have the same name or bytes.
    fn check_apart(&self, tensors: &[Stored]) -> Result<()> {
        let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.tensor_error(twice[0], "two of this name".to_owned(), "one"));
        }
        let mut order: Vec<&Stored> = tensors.iter().collect();
        order.sort_unstable_by_key(|tensor| tensor.bytes.start);
        match order.windows(2).find(|pair| pair[1].bytes.start < pair[0].bytes.end) {
            None => Ok(()),
            Some(pair) => {
                let found = format!("bytes that `{}` has as well", pair[0].name);
                Err(self.tensor_error(&pair[1].name, found, "bytes of its own"))
            }
        }
    }

    fn tensor_error(&self, tensor: &str, found: String, expected: &str) -> Error {
        Error::Tensor {
            path: self.path.to_owned(),
            tensor: tensor.to_owned(),
            found,
            expected: expected.to_owned(),
        }
    }
}

/// The shortest decimal number that rounds to this one.
pub(super) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

impl Array {
    /// The elements of an array of texts, if that is what it is. `file` is what it was read from.
    pub(super) fn texts<'a>(&self, file: &'a [u8]) -> Option<Vec<&'a str>> {
        let mut left = (self.kind == kind::STRING).then_some(&file[self.bytes.clone()])?;
        let mut texts = Vec::new();
        while let Some((len, rest)) = left.split_first_chunk() {
            let (text, rest) = rest.split_at_checked(u64::from_le_bytes(*len) as usize)?;
            texts.push(std::str::from_utf8(text).ok()?);
            left = rest;
        }
        Some(texts)
    }

    /// The elements of an array of integers, if that is what it is.
    pub(super) fn integers(&self, file: &[u8]) -> Option<Vec<i64>> {
        let bytes = &file[self.bytes.clone()];
        match self.kind {
            kind::U8 => Some(numbers(bytes, |[b]: [u8; 1]| b.into())),
            kind::I8 => Some(numbers(bytes, |b: [u8; 1]| i8::from_le_bytes(b).into())),
            kind::U16 => Some(numbers(bytes, |b| u16::from_le_bytes(b).into())),
            kind::I16 => Some(numbers(bytes, |b| i16::from_le_bytes(b).into())),
            kind::U32 => Some(numbers(bytes, |b| u32::from_le_bytes(b).into())),
            kind::I32 => Some(numbers(bytes, |b| i32::from_le_bytes(b).into())),
            kind::U64 => numbers(bytes, u64::from_le_bytes)
                .into_iter()
                .map(|n| i64::try_from(n).ok())
                .collect(),
            kind::I64 => Some(numbers(bytes, i64::from_le_bytes)),
            _ => None,
        }
    }

    /// The elements of an array of f32, if that is what it is.
    pub(super) fn floats(&self, file: &[u8]) -> Option<Vec<f32>> {
        (self.kind == kind::F32).then(|| numbers(&file[self.bytes.clone()], f32::from_le_bytes))
    }
}

/// Numbers of `N` bytes each.
fn numbers<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let mut array = [0; N];
    let read = |chunk: &[u8]| {
        array.copy_from_slice(chunk);
        read(array)
    };
    bytes.chunks_exact(N).map(read).collect()
}
