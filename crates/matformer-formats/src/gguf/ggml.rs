//! Types of tensors, and their values as f32. The blocks are decoded and encoded by candle.

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, ggml_file::qtensor_from_ggml},
};
use matformer_core::Dtype;
use matformer_nn::weights;

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GgmlType {
    /// As they are.
    Plain(Dtype),
    /// In blocks of a scale and small integers.
    Blocks(GgmlDType),
}

/// The types that are read: their number in the file, their name, and what they are.
const READ: [(u32, &str, GgmlType); 13] = [
    (0, "f32", GgmlType::Plain(Dtype::F32)),
    (1, "f16", GgmlType::Plain(Dtype::F16)),
    (30, "bf16", GgmlType::Plain(Dtype::Bf16)),
    (2, "q4_0", GgmlType::Blocks(GgmlDType::Q4_0)),
    (3, "q4_1", GgmlType::Blocks(GgmlDType::Q4_1)),
    (6, "q5_0", GgmlType::Blocks(GgmlDType::Q5_0)),
    (7, "q5_1", GgmlType::Blocks(GgmlDType::Q5_1)),
    (8, "q8_0", GgmlType::Blocks(GgmlDType::Q8_0)),
    (10, "q2_K", GgmlType::Blocks(GgmlDType::Q2K)),
    (11, "q3_K", GgmlType::Blocks(GgmlDType::Q3K)),
    (12, "q4_K", GgmlType::Blocks(GgmlDType::Q4K)),
    (13, "q5_K", GgmlType::Blocks(GgmlDType::Q5K)),
    (14, "q6_K", GgmlType::Blocks(GgmlDType::Q6K)),
];

/// Names of types that are not read.
const OTHERS: [(u32, &str); 19] = [
    (9, "q8_1"),
    (15, "q8_K"),
    (16, "iq2_xxs"),
    (17, "iq2_xs"),
    (18, "iq3_xxs"),
    (19, "iq1_s"),
    (20, "iq4_nl"),
    (21, "iq3_s"),
    (22, "iq2_s"),
    (23, "iq4_xs"),
    (24, "i8"),
    (25, "i16"),
    (26, "i32"),
    (27, "i64"),
    (28, "f64"),
    (29, "iq1_m"),
    (34, "tq1_0"),
    (35, "tq2_0"),
    (39, "mxfp4"),
];

impl GgmlType {
    /// The type of this number, or what it is called where it is not read.
    pub(super) fn read(number: u32) -> Result<Self, String> {
        if let Some((_, _, ggml)) = READ.iter().find(|(known, _, _)| *known == number) {
            return Ok(*ggml);
        }
        let other = OTHERS.iter().find(|(known, _)| *known == number);
        Err(match other {
            Some((_, name)) => format!("type {name}"),
            None => format!("type number {number}"),
        })
    }

    /// The types that are read, for messages.
    pub(super) fn expected() -> String {
        let names: Vec<&str> = READ.iter().map(|(_, name, _)| *name).collect();
        names.join(", ")
    }

    fn row(self) -> Option<&'static (u32, &'static str, Self)> {
        READ.iter().find(|(_, _, ggml)| *ggml == self)
    }

    /// What GGUF calls it.
    pub(super) fn name(self) -> &'static str {
        self.row().map_or("", |row| row.1)
    }

    /// Its number in a file.
    pub(super) fn number(self) -> u32 {
        self.row().map_or(0, |row| row.0)
    }

    /// Values of a block.
    pub(super) fn block(self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Blocks(blocks) => blocks.block_size(),
        }
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::Plain(Dtype::F32) => 4,
            Self::Plain(Dtype::F16 | Dtype::Bf16) => 2,
            Self::Blocks(blocks) => blocks.type_size(),
        }
    }

    /// How the values are handed on: as they are, or f32 where they come in blocks.
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::Plain(dtype) => dtype,
            Self::Blocks(_) => Dtype::F32,
        }
    }
}

/// The values of blocks. `bytes` is a whole number of them, aligned as an allocator does: candle
/// reads it as structs.
pub(super) fn dequantize(blocks: GgmlDType, bytes: &[u8]) -> candle_core::Result<Vec<f32>> {
    let n = bytes.len() / blocks.type_size() * blocks.block_size();
    qtensor_from_ggml(blocks, bytes, vec![n], &Device::Cpu)?.dequantize(&Device::Cpu)?.to_vec1()
}

/// The blocks of values, of which there is a whole number of blocks.
pub(super) fn quantize(blocks: GgmlDType, values: &[f32]) -> candle_core::Result<Vec<u8>> {
    let values = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
    Ok(QTensor::quantize(&values, blocks)?.data()?.into_owned())
}

/// Values as this dtype, rounded to the nearest.
pub(super) fn stored(
    values: impl IntoIterator<Item = f32>,
    dtype: Dtype,
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    weights::write_values(values, dtype, &mut bytes)?;
    Ok(bytes)
}
