//! How fast this machine computes the matrix products of a training step.

use anyhow::Result;
use burn::tensor::{Device, Distribution, Tensor};
use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use matformer::{
    bench::{
        products::{Layout, Product},
        timing::millis,
    },
    nn::device::in_host_memory,
    train::Precision,
};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use crate::peer::{self, Peer};

/// Timings of one product by one library in each round; the fastest counts.
const REPEATS: usize = 3;

/// Rows of a product that one thread computes where a product is cut into pieces, which is how our
/// own kernels use the libraries.
const ROWS: usize = 128;

/// The products of a step, each with its fastest time by any library.
pub struct Rates {
    products: Vec<Timed>,
}

struct Timed {
    product: Product,
    ms: f64,
    library: &'static str,
}

/// The rate of a product in the library that is fastest at it.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// 10⁹ FLOPs per second.
    pub gflops: f64,
    /// The library.
    pub library: &'static str,
    /// The name of the product.
    pub product: String,
    /// Batch, m, n and k of the product.
    pub shape: [usize; 4],
}

impl Rate {
    /// Milliseconds that so many FLOPs take at this rate.
    pub fn ms(&self, flops: f64) -> f64 {
        flops / (self.gflops * 1e6)
    }
}

impl Rates {
    /// Products to be timed; those of equal shape are timed once.
    pub fn new(all: Vec<Product>) -> Self {
        let mut products: Vec<Timed> = Vec::new();
        for product in all {
            if !products.iter().any(|known| known.product.same_shape(&product)) {
                products.push(Timed { product, ms: f64::INFINITY, library: "none" });
            }
        }
        Self { products }
    }

    /// Times every product once more.
    pub fn round(
        &mut self,
        device: &Device,
        dtype: Precision,
        peer: &mut Option<Peer>,
    ) -> Result<()> {
        for timed in &mut self.products {
            for (library, ms) in times(&timed.product, device, dtype, peer)? {
                if ms < timed.ms {
                    (timed.library, timed.ms) = (library, ms);
                }
            }
        }
        Ok(())
    }

    /// The rate of every product so far.
    pub fn all(&self) -> Vec<Rate> {
        let rate = |Timed { product: p, ms, library }: &Timed| Rate {
            gflops: p.flops() / ms / 1e6,
            library,
            product: p.name.clone(),
            shape: [p.batch, p.m, p.n, p.k],
        };
        self.products.iter().map(rate).collect()
    }
}

/// Milliseconds of a product by each library: on the device; on the CPU, if it is the device, also
/// by faer and by gemm, each in both ways; and by PyTorch.
fn times(
    p: &Product,
    device: &Device,
    dtype: Precision,
    peer: &mut Option<Peer>,
) -> Result<Vec<(&'static str, f64)>> {
    let mut times = vec![("burn", on_device(p, device, dtype))];
    if in_host_memory(device) && dtype == Precision::F32 {
        let mut operands = Operands::new(p);
        for (name, library) in [("faer", Library::Faer), ("gemm", Library::Gemm)] {
            times.push((name, fastest(|| operands.multiply_in_pieces(library))));
            if p.batch == 1 {
                times.push((name, fastest(|| operands.multiply_whole(library))));
            }
        }
    }
    if let Some(peer) = peer {
        let request = json!({
            "batch": p.batch, "m": p.m, "n": p.n, "k": p.k, "repeats": REPEATS,
            "left_transposed": p.layout == Layout::LeftTransposed,
            "right_transposed": p.layout == Layout::RightTransposed,
            "bf16": dtype == Precision::Bf16, "device": peer::device(device),
        });
        let answer = peer.ask(&json!({ "product": request }))?;
        times.extend(answer["product"].as_f64().map(|ms| ("torch", ms)));
    }
    Ok(times)
}

fn fastest(mut work: impl FnMut()) -> f64 {
    (0..REPEATS).map(|_| millis(&mut work)).fold(f64::INFINITY, f64::min)
}

/// Values of no meaning, all of them normal numbers.
fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 / 17.0 - 0.47).collect()
}

/// Burn's own product on a device.
fn on_device(p: &Product, device: &Device, dtype: Precision) -> f64 {
    let stored = |rows, cols, transposed: bool| {
        let shape = if transposed { [p.batch, cols, rows] } else { [p.batch, rows, cols] };
        let tensor = Tensor::<3>::random(shape, Distribution::Uniform(-0.5, 0.5), device);
        let tensor = tensor.cast(dtype.dtype());
        if transposed { tensor.swap_dims(1, 2) } else { tensor }
    };
    let left = stored(p.m, p.k, p.layout == Layout::LeftTransposed);
    let right = stored(p.k, p.n, p.layout == Layout::RightTransposed);
    let _ = device.sync();
    fastest(|| {
        let _product = left.clone().matmul(right.clone());
        let _ = device.sync();
    })
}

/// The libraries that our kernels on the CPU compute products with.
#[derive(Clone, Copy)]
enum Library {
    Faer,
    Gemm,
}

impl Library {
    /// `out = left · right`, on all cores or on the one that calls.
    fn multiply(
        self,
        out: MatMut<'_, f32>,
        left: MatRef<'_, f32>,
        right: MatRef<'_, f32>,
        parallel: bool,
    ) {
        match self {
            Self::Faer => {
                let par = if parallel { Par::rayon(0) } else { Par::Seq };
                matmul(out, Accum::Replace, left, right, 1.0, par);
            }
            Self::Gemm => {
                assert_eq!((out.nrows(), out.ncols()), (left.nrows(), right.ncols()));
                assert_eq!(left.ncols(), right.nrows());
                let parallelism =
                    if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
                // SAFETY: the three matrices have the sizes that are given here with their own
                // strides, and `out` is exclusive.
                unsafe {
                    gemm::gemm(
                        out.nrows(),
                        out.ncols(),
                        left.ncols(),
                        out.as_ptr_mut(),
                        out.col_stride(),
                        out.row_stride(),
                        false,
                        left.as_ptr(),
                        left.col_stride(),
                        left.row_stride(),
                        right.as_ptr(),
                        right.col_stride(),
                        right.row_stride(),
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        parallelism,
                    );
                }
            }
        }
    }
}

/// The matrices of a product in the memory of this machine.
struct Operands<'a> {
    product: &'a Product,
    left: Vec<f32>,
    right: Vec<f32>,
    out: Vec<f32>,
}

impl<'a> Operands<'a> {
    fn new(product: &'a Product) -> Self {
        let p = product;
        Self {
            product,
            left: values(p.batch * p.m * p.k),
            right: values(p.batch * p.k * p.n),
            out: values(p.batch * p.m * p.n),
        }
    }

    /// The first product of the batch, on all cores as the library divides it.
    fn multiply_whole(&mut self, library: Library) {
        let Self { product: p, left, right, out } = self;
        let out = MatMut::from_row_major_slice_mut(&mut out[..p.m * p.n], p.m, p.n);
        library.multiply(out, left_factor(p, left, 0), right_factor(p, right, 0), true);
    }

    /// Pieces of at most [`ROWS`] rows, each on one core.
    fn multiply_in_pieces(&mut self, library: Library) {
        let Self { product: p, left, right, out } = self;
        let pieces: Vec<_> = out
            .chunks_mut(p.m * p.n)
            .enumerate()
            .flat_map(|(i, out)| out.chunks_mut(ROWS * p.n).enumerate().map(move |o| (i, o)))
            .collect();
        pieces.into_par_iter().for_each(|(i, (piece, out))| {
            let rows = out.len() / p.n;
            let out = MatMut::from_row_major_slice_mut(out, rows, p.n);
            let left = left_factor(p, left, i).subrows(piece * ROWS, rows);
            library.multiply(out, left, right_factor(p, right, i), false);
        });
    }
}

/// Product i's left factor, `[m, k]`.
fn left_factor<'a>(p: &Product, values: &'a [f32], i: usize) -> MatRef<'a, f32> {
    let values = &values[i * p.m * p.k..(i + 1) * p.m * p.k];
    if p.layout == Layout::LeftTransposed {
        MatRef::from_row_major_slice(values, p.k, p.m).transpose()
    } else {
        MatRef::from_row_major_slice(values, p.m, p.k)
    }
}

/// Product i's right factor, `[k, n]`.
fn right_factor<'a>(p: &Product, values: &'a [f32], i: usize) -> MatRef<'a, f32> {
    let values = &values[i * p.k * p.n..(i + 1) * p.k * p.n];
    if p.layout == Layout::RightTransposed {
        MatRef::from_row_major_slice(values, p.n, p.k).transpose()
    } else {
        MatRef::from_row_major_slice(values, p.k, p.n)
    }
}
