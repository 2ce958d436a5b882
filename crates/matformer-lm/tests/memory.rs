//! How much memory saving, loading and cutting take, counted by an allocator. A process of its own,
//! so that nothing else allocates meanwhile.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use matformer_core::{Draw, Dtype, Manifest, Provenance, Submodel};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{DeviceSpec, Elastic, Folder, extract, folder};

/// The system's allocator, counted.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
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

#[test]
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
