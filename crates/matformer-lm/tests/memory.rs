//! How much memory saving, loading, cutting and decoding take, counted by an allocator. A process of
//! its own, so that nothing else allocates meanwhile.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use matformer_core::{Draw, Dtype, Manifest, Plan, Provenance, Submodel};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{DeviceSpec, Elastic, Folder, State, extract, folder, walk};

/// The system's allocator, counted.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Bytes that were ever asked for.
static ALL: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        ALL.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `action` returns, and the bytes that it had allocated at most beyond what was there.
fn peak<T>(action: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let value = action();
    (value, PEAK.load(Relaxed) - before)
}

// One after the other: also what a thread frees when it ends is counted.
#[test]
fn memory_holds_one_tensor_at_a_time_and_no_copy_of_the_cache() {
    one_tensor_at_a_time_is_in_memory();
    a_token_behind_a_full_cache_copies_none_of_it();
}

fn one_tensor_at_a_time_is_in_memory() {
    let config = MatLmConfig {
        vocab_size: 4096,
        d_model: 256,
        n_layers: 8,
        d_ff: 1024,
        ..MatLmConfig::default()
    };
    // Bytes of the largest tensor, and of all that is not a tensor.
    let (embedding, slack) = (4 * 4096 * 256, 1 << 19);
    let device = DeviceSpec::Flex.resolve().unwrap();
    let (model, weights) = peak(|| MatLm::new(&config, 0, &device).unwrap());
    assert!(weights > 8 * embedding, "no tensor is a large part: {weights}");
    let manifest = Manifest::new(MatLm::KIND, model.space(), Draw::Joint, Provenance::default());
    let dir = tempfile::tempdir().unwrap();
    for dtype in [Dtype::Bf16, Dtype::F32] {
        let manifest = Manifest { dtype, ..manifest.clone() };
        let (saved, most) = peak(|| folder::save(&model, &manifest, dir.path()));
        saved.unwrap();
        // Burn copies a tensor twice when it reads it: the second copy is aligned.
        assert!(most < 2 * embedding + slack, "saving takes {most}, a tensor {embedding}");
    }

    let (loaded, most) = peak(|| folder::load::<MatLm>(dir.path(), &device));
    let (loaded, _) = loaded.unwrap();
    assert!(most < weights + embedding + slack, "loading takes {most}, the weights {weights}");

    let half = Submodel::uniform(512, config.n_layers);
    let (slim, most) = peak(|| extract(&loaded, &half).unwrap());
    let kept = 4 * burn::module::Module::num_params(&slim);
    assert!(most < kept + 2 * embedding + slack, "cutting takes {most}, the slice {kept}");
}

const CONTEXT: usize = 2048;
const ROWS: usize = 3;

/// Bytes that a forward pass of the next `len` tokens of every slot allocates.
fn bytes_of(model: &MatLm, state: &mut State, plan: &Plan, len: usize) -> usize {
    let spans = state.cache().unwrap().spans(&[len; ROWS]);
    let tokens = model.tokens_of(&spans, &vec![1; ROWS * len]).unwrap();
    let before = ALL.load(Relaxed);
    let walked = walk(model, &tokens, plan, state).unwrap();
    drop(model.head(&walked.all().last()).into_data());
    ALL.load(Relaxed) - before
}

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
    let model = MatLm::new(&config, 1, &DeviceSpec::Flex.resolve().unwrap()).unwrap();
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
