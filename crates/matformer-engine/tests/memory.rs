//! Memory stays as it is, however many tokens and requests come.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ops::ControlFlow,
    sync::atomic::{AtomicIsize, Ordering},
};

use matformer_engine::{
    Draft, DraftLen, Engine, EngineModel, EngineOptions, Event, Format, Request, Sampling, generate,
};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{DeviceSpec, Elastic};

/// The system's memory, and how much of it is taken.
struct Counting;

static TAKEN: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static MEMORY: Counting = Counting;

#[test]
fn ten_thousand_tokens_and_a_thousand_requests_take_no_more_memory_than_the_first() {
    let tokens = 10_000;
    let config = MatLmConfig {
        vocab_size: 32,
        d_model: 8,
        n_layers: 1,
        n_heads: 1,
        n_kv_heads: 1,
        d_ff: 16,
        granularities: Some(vec![4, 16]),
        width_multiple: 4,
        context: tokens + 10,
        ..MatLmConfig::default()
    };
    let device = DeviceSpec::Flex.resolve().unwrap();
    let model = MatLm::new(&config, 1, &device).unwrap();
    let (s, xl) = (model.space().smallest(), model.space().largest());
    let model = EngineModel::of(&model, Format::F32).unwrap();
    let options = EngineOptions { slots: 4, threads: Some(1), ..EngineOptions::default() };
    let mut engine = Engine::new(&model, &options).unwrap();

    // One long answer, at sizes that change.
    let id = engine.submit(Request::new(vec![1, 2], xl.clone(), tokens)).unwrap();
    let (mut given, mut early) = (0, 0);
    while engine.is_busy() {
        given += engine.step().unwrap().iter().filter(|e| matches!(e, Event::Token { .. })).count();
        engine.resize(id, if given % 3 == 0 { &s } else { &xl }).unwrap();
        if given == 1000 {
            early = TAKEN.load(Ordering::Relaxed);
        }
    }
    assert_eq!(given, tokens);
    // The answer itself, the rotary table and the scores of a head grow: some bytes for each token.
    let grown = TAKEN.load(Ordering::Relaxed) - early;
    assert!(grown < 64 * tokens as isize, "{grown} bytes more after {tokens} tokens");

    // Many short ones, of every kind.
    let request = |seed: u64| Request {
        sampling: Sampling { temperature: 1.0, seed, ..Sampling::default() },
        draft: seed.is_multiple_of(2).then(|| Draft::new(s.clone(), DraftLen::Fixed(2))),
        logprobs: seed.is_multiple_of(3).then_some(2),
        ..Request::new(vec![seed as u32 % 32; 1 + seed as usize % 9], xl.clone(), seed as usize % 8)
    };
    let mut answer = |seeds: std::ops::Range<u64>| {
        for seed in seeds.step_by(20) {
            let requests: Vec<Request> = (seed..seed + 20).map(request).collect();
            generate(&mut engine, &requests, |_, _| ControlFlow::Continue(())).unwrap();
        }
        TAKEN.load(Ordering::Relaxed)
    };
    let early = answer(0..100);
    let grown = answer(100..1100) - early;
    assert!(grown < 4096, "{grown} bytes more after 1,000 requests");
}
