//! Ranks that make rounds of steps by themselves, and outer steps together (DiLoCo).

use std::{collections::BTreeMap, ops::Range, path::Path};

use matformer_core::{Manifest, Provenance, StepDraw, Submodel};
use matformer_exchange::{Exchange, threads};
use matformer_lm::MatLm;
use matformer_nn::{Elastic, folder};
use matformer_train::{
    Batch, Batches, BoxError, Checkpoints, ExchangeRule, MetricsLine, MetricsLog, OptimizerRule,
    Outcome, Outer, Rounds, Saved, TrainConfig, Trainer,
};
use matformer_vit::MatVit;

use crate::{
    ranks::{losses, ranks},
    support::{Counting, SEQ, Subject, device, model, train, train_config, weights, within},
};

const ROWS: usize = 6;

/// Weights become their mean over the ranks.
const MEAN: Rounds = Rounds { every: 1, outer_learning_rate: 1.0, outer_momentum: 0.0 };

fn config(rounds: Rounds) -> TrainConfig {
    let exchange = ExchangeRule::Rounds(rounds);
    TrainConfig { exchange, tokens_per_step: ROWS * SEQ, ..train_config() }
}

fn every(every: u64) -> Rounds {
    Rounds { every, ..Rounds::default() }
}

fn counting(rows: usize) -> Counting {
    Counting { rows, wrong: 0..0, stop_at: None }
}

type Bits = BTreeMap<String, Vec<u32>>;

/// What `f` makes of a trainer on each of `world` ranks.
fn on_ranks<T: Send>(
    world: usize,
    config: &TrainConfig,
    f: impl Fn(&mut Trainer<MatLm>) -> T + Sync,
) -> Vec<T> {
    let make =
        |exchange: Exchange| f(&mut Trainer::new(model(), config, 1).with_exchange(exchange));
    std::thread::scope(|scope| {
        let ranks = threads(world).into_iter().map(|rank| scope.spawn(|| make(rank)));
        ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Some rows of each batch, as if they were all.
struct Part(Range<usize>);

impl Batches<MatLm> for Part {
    fn train(&self, model: &MatLm, index: u64) -> Result<Batch<MatLm>, BoxError> {
        model.batch(ROWS, self.0.clone(), index, false)
    }

    fn targets_per_batch(&self) -> usize {
        self.0.len() * SEQ
    }

    fn held_out_len(&self) -> usize {
        0
    }

    fn held_out(&self, model: &MatLm, index: usize) -> Result<Batch<MatLm>, BoxError> {
        self.train(model, index as u64)
    }
}

#[test]
fn ranks_take_the_mean_of_the_weights_that_each_has_trained_alone() {
    let config = config(Rounds { every: 2, ..MEAN });
    let alone = [0..3, 3..6].map(|rows| {
        let mut trainer = Trainer::new(model(), &config, 1);
        // The second step ends the round, which leaves the weights of one rank as they are.
        (0..2).for_each(|_| drop(trainer.step(&Part(rows.clone())).unwrap()));
        weights(trainer.model())
    });
    let both: Vec<[Bits; 2]> = on_ranks(2, &config, |trainer| {
        [(); 2].map(|()| {
            trainer.step(&counting(ROWS)).unwrap();
            weights(trainer.model())
        })
    });
    assert_ne!(both[0][0], both[1][0]);
    assert_eq!(both[0][1], both[1][1]);
    for (path, bits) in &both[0][1] {
        for (i, bits) in bits.iter().enumerate() {
            let [a, b] = [0, 1].map(|rank| f32::from_bits(alone[rank][path][i]));
            assert_eq!(f32::from_bits(*bits), (a + b) / 2.0, "{path} {i}");
        }
    }
}

#[test]
fn a_step_inside_of_a_round_sends_one_short_message() {
    let config = config(every(4));
    std::thread::scope(|scope| {
        for exchange in threads(2) {
            let config = &config;
            scope.spawn(move || {
                let mut trainer = Trainer::new(model(), config, 1).with_exchange(exchange.clone());
                trainer.step(&counting(ROWS)).unwrap();
                // Whether the rank has failed, nats, count and divergence of the submodel, and the norm: of two ranks
                // each sends all of it once.
                assert_eq!(exchange.sent(), 5 * 8);
            });
        }
    });
}

#[test]
fn a_short_round_takes_its_share_of_the_momentum() {
    let rounds = Rounds { every: 4, ..Rounds::default() };
    let config = TrainConfig { steps: 21, ..config(rounds) };
    let mut trainer = Trainer::new(model(), &config, 1);
    let mut moves = Vec::new();
    let mut before = weights(trainer.model());
    for step in 1..=config.steps {
        trainer.step(&counting(ROWS)).unwrap();
        if config.exchanges_at(step) {
            let now = weights(trainer.model());
            let squares = now.iter().flat_map(|(path, now)| {
                now.iter().zip(&before[path]).map(|(a, b)| f32::from_bits(*a) - f32::from_bits(*b))
            });
            moves.push(squares.map(|d| f64::from(d * d)).sum::<f64>().sqrt());
            before = now;
        }
    }
    // Five rounds of four steps, and one of one.
    assert_eq!(moves.len(), 6);
    assert!(moves[5] < 0.5 * moves[4], "{moves:?}");
}

/// Bits of the model that a run has published, and its losses.
fn ended(dir: &Path) -> (Bits, Vec<f64>) {
    let (model, _) = folder::load::<MatLm>(dir, &device()).unwrap();
    (weights(&model), losses(dir))
}

/// What the optimizer does with units that a step does not draw.
const KINDS: [(Outer, OptimizerRule); 3] = [
    (Outer::Decay, OptimizerRule::Adamw),
    (Outer::Skip, OptimizerRule::Adamw),
    (Outer::Decay, OptimizerRule::Muon),
];

#[test]
fn one_rank_that_takes_the_mean_makes_the_run_without_rounds() {
    for (outer, optimizer) in KINDS {
        let of = |exchange| {
            let dir = tempfile::tempdir().unwrap();
            let config = TrainConfig { outer, optimizer, exchange, ema: 0.9, ..train_config() };
            let config = TrainConfig { eval_every: 6, checkpoint_every: 6, ..config };
            train(dir.path(), &config, None).unwrap();
            ended(dir.path())
        };
        let rounds = of(ExchangeRule::Rounds(Rounds { every: 3, ..MEAN }));
        assert!(rounds == of(ExchangeRule::EveryStep), "{outer:?}, {optimizer:?}");
    }
}

fn outcomes<M: Subject>(
    world: usize,
    dir: &Path,
    config: &TrainConfig,
    stop_at: Option<u64>,
) -> Vec<Outcome> {
    let outcomes = ranks::<M>(world, dir, config, |rank| {
        if rank.number == 1 {
            rank.batches.stop_at = stop_at.map(|at| (at, rank.options.interrupter.clone()));
        }
    });
    outcomes.into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_run_that_stops_within_a_round_ends_it_and_goes_on_with_the_same_bits() {
    for (outer, optimizer) in KINDS {
        let config = TrainConfig { outer, optimizer, ema: 0.9, ..config(every(3)) };
        let [whole, stopped] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        for outcome in outcomes::<MatLm>(2, whole.path(), &config, None) {
            assert!(!outcome.interrupted && outcome.sent > 0, "{outcome:?}");
        }
        // Asked to in the seventh step.
        for outcome in outcomes::<MatLm>(2, stopped.path(), &config, Some(6)) {
            assert!(outcome.interrupted && outcome.steps == 9, "{outcome:?}");
        }
        outcomes::<MatLm>(2, stopped.path(), &config, None);
        assert!(ended(stopped.path()) == ended(whole.path()), "{outer:?}, {optimizer:?}");
        // Every five steps they evaluate, and every four they save: at the ends of rounds.
        let lines = MetricsLog::read(whole.path()).unwrap();
        let evaluated = lines.iter().filter(|line| matches!(line, MetricsLine::HeldOut(_)));
        assert_eq!(evaluated.map(MetricsLine::step).collect::<Vec<_>>(), [6, 12]);
        let saved = Checkpoints::of(whole.path()).all().unwrap();
        assert_eq!(saved.iter().map(|saved| saved.step).collect::<Vec<_>>(), [6, 12]);
    }
}

#[test]
fn another_number_of_ranks_goes_on_and_both_kinds_learn() {
    fn learns<M: Subject>(config: &TrainConfig) {
        let dir = tempfile::tempdir().unwrap();
        let sent = outcomes::<M>(2, dir.path(), config, Some(1))[0].sent;
        let rest = outcomes::<M>(3, dir.path(), config, None);
        assert!(rest.iter().all(|outcome| outcome.steps == 48), "{rest:?}");
        let losses = losses(dir.path());
        let [first, last] = [losses[0], losses[losses.len() - 1]];
        assert!(last < 0.9 * first, "{first} {last}");
        // In every step they would send as much for gradients as here at the end of a round for weights alone.
        let dir = tempfile::tempdir().unwrap();
        let exchange = ExchangeRule::EveryStep;
        let each = TrainConfig { steps: 4, exchange, ..config.clone() };
        let each = outcomes::<M>(2, dir.path(), &each, None)[0].sent;
        assert!(sent < each, "{sent} {each}");
    }
    let config = TrainConfig { steps: 48, eval_every: 24, ..config(every(4)) };
    learns::<MatLm>(&config);
    learns::<MatVit>(&TrainConfig { tokens_per_step: ROWS * MatVit::TARGETS, ..config });
}

/// A draw of one granularity.
fn draw(name: &str) -> StepDraw {
    let submodel: Submodel = model().space().uniform(name).unwrap();
    StepDraw { terms: vec![(submodel, 1.0)], separate_batches: false }
}

#[test]
fn units_that_no_step_of_a_round_has_drawn_do_not_move_where_they_are_skipped() {
    for outer in [Outer::Skip, Outer::Decay] {
        let config = TrainConfig { outer, steps: 100, ..config(every(2)) };
        // Three ranks: a third of three times a number is another number.
        let found = on_ranks(3, &config, |trainer| {
            let mut round = |names: [&str; 2]| {
                for name in names {
                    trainer.step_on(&draw(name), &counting(ROWS)).unwrap();
                }
                weights(trainer.model())
            };
            [round(["XL", "XL"]), round(["M", "S"])]
        });
        assert!(found.iter().all(|of_rank| *of_rank == found[0]));
        let [before, after] = &found[0];
        for (path, bits) in after {
            let nested = matformer_nn::params::nested_layer(path).is_some();
            for (i, bits) in bits.iter().enumerate() {
                let moved = *bits != before[path][i];
                let drawn = !nested || within(path, i, 8); // width M
                assert!(moved || !drawn || outer == Outer::Skip, "{outer:?} {path} {i}");
                assert!(!moved || drawn || outer == Outer::Decay, "{outer:?} {path} {i}");
            }
        }
    }
}

#[test]
fn there_is_no_checkpoint_within_a_round() {
    let config = config(every(2));
    let mut trainer = Trainer::new(model(), &config, 1);
    let dir = tempfile::tempdir().unwrap();
    let provenance = Provenance {
        version: "test".to_owned(),
        seed: 0,
        steps: 0,
        tokens: 0,
        data_hash: "0".repeat(64),
        parent: None,
    };
    let manifest = Manifest::new("matlm", trainer.model().space(), config.draw.clone(), provenance);
    let saved =
        Saved { manifest: &manifest, files: &[], held_out: None, run: &serde_json::Value::Null };
    let mut save = |steps| {
        (0..steps).for_each(|_| drop(trainer.step(&counting(ROWS)).unwrap()));
        Checkpoints::of(dir.path()).save(&trainer, saved, 3)
    };
    assert_eq!(
        save(1).unwrap_err().to_string(),
        "no checkpoint after step 1: expected one after which ranks exchange weights"
    );
    assert_eq!(save(1).unwrap().step, 2);
}
