//! What the engine gives is what the model gives, whatever shares a step with it.

use std::{collections::BTreeMap, ops::ControlFlow};

use burn::tensor::Device;
use matformer_core::{Plan, Span, Spans, Submodel};
use matformer_engine::{
    Draft, DraftCache, DraftLen, Engine, EngineModel, EngineOptions, Event, Finish, Format, Heard,
    Policy, Request, RequestId, Sampling, generate,
};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{Activation, DeviceSpec, Elastic, State, walk};

fn device() -> Device {
    DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap()
}

pub fn config() -> MatLmConfig {
    MatLmConfig {
        vocab_size: 50,
        d_model: 32,
        n_layers: 3,
        n_heads: 4,
        n_kv_heads: 2,
        d_ff: 64,
        granularities: Some(vec![8, 20, 32, 64]),
        width_multiple: 4,
        context: 40,
        ..MatLmConfig::default()
    }
}

pub fn model(config: &MatLmConfig) -> MatLm {
    MatLm::new(config, 7, &device()).unwrap()
}

/// Configurations with every option that changes numbers.
fn configs() -> Vec<MatLmConfig> {
    let window = |layers| matformer_lm::Window { size: 5, layers, rope_theta: Some(500.0) };
    vec![
        config(),
        MatLmConfig { qkv_bias: true, o_bias: true, qk_norm: true, head_dim: Some(12), ..config() },
        MatLmConfig {
            activation: Activation::GeGlu,
            post_norms: true,
            norm_plus_one: true,
            ..config()
        },
        MatLmConfig { scale_embeddings: true, window: Some(window(Some(vec![0, 2]))), ..config() },
        MatLmConfig { activation: Activation::Gelu, tied_embeddings: false, ..config() },
        MatLmConfig { nope_layers: Some(vec![1]), query_pre_attn_scalar: Some(3), ..config() },
    ]
}

fn prompt(n: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7 + seed * 13 + i * i) % 50) as u32).collect()
}

/// Logits of a text at a submodel, by the forward pass: `[tokens, vocab]`.
fn walked(model: &MatLm, submodel: &Submodel, ids: &[u32]) -> Vec<Vec<f32>> {
    let input = model.tokens(1, ids).unwrap();
    let plan = Plan::one(submodel);
    let walked = walk(model, &input, &plan, &mut State::new()).unwrap();
    let logits: Vec<f32> = model.head(&walked.all()).try_into_vec_as().unwrap();
    logits.chunks(50).map(<[f32]>::to_vec).collect()
}

/// Greedy tokens by the forward pass, the whole text anew for each.
fn greedy(model: &MatLm, submodel: &Submodel, prompt: &[u32], n: usize) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    for _ in 0..n {
        let logits = walked(model, submodel, &ids).pop().unwrap();
        let best = (0..50).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a))).unwrap();
        ids.push(best as u32);
    }
    ids.split_off(prompt.len())
}

fn submodels(model: &MatLm) -> Vec<Submodel> {
    let mut all = model.space().uniforms();
    all.push(Submodel::new(vec![64, 8, 20]));
    all.push(Submodel::new(vec![12, 36, 64]));
    all
}

/// Everything that an engine gives, by request.
fn run(engine: &mut Engine) -> BTreeMap<RequestId, (Vec<u32>, Option<Finish>)> {
    let mut found = BTreeMap::new();
    while engine.is_busy() {
        for event in engine.step().unwrap() {
            match event {
                Event::Token { id, token, .. } => {
                    found.entry(id).or_insert((Vec::new(), None)).0.push(token);
                }
                Event::Finished { id, reason, .. } => {
                    found.entry(id).or_insert((Vec::new(), None)).1 = Some(reason);
                }
                Event::Prompt { .. } => {}
            }
        }
    }
    found
}

fn engine(model: &MatLm, slots: usize) -> Engine {
    let options = EngineOptions {
        slots,
        threads: Some(2),
        prefill: 9,
        draft_caches: true,
        ..EngineOptions::default()
    };
    Engine::new(&EngineModel::of(model, Format::F32).unwrap(), &options).unwrap()
}

/// A draft that stops where it is less sure than `confidence`.
fn sure(confidence: f64, draft: Draft) -> Draft {
    Draft { confidence, ..draft }
}

#[test]
fn log_probabilities_are_those_of_the_whole_text() {
    for config in configs() {
        let model = model(&config);
        for submodel in submodels(&model) {
            let mut engine = engine(&model, 1);
            let request =
                Request { logprobs: Some(3), ..Request::new(prompt(11, 1), submodel.clone(), 12) };
            engine.submit(request).unwrap();
            let mut ids = prompt(11, 1);
            while engine.is_busy() {
                for event in engine.step().unwrap() {
                    let Event::Token { token, logprobs, .. } = event else { continue };
                    let logits = walked(&model, &submodel, &ids).pop().unwrap();
                    let lse = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
                    let logprobs = logprobs.unwrap();
                    for (token, found) in
                        logprobs.top.iter().copied().chain([(token, logprobs.chosen)])
                    {
                        let off = f64::from(found) - (f64::from(logits[token as usize]) - lse);
                        assert!(off.abs() < 1e-4, "{config:?}, {submodel}: {off}");
                    }
                    ids.push(token);
                }
            }
            assert_eq!(ids.len(), 23);
        }
    }
}

#[test]
fn requests_of_any_size_get_the_tokens_that_they_get_alone() {
    for config in [config(), configs().swap_remove(3)] {
        let model = model(&config);
        let all = submodels(&model);
        for slots in [1, 3, 16] {
            let mut engine = engine(&model, slots);
            let requests: Vec<_> = (0..16)
                .map(|i| (prompt(1 + i * 5 % 23, i), all[i % all.len()].clone(), 1 + i % 7))
                .collect();
            let ids: Vec<RequestId> = requests
                .iter()
                .map(|(prompt, submodel, n)| {
                    engine.submit(Request::new(prompt.clone(), submodel.clone(), *n)).unwrap()
                })
                .collect();
            let found = run(&mut engine);
            for ((prompt, submodel, n), id) in requests.iter().zip(&ids) {
                let expected = greedy(&model, submodel, prompt, *n);
                assert_eq!(
                    found[id],
                    (expected, Some(Finish::Length)),
                    "{slots} slots, {submodel}"
                );
            }
        }
    }
}

#[test]
fn speculation_gives_the_tokens_of_plain_decoding() {
    let model = model(&config());
    let space = model.space();
    let (s, l, xl) = (space.uniforms()[0].clone(), space.uniforms()[2].clone(), space.largest());
    let mut kept = 0;
    for seed in 0..67 {
        let expected = greedy(&model, &xl, &prompt(5, seed), 20);
        for (narrow, len) in
            [(&s, DraftLen::Fixed(3)), (&l, DraftLen::Fixed(7)), (&xl, DraftLen::Auto { most: 4 })]
        {
            let mut engine = engine(&model, 2);
            let draft = sure(0.02 * (seed % 2) as f64, Draft::new(narrow.clone(), len));
            let cache = if seed % 3 == 0 { DraftCache::Own } else { DraftCache::Shared };
            let draft = Draft { cache, ..draft };
            let request =
                Request { draft: Some(draft), ..Request::new(prompt(5, seed), xl.clone(), 20) };
            let id = engine.submit(request).unwrap();
            engine.submit(Request::new(prompt(9, seed + 1), s.clone(), 9)).unwrap();
            let mut tokens = Vec::new();
            while engine.is_busy() {
                for event in engine.step().unwrap() {
                    match event {
                        Event::Token { id: of, token, .. } if of == id => tokens.push(token),
                        Event::Finished { id: of, drafted, .. } if of == id => {
                            kept += drafted.kept;
                            let times: usize = drafted
                                .kept_at_once
                                .iter()
                                .enumerate()
                                .map(|(n, times)| n * times)
                                .sum();
                            assert_eq!(times, drafted.kept);
                            if *narrow == xl && len == DraftLen::Fixed(7) {
                                assert_eq!(drafted.kept, drafted.proposed);
                            }
                        }
                        _ => {}
                    }
                }
            }
            assert_eq!(tokens, expected, "{len:?}");
        }
    }
    assert!(kept > 100, "drafts were kept: {kept}");
}

/// Two tokens of many requests that differ in the seed alone, with and without drafts.
#[test]
fn sampled_speculation_draws_from_the_verifier() {
    let config = MatLmConfig { vocab_size: 6, ..config() };
    let model = model(&config);
    let (s, xl) = (model.space().smallest(), model.space().largest());
    let n = 4000;
    let count = |draft: Option<Draft>| {
        let mut counts = BTreeMap::<Vec<u32>, usize>::new();
        let mut engine = engine(&model, 64);
        for seed in 0..n {
            let sampling = Sampling { temperature: 1.2, seed, ..Sampling::default() };
            let request = Request::new(vec![1, 2, 3], xl.clone(), 3);
            engine.submit(Request { sampling, draft: draft.clone(), ..request }).unwrap();
        }
        for (_, (tokens, _)) in run(&mut engine) {
            *counts.entry(tokens[1..].to_vec()).or_default() += 1;
        }
        counts
    };
    let draft = Draft::new(s, DraftLen::Fixed(2));
    let (plain, drafted) = (count(None), count(Some(draft)));
    // χ² of two samples over the pairs of tokens that are seen often enough.
    let of = |counts: &BTreeMap<Vec<u32>, usize>, key: &Vec<u32>| {
        counts.get(key).copied().unwrap_or(0) as f64
    };
    let keys: Vec<&Vec<u32>> = plain.keys().filter(|key| plain[*key] > 20).collect();
    let found: f64 = keys
        .iter()
        .map(|key| {
            (of(&plain, key) - of(&drafted, key)).powi(2) / (of(&plain, key) + of(&drafted, key))
        })
        .sum();
    let freedom = keys.len() as f64;
    assert!(keys.len() > 10, "{plain:?}");
    // Mean and standard deviation of χ²: 4 of the latter.
    assert!(
        found < freedom + 4.0 * (2.0 * freedom).sqrt(),
        "{found} with {freedom} degrees of freedom"
    );
}

#[test]
fn policies_choose_the_size_of_each_token() {
    let model = model(&config());
    let (s, xl) = (model.space().smallest(), model.space().largest());
    let answer = |request: Request| {
        let mut engine = engine(&model, 1);
        let id = engine.submit(request).unwrap();
        run(&mut engine).remove(&id).unwrap().0
    };
    let narrow = Request::new(prompt(6, 2), s.clone(), 10);
    let escalate = |entropy| Request {
        policy: Policy::Escalate { wide: xl.clone(), entropy },
        ..narrow.clone()
    };
    assert_eq!(answer(escalate(f64::INFINITY)), greedy(&model, &s, &prompt(6, 2), 10));
    // Always unsure: the prompt is narrow, but for its last token, and all else is wide.
    let wide = answer(escalate(-1.0));
    assert_ne!(wide, greedy(&model, &s, &prompt(6, 2), 10));
    let phases = Request { policy: Policy::Phases { prompt: xl.clone() }, ..narrow.clone() };
    assert_eq!(answer(phases)[0], greedy(&model, &xl, &prompt(6, 2), 1)[0]);
}

#[test]
fn answers_end_where_they_should() {
    let model = model(&config());
    let xl = model.space().largest();
    let expected = greedy(&model, &xl, &prompt(30, 3), 10);
    let mut engine = engine(&model, 2);
    let context = engine.submit(Request::new(prompt(30, 3), xl.clone(), 100)).unwrap();
    let at = expected.iter().position(|token| *token == expected[4]).unwrap();
    let request =
        Request { stop: vec![expected[at]], ..Request::new(prompt(30, 3), xl.clone(), 100) };
    let stop = engine.submit(request).unwrap();
    let waiting = engine.submit(Request::new(prompt(3, 3), xl.clone(), 100)).unwrap();
    assert!(matches!(
        engine.cancel(waiting),
        Some(Event::Finished { reason: Finish::Cancelled, .. })
    ));
    assert_eq!(engine.cancel(waiting), None);
    let found = run(&mut engine);
    assert_eq!(found[&context], (expected.clone(), Some(Finish::Context)));
    assert_eq!(found[&stop], (expected[..at].to_vec(), Some(Finish::Stop)));
    assert!(!found.contains_key(&waiting));
    // A slot that was freed underway is as good as a new one.
    let cancelled = engine.submit(Request::new(prompt(20, 5), xl.clone(), 100)).unwrap();
    engine.step().unwrap();
    engine.step().unwrap();
    assert!(engine.cancel(cancelled).is_some() && !engine.is_busy());
    let again = engine.submit(Request::new(prompt(30, 3), xl, 4)).unwrap();
    assert_eq!(run(&mut engine)[&again].0, expected[..4]);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let model = model(&config());
    let (s, xl) = (model.space().smallest(), model.space().largest());
    let mut engine = engine(&model, 1);
    let mut refused = |request: Request| engine.submit(request).unwrap_err().to_string();
    let plain = Request::new(prompt(4, 0), s.clone(), 4);
    assert_eq!(
        refused(Request { prompt: vec![], ..plain.clone() }),
        "the prompt is empty, expected at least one token"
    );
    assert_eq!(
        refused(Request { prompt: prompt(40, 0), ..plain.clone() }),
        "the prompt has 40 tokens, expected fewer than the context of 40"
    );
    assert!(
        refused(Request { prompt: vec![1, 50], ..plain.clone() })
            .starts_with("token 50 at position 1")
    );
    assert!(
        refused(Request { submodel: Submodel::new(vec![64, 64]), ..plain.clone() })
            .contains("2, expected 3")
    );
    let draft = Draft::new(xl.clone(), DraftLen::Fixed(2));
    assert!(
        refused(Request { draft: Some(draft.clone()), ..plain.clone() })
            .starts_with("`draft`: found width 64 in layer 0, expected at most 8")
    );
    let escalate = Policy::Escalate { wide: xl.clone(), entropy: 1.0 };
    let both = Request {
        draft: Some(Draft::new(s.clone(), draft.len)),
        policy: escalate,
        ..plain.clone()
    };
    assert!(refused(both).starts_with("`draft` and a policy"));
    let long = Draft::new(s.clone(), DraftLen::Fixed(16));
    assert_eq!(
        refused(Request { draft: Some(long), ..plain.clone() }),
        "`draft_len` is 16, expected from 1 to 15"
    );
    let confident = sure(1.5, Draft::new(s.clone(), draft.len));
    assert_eq!(
        refused(Request { draft: Some(confident), ..plain.clone() }),
        "`confidence` is 1.5, expected from 0 to below 1"
    );
    let none = Draft { submodels: vec![], ..draft.clone() };
    assert_eq!(
        refused(Request { draft: Some(none), ..plain.clone() }),
        "`draft` is no submodel, expected one or more"
    );
    let two = Draft { submodels: vec![s.clone(), s], cache: DraftCache::Own, ..draft };
    assert_eq!(
        refused(Request { draft: Some(two.clone()), ..plain.clone() }),
        "`draft` is 2 submodels, expected one, with a cache of its own"
    );
    let held = EngineModel::of(&model, Format::F32).unwrap();
    let mut without = Engine::new(&held, &EngineOptions::default()).unwrap();
    assert_eq!(
        without.submit(Request { draft: Some(two), ..plain }).unwrap_err().to_string(),
        "`draft_cache` is own, expected shared: the engine was made without `draft_caches`"
    );
    let options = EngineOptions { slots: 0, ..EngineOptions::default() };
    assert_eq!(
        Engine::new(&held, &options).err().unwrap().to_string(),
        "`slots` is 0, expected 1 or more"
    );
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let spoilt = matformer_nn::params::fill(model(&config()), |path, shape| {
        let value = if path == "norm.gamma" { f32::NAN } else { 0.5 };
        let values = vec![value; shape.iter().product()];
        Ok::<_, ()>(burn::tensor::TensorData::new(values, shape.to_vec()))
    });
    let spoilt = spoilt.unwrap();
    let request = Request::new(vec![1, 2, 3], spoilt.space().largest(), 3);
    let mut engine = engine(&spoilt, 1);
    let id = engine.submit(request.clone()).unwrap();
    assert_eq!(run(&mut engine)[&id], (Vec::new(), Some(Finish::NotFinite)));
    let error = generate(&mut engine, &[request], |_, _| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "the logits of request 0 are NaN");
}

#[test]
fn a_list_of_requests_is_answered_in_order() {
    let model = model(&config());
    let xl = model.space().largest();
    let requests: Vec<Request> =
        (0..20).map(|i| Request::new(prompt(1 + i, i), xl.clone(), i % 4)).collect();
    let mut heard = vec![Vec::new(); 20];
    let mut whole = Vec::new();
    let answers = generate(&mut engine(&model, 6), &requests, |i, news| {
        match news {
            Heard::Token(token) => heard[i].push(token),
            Heard::Answer(answer) => whole.push((i, answer.clone())),
        }
        ControlFlow::Continue(())
    });
    let answers = answers.unwrap();
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.tokens, greedy(&model, &xl, &prompt(1 + i, i), i % 4));
        assert_eq!((&heard[i], answer.reason), (&answer.tokens, Finish::Length));
    }
    whole.sort_by_key(|(i, _)| *i);
    assert!(whole.into_iter().map(|(_, answer)| answer).eq(answers));
}

/// A text ends where its reader says so, also in the middle of a kept draft.
#[test]
fn a_reader_stops_an_answer() {
    let model = model(&config());
    let xl = model.space().largest();
    let draft = Draft::new(xl.clone(), DraftLen::Fixed(7));
    for draft in [None, Some(draft)] {
        let requests: Vec<Request> = (0..3)
            .map(|i| Request { draft: draft.clone(), ..Request::new(prompt(4, i), xl.clone(), 12) })
            .collect();
        let mut n = 0;
        let answers = generate(&mut engine(&model, 2), &requests, |i, news| {
            n += usize::from(i == 1 && matches!(news, Heard::Token(_)));
            if i == 1 && n == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let answers = answers.unwrap();
        assert_eq!(answers[1].tokens, greedy(&model, &xl, &prompt(4, 1), 5));
        assert_eq!(answers[1].reason, Finish::Stop);
        assert_eq!(answers[2].tokens, greedy(&model, &xl, &prompt(4, 2), 12));
    }
}

/// The prompt's log-probabilities are those of the forward pass, alone and before an answer, in parts of any length.
#[test]
fn prompts_are_scored() {
    let model = model(&config());
    let submodel = Submodel::new(vec![64, 8, 20]);
    let ids = prompt(40, 2);
    let logits = walked(&model, &submodel, &ids);
    for (len, n) in [(40, 0), (23, 2), (1, 1), (1, 0)] {
        let request = Request {
            prompt_logprobs: Some(2),
            ..Request::new(ids[..len].to_vec(), submodel.clone(), n)
        };
        let other = Request::new(prompt(7, 7), model.space().smallest(), 9);
        let answers =
            generate(&mut engine(&model, 2), &[request, other], |_, _| ControlFlow::Continue(()));
        let answer = answers.unwrap().swap_remove(0);
        assert_eq!((answer.prompt_logprobs.len(), answer.tokens.len()), (len - 1, n));
        for (i, found) in answer.prompt_logprobs.iter().enumerate() {
            let lse = logits[i].iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
            let expected = f64::from(logits[i][ids[i + 1] as usize]) - lse;
            assert!((f64::from(found.chosen) - expected).abs() < 1e-4, "{len}, {i}");
            assert_eq!(found.top.len(), 2);
        }
    }
}

/// Between any two tokens another size can take over: what the slot holds was written by the sizes before.
#[test]
fn a_request_changes_its_size_underway() {
    let model = model(&config());
    let sizes = submodels(&model);
    let mut engine = engine(&model, 2);
    let id = engine.submit(Request::new(prompt(5, 4), sizes[0].clone(), 12)).unwrap();
    let other = engine.submit(Request::new(prompt(6, 1), sizes[3].clone(), 12)).unwrap();
    // The same by the forward pass, token by token on a cache.
    let mut state = State::with_cache(1, 20);
    let mut feed = |ids: &[u32], submodel: &Submodel| {
        let start = state.cache().map_or(0, |cache| cache.lens()[0]);
        let span = Span { slot: Some(0), start, len: ids.len() };
        let input = model.tokens_of(&Spans::new(vec![span]), ids).unwrap();
        let walked =
            walk(&model, &input, &Plan::rows(std::slice::from_ref(submodel)).unwrap(), &mut state);
        let logits: Vec<f32> = model.head(&walked.unwrap().all()).try_into_vec_as().unwrap();
        let last = &logits[logits.len() - 50..];
        (0..50).max_by(|a, b| last[*a].total_cmp(&last[*b]).then(b.cmp(a))).unwrap() as u32
    };
    let mut expected = vec![feed(&prompt(5, 4), &sizes[0])];
    let (mut found, mut others) = (Vec::new(), Vec::new());
    let mut step = 0;
    while engine.is_busy() {
        for event in engine.step().unwrap() {
            match event {
                Event::Token { id: of, token, .. } if of == id => found.push(token),
                Event::Token { token, .. } => others.push(token),
                _ => {}
            }
        }
        step += 1;
        let next = &sizes[step % sizes.len()];
        if engine.resize(id, next).unwrap() {
            expected.push(feed(&expected[expected.len() - 1..], next));
        }
    }
    assert_eq!(found, expected[..12]);
    assert_eq!(others, greedy(&model, &sizes[3], &prompt(6, 1), 12));
    assert!(!engine.resize(other, &sizes[0]).unwrap(), "it is over");
    let draft = Some(Draft::new(sizes[2].clone(), DraftLen::Fixed(2)));
    let request = Request { draft, ..Request::new(prompt(3, 3), sizes[3].clone(), 9) };
    let id = engine.submit(request.clone()).unwrap();
    engine.step().unwrap();
    // It still drafts afterwards, for the new size.
    engine.resize(id, &sizes[2]).unwrap();
    while engine.is_busy() {
        for event in engine.step().unwrap() {
            if let Event::Finished { drafted, .. } = event {
                assert!(drafted.proposed > 4 && drafted.kept == drafted.proposed, "{drafted:?}");
            }
        }
    }
    let id = engine.submit(request).unwrap();
    engine.step().unwrap();
    let error = engine.resize(id, &sizes[0]).unwrap_err().to_string();
    assert!(error.starts_with("`draft`: found width 32 in layer 0, expected at most 8"), "{error}");
}

/// Rounded weights give log-probabilities near those of f32: for one text and for several at once.
#[test]
fn packed_weights_are_near_and_rounded() {
    let model = model(&config());
    let most_likely = |format, slots: usize| -> Vec<f32> {
        let options = EngineOptions { slots, threads: Some(2), ..EngineOptions::default() };
        let held = EngineModel::of(&model, format).unwrap();
        let mut engine = Engine::new(&held, &options).unwrap();
        for (i, submodel) in submodels(&model).into_iter().take(slots).enumerate() {
            let request = Request::new(prompt(9 + i, i), submodel, 1);
            engine.submit(Request { logprobs: Some(0), ..request }).unwrap();
        }
        let events = engine.step().unwrap();
        let chosen = |event: &Event| match event {
            Event::Token { logprobs, .. } => logprobs.as_ref().map(|found| found.chosen),
            _ => None,
        };
        events.iter().filter_map(chosen).collect()
    };
    if !matformer_nn::device::is_cpu(&device()) {
        let error = EngineModel::of(&model, Format::Q8_0).err().unwrap().to_string();
        assert_eq!(error, "weights in q8_0 need the CPU, expected f32 on other devices");
        return;
    }
    for slots in [1, 5] {
        let exact = most_likely(Format::F32, slots);
        assert_eq!(exact.len(), slots);
        for (format, limit) in [(Format::Bf16, 0.02), (Format::Q8_0, 0.05)] {
            let found = most_likely(format, slots);
            for (a, b) in found.iter().zip(&exact) {
                assert!((a - b).abs() < limit && a != b, "{format}: {a} against {b}");
            }
        }
    }
}

/// A slot may be shorter than the longest draft.
#[test]
fn drafts_of_any_length_fit_a_short_answer() {
    let model = model(&config());
    let (s, xl) = (model.space().smallest(), model.space().largest());
    for n in 1..6 {
        let draft = Draft {
            submodels: vec![s.clone(), xl.clone()],
            ..Draft::new(s.clone(), DraftLen::Auto { most: 15 })
        };
        let request = Request { draft: Some(draft), ..Request::new(vec![3], xl.clone(), n) };
        let options = EngineOptions { capacity: Some(1 + n), ..EngineOptions::default() };
        let held = EngineModel::of(&model, Format::F32).unwrap();
        let mut engine = Engine::new(&held, &options).unwrap();
        let answers = generate(&mut engine, &[request], |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(answers[0].tokens, greedy(&model, &xl, &[3], n));
    }
}
