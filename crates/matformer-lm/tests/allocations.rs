//! What decoding allocates, in a process of its own: attention reads the cache where it lies.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use burn::tensor::Device;
use matformer_core::{Plan, Submodel};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{Elastic, State, walk};

/// Counts the bytes that are asked for.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        BYTES.fetch_add(size, Ordering::Relaxed);
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONTEXT: usize = 2048;
const ROWS: usize = 3;

/// Bytes that a walk of the next `len` tokens of every slot allocates.
fn bytes_of(model: &MatLm, state: &mut State, plan: &Plan, len: usize) -> usize {
    let spans = state.cache().unwrap().spans(&[len; ROWS]);
    let tokens = model.tokens_of(&spans, &vec![1; ROWS * len]).unwrap();
    let before = BYTES.load(Ordering::Relaxed);
    let walked = walk(model, &tokens, plan, state).unwrap();
    drop(model.head(&walked.all().last()).into_data());
    BYTES.load(Ordering::Relaxed) - before
}

#[test]
fn a_token_behind_a_full_cache_copies_none_of_it() {
    let config = MatLmConfig {
        vocab_size: 64,
        d_model: 64,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 2,
        d_ff: 64,
        context: CONTEXT,
        ..MatLmConfig::default()
    };
    let model = MatLm::new(&config, 1, &Device::flex()).unwrap();
    let mut state = State::with_cache(ROWS, CONTEXT);
    let submodels: Vec<Submodel> = vec![model.space().largest(); ROWS];
    let plan = Plan::rows(&submodels).unwrap();
    bytes_of(&model, &mut state, &plan, 8);
    let early = bytes_of(&model, &mut state, &plan, 1);
    bytes_of(&model, &mut state, &plan, CONTEXT - 20);
    let late = bytes_of(&model, &mut state, &plan, 1);
    // Scores of one query per head grow with what is seen: they are the least that there is.
    let scores = ROWS * config.n_layers * config.n_heads * CONTEXT * size_of::<f32>();
    let held = ROWS * config.n_layers * 2 * config.d_model * CONTEXT * size_of::<f32>();
    assert!(late < early + 2 * scores, "{late} bytes behind a full cache, {early} at its start");
    assert!(2 * scores < held / 8, "the bound would notice a copy");
}
