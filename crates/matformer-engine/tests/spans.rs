//! Any mix of requests, sizes and parts of prompts gives what the whole texts give.

use std::collections::BTreeMap;

use matformer_core::{Plan, Submodel};
use matformer_engine::{
    Draft, DraftCache, DraftLen, Engine, EngineModel, EngineOptions, Event, Format, Logprobs,
    Request, RequestId, Sampling,
};
use matformer_lm::MatLm;
use matformer_nn::{Elastic, State, walk};
use proptest::prelude::*;

use crate::equalities::{config, model};

/// A request as proptest draws it.
#[derive(Clone, Debug)]
struct Drawn {
    prompt: Vec<u32>,
    widths: Vec<usize>,
    tokens: usize,
    /// Steps before it is submitted.
    later: usize,
    draft: Option<(usize, bool)>,
    seed: u64,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let width = prop::sample::select(vec![4, 8, 12, 20, 32, 48, 64]);
    (
        prop::collection::vec(0u32..50, 1..24),
        prop::collection::vec(width, 3),
        1usize..12,
        0usize..6,
        prop::option::of((1usize..5, any::<bool>())),
        any::<u64>(),
    )
        .prop_map(|(prompt, widths, tokens, later, draft, seed)| Drawn {
            prompt,
            widths,
            tokens,
            later,
            draft,
            seed,
        })
}

fn request(drawn: &Drawn) -> Request {
    let narrow = drawn.widths.iter().map(|width| width.div_ceil(8) * 4).collect();
    let draft = drawn.draft.map(|(len, own)| Draft {
        cache: if own { DraftCache::Own } else { DraftCache::Shared },
        ..Draft::new(Submodel::new(narrow), DraftLen::Fixed(len))
    });
    Request {
        draft,
        sampling: Sampling { temperature: 1.0, seed: drawn.seed, ..Sampling::default() },
        logprobs: Some(0),
        prompt_logprobs: Some(0),
        ..Request::new(drawn.prompt.clone(), Submodel::new(drawn.widths.clone()), drawn.tokens)
    }
}

/// Log-probabilities of the tokens of a text from the second on, by the forward pass.
fn walked(model: &MatLm, widths: &[usize], ids: &[u32]) -> Vec<f64> {
    let input = model.tokens(1, ids).unwrap();
    let plan = Plan::one(&Submodel::new(widths.to_vec()));
    let walked = walk(model, &input, &plan, &mut State::new()).unwrap();
    let logits: Vec<f32> = model.head(&walked.all()).try_into_vec_as().unwrap();
    let of = |(logits, next): (&[f32], &u32)| {
        let lse = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
        f64::from(logits[*next as usize]) - lse
    };
    logits.chunks(50).zip(&ids[1..]).map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_mix_of_requests_gives_what_the_whole_texts_give(
        mut all in prop::collection::vec(drawn(), 1..7),
        slots in 1usize..5,
        prefill in 1usize..20,
    ) {
        let model = model(&config());
        let options = EngineOptions {
            slots,
            prefill,
            threads: Some(2),
            draft_caches: true,
            ..EngineOptions::default()
        };
        let held = EngineModel::of(&model, Format::F32).unwrap();
        let mut engine = Engine::new(&held, &options).unwrap();
        all.sort_by_key(|drawn| drawn.later);
        let mut ids: BTreeMap<RequestId, usize> = BTreeMap::new();
        let mut texts: Vec<Vec<u32>> = all.iter().map(|drawn| drawn.prompt.clone()).collect();
        let mut found: Vec<Vec<Logprobs>> = vec![Vec::new(); all.len()];
        let mut step = 0;
        while engine.is_busy() || ids.len() < all.len() {
            while ids.len() < all.len() && all[ids.len()].later <= step {
                let at = ids.len();
                ids.insert(engine.submit(request(&all[at])).unwrap(), at);
            }
            step += 1;
            for event in engine.step().unwrap() {
                match event {
                    Event::Token { id, token, logprobs, .. } => {
                        texts[ids[&id]].push(token);
                        found[ids[&id]].extend(logprobs);
                    }
                    Event::Prompt { id, logprobs } => found[ids[&id]].extend(logprobs),
                    Event::Finished { .. } => {}
                }
            }
        }
        for ((drawn, text), found) in all.iter().zip(&texts).zip(&found) {
            prop_assert_eq!(text.len(), drawn.prompt.len() + drawn.tokens);
            let expected = walked(&model, &drawn.widths, text);
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let off = (f64::from(found.chosen) - expected).abs();
                prop_assert!(off < 1e-4, "{:?}: {}", drawn, off);
            }
        }
    }
}
