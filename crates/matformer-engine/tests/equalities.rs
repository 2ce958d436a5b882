//! What the engine gives is what the model gives, whatever shares a step with it.

use std::collections::BTreeMap;

use burn::tensor::Device;
use matformer_core::{Plan, Submodel};
use matformer_engine::{
    Draft, DraftLen, Engine, EngineOptions, Event, Finish, Format, Policy, Request, RequestId,
    Sampling, generate,
};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{Activation, DeviceSpec, Elastic, State, walk};

fn device() -> Device {
    DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap()
}

fn config() -> MatLmConfig {
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

fn model(config: &MatLmConfig) -> MatLm {
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

/// Logits of a text at a submodel, by the walk: `[tokens, vocab]`.
fn walked(model: &MatLm, submodel: &Submodel, ids: &[u32]) -> Vec<Vec<f32>> {
    let input = model.tokens(1, ids).unwrap();
    let plan = Plan::one(submodel);
    let walked = walk(model, &input, &plan, &mut State::new()).unwrap();
    let logits: Vec<f32> = model.head(&walked.all()).try_into_vec_as().unwrap();
    logits.chunks(50).map(<[f32]>::to_vec).collect()
}

/// Greedy tokens by the walk, the whole text anew for each.
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
            }
        }
    }
    found
}

fn engine(model: &MatLm, slots: usize) -> Engine {
    let options = EngineOptions { slots, threads: Some(2), prefill: 9, ..EngineOptions::default() };
    Engine::new(model, &options).unwrap()
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
    for seed in 0..40 {
        for (narrow, len) in
            [(&s, DraftLen::Fixed(3)), (&l, DraftLen::Fixed(7)), (&xl, DraftLen::Auto { most: 4 })]
        {
            let mut engine = engine(&model, 2);
            let draft = Draft {
                submodel: narrow.clone(),
                len,
                confidence: if seed % 2 == 0 { 0.0 } else { 0.02 },
            };
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
            assert_eq!(tokens, greedy(&model, &xl, &prompt(5, seed), 20), "{len:?}");
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
    let draft = Draft { submodel: s, len: DraftLen::Fixed(2), confidence: 0.0 };
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
    let draft = Draft { submodel: xl.clone(), len: DraftLen::Fixed(2), confidence: 0.0 };
    assert!(
        refused(Request { draft: Some(draft.clone()), ..plain.clone() })
            .starts_with("`draft`: found width 64 in layer 0, expected at most 8")
    );
    let escalate = Policy::Escalate { wide: xl.clone(), entropy: 1.0 };
    let both = Request {
        draft: Some(Draft { submodel: s.clone(), ..draft.clone() }),
        policy: escalate,
        ..plain.clone()
    };
    assert!(refused(both).starts_with("`draft` and a policy"));
    let long = Draft { submodel: s.clone(), len: DraftLen::Fixed(16), confidence: 0.0 };
    assert_eq!(
        refused(Request { draft: Some(long), ..plain.clone() }),
        "`draft_len` is 16, expected from 1 to 15"
    );
    let confident = Draft { submodel: s, confidence: 1.5, ..draft };
    assert_eq!(
        refused(Request { draft: Some(confident), ..plain }),
        "`confidence` is 1.5, expected from 0 to below 1"
    );
    let options = EngineOptions { slots: 0, ..EngineOptions::default() };
    assert_eq!(
        Engine::new(&model, &options).err().unwrap().to_string(),
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
    let error = generate(&spoilt, &[request], &EngineOptions::default(), |_, _| {}).unwrap_err();
    assert_eq!(error.to_string(), "the logits of request 0 are NaN");
}

#[test]
fn a_list_of_requests_is_answered_in_order() {
    let model = model(&config());
    let xl = model.space().largest();
    let requests: Vec<Request> =
        (0..20).map(|i| Request::new(prompt(1 + i, i), xl.clone(), i % 4)).collect();
    let mut heard = vec![Vec::new(); 20];
    let answers =
        generate(&model, &requests, &EngineOptions::default(), |i, token| heard[i].push(token));
    for (i, answer) in answers.unwrap().iter().enumerate() {
        assert_eq!(answer.tokens, greedy(&model, &xl, &prompt(1 + i, i), i % 4));
        assert_eq!((&heard[i], answer.reason), (&answer.tokens, Finish::Length));
    }
}

/// Rounded weights give log-probabilities near those of f32: for one text and for several at once.
#[test]
fn packed_weights_are_near_and_rounded() {
    let model = model(&config());
    let most_likely = |format, slots: usize| -> Vec<f32> {
        let options = EngineOptions { slots, threads: Some(2), format, ..EngineOptions::default() };
        let mut engine = Engine::new(&model, &options).unwrap();
        for (i, submodel) in submodels(&model).into_iter().take(slots).enumerate() {
            let request = Request::new(prompt(9 + i, i), submodel, 1);
            engine.submit(Request { logprobs: Some(0), ..request }).unwrap();
        }
        let events = engine.step().unwrap();
        let chosen = |event: &Event| match event {
            Event::Token { logprobs, .. } => logprobs.as_ref().map(|found| found.chosen),
            Event::Finished { .. } => None,
        };
        events.iter().filter_map(chosen).collect()
    };
    if !matformer_nn::device::is_cpu(&device()) {
        let options = EngineOptions { format: Format::Q8_0, ..EngineOptions::default() };
        let error = Engine::new(&model, &options).err().unwrap().to_string();
        assert_eq!(error, "weights in q8_0: found another device than the CPU, expected f32 there");
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
        let draft =
            Draft { submodel: s.clone(), len: DraftLen::Auto { most: 15 }, confidence: 0.0 };
        let request = Request { draft: Some(draft), ..Request::new(vec![3], xl.clone(), n) };
        let answers = generate(&model, &[request], &EngineOptions::default(), |_, _| {}).unwrap();
        assert_eq!(answers[0].tokens, greedy(&model, &xl, &[3], n));
    }
}
