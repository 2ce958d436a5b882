use super::*;
use crate::cpu::inputs::Form;

const INPUTS: usize = 7;

/// A whole number from -127 to 127; every block of inputs has -127, so that rounding leaves all as they are.
fn whole(i: usize) -> f32 {
    if i.is_multiple_of(BLOCK) { -127.0 } else { (i * 37 % 255) as f32 - 127.0 }
}

/// Columns 0 to 32 of all inputs, then those of the first three, and of the first.
fn rings(cols: usize) -> Vec<Ring> {
    let of = |from: usize, to: usize, inputs| Ring { from, to: to.min(cols), inputs };
    let all = [of(0, BLOCK, INPUTS), of(BLOCK, 3 * BLOCK, 3), of(3 * BLOCK, cols, 1)];
    all.into_iter().filter(|ring| ring.from < ring.to).collect()
}

type Products = fn(Rows<'_>, usize, &Inputs, &[Ring], &mut [f32], usize);

/// The products of a few rows beside those of their values.
fn check(products: Products, rows: Rows<'_>, values: &[f32], cols: usize, form: Form) {
    let x: Vec<f32> = (0..INPUTS * cols).map(|i| whole(i % cols + i / cols * BLOCK)).collect();
    let mut inputs = Inputs::default();
    inputs.set(&x, cols, form);
    let rings = rings(cols);
    let mut found = vec![1.0; values.len() / cols * INPUTS];
    products(rows, cols, &inputs, &rings, &mut found, INPUTS);
    for (i, found) in found.into_iter().enumerate() {
        let (row, input) = (i / INPUTS * cols, i % INPUTS * cols);
        let columns = rings.iter().filter(|ring| i % INPUTS < ring.inputs);
        let columns = columns.flat_map(|ring| ring.from..ring.to);
        let expected: f64 =
            columns.map(|c| f64::from(values[row + c]) * f64::from(x[input + c])).sum();
        let apart = (f64::from(found) - 1.0 - expected).abs();
        assert!(apart < 0.02, "{form:?}, {cols} columns, product {i}: {found}, {expected}");
    }
}

/// All formats, with whole and broken registers, and rows that are no pair.
fn check_all(products: Products, bf16_too: bool) {
    for (rows, cols) in [(1, 16), (2, 33), (3, 48), (5, 64), (3, 160), (2, 200)] {
        let values: Vec<f32> = (0..rows * cols).map(|i| whole(3 * i + 1) / 64.0).collect();
        check(products, Rows::F32(&values), &values, cols, Form::Values);
        let bf16 = values.iter().map(|v| burn::tensor::bf16::from_f32(*v).to_le_bytes());
        if bf16_too {
            let bf16: Vec<[u8; 2]> = bf16.collect();
            check(products, Rows::Bf16(&bf16), &values, cols, Form::EvenOdd);
        }
        if cols.is_multiple_of(BLOCK) {
            let scale = burn::tensor::f16::from_f32(1.0 / 64.0).to_le_bytes();
            let block = |values: &[f32; BLOCK]| -> [u8; BLOCK_BYTES] {
                std::array::from_fn(|i| match i {
                    0 | 1 => scale[i],
                    _ => (values[i - 2] * 64.0) as i8 as u8,
                })
            };
            let blocks: Vec<_> = values.as_chunks::<BLOCK>().0.iter().map(block).collect();
            check(products, Rows::Q8(&blocks), &values, cols, Form::Rounded);
        }
    }
}

#[test]
fn products_are_those_of_the_values() {
    check_all(products, true);
    check_all(at_level::<PLAIN>, true);
    // Inputs of bf16 are sorted for the processor's own registers.
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        check_all(at_level::<AVX2>, false);
    }
}

#[test]
fn half_is_f16() {
    for bits in (0..0x7C00).chain(0x8000..0xFC00) {
        assert_eq!(half(bits), burn::tensor::f16::from_bits(bits).to_f32(), "{bits:#x}");
    }
}
