//! AdamW against its definition, and its treatment of rows that a step did not draw.

use matformer_lm::MatLm;
use matformer_nn::params::nested_layer;
use matformer_train::{Outer, TrainConfig, Trainer};

use super::support::{Counting, ROWS, device, model, train_config, weights, within};

fn floats(model: &MatLm) -> Vec<(String, Vec<f32>)> {
    weights(model)
        .into_iter()
        .map(|(path, bits)| (path, bits.into_iter().map(f32::from_bits).collect()))
        .collect()
}

fn trainer(config: &TrainConfig, batches: u64) -> Trainer<MatLm> {
    Trainer::new(model(), config, batches)
}

fn counting(rows: usize) -> Counting {
    Counting { rows, wrong: 0..0, stop_at: None }
}

#[test]
fn outer_rows_decay_or_are_left_alone() {
    let base = TrainConfig {
        draw: "baseline:S".parse().unwrap(),
        warmup: 0,
        weight_decay: 0.1,
        learning_rate: 0.01,
        ..train_config()
    };
    let before = floats(&model());
    for outer in [Outer::Decay, Outer::Skip] {
        let mut trainer = trainer(&TrainConfig { outer, ..base.clone() }, 1);
        trainer.step(&counting(ROWS)).unwrap();
        let mut nested = 0;
        for ((path, after), (_, before)) in floats(trainer.model()).iter().zip(&before) {
            if nested_layer(path).is_none() {
                continue;
            }
            nested += 1;
            for (i, (a, b)) in after.iter().zip(before).enumerate() {
                if within(path, i, 4) {
                    assert_ne!(a, b, "{path}"); // width S
                    continue;
                }
                match outer {
                    Outer::Skip => assert_eq!(a.to_bits(), b.to_bits(), "{path}"),
                    // No gradient and no moment yet: weight decay alone.
                    Outer::Decay => assert!((a - b * (1.0 - 0.01 * 0.1)).abs() <= 1e-6 * b.abs()),
                }
            }
        }
        assert_eq!(nested, 6);
        let saved = trainer.optimizer().save().unwrap();
        for pieces in ["layers.0.ffn.up", "layers.0.ffn.down"].map(|path| &saved[path].pieces) {
            match outer {
                Outer::Decay => assert_eq!(pieces, &[(32 * 16, 1)]),
                Outer::Skip => assert_eq!(pieces, &[(4 * 16, 1), (32 * 16, 0)]),
            }
        }
        assert_eq!(saved["embed"].pieces, [(20 * 16, 1)]);
    }
}

#[test]
fn with_one_width_both_rules_are_the_same() {
    let config = TrainConfig { draw: "baseline:XL".parse().unwrap(), ..train_config() };
    let run = |outer| {
        let mut trainer = trainer(&TrainConfig { outer, ..config.clone() }, 1);
        (0..3).for_each(|_| {
            trainer.step(&counting(ROWS)).unwrap();
        });
        weights(trainer.model())
    };
    assert_eq!(run(Outer::Decay), run(Outer::Skip));
}

#[test]
fn steps_are_those_of_the_definition() {
    // Two steps of the joint draw, replayed in double precision from the gradients' moments.
    let config = TrainConfig { draw: "joint".parse().unwrap(), clip: 0.0, ..train_config() };
    let mut trainer = trainer(&config, 1);
    let mut expected = floats(trainer.model());
    let mut first_before: Vec<Vec<f64>> =
        expected.iter().map(|(_, v)| vec![0.0; v.len()]).collect();
    let mut second: Vec<Vec<f64>> = first_before.clone();
    for step in 1..=2i32 {
        let report = trainer.step(&counting(ROWS)).unwrap();
        let saved = trainer.optimizer().save().unwrap();
        let [beta1, beta2] = config.betas;
        for (i, (path, values)) in expected.iter_mut().enumerate() {
            let decay = if path.ends_with("gamma") { 0.0 } else { config.weight_decay };
            for (j, value) in values.iter_mut().enumerate() {
                let m = f64::from(saved[path].first[j]);
                let grad = (m - beta1 * first_before[i][j]) / (1.0 - beta1);
                first_before[i][j] = m;
                second[i][j] = beta2 * second[i][j] + (1.0 - beta2) * grad * grad;
                let v = f64::from(saved[path].second.as_ref().unwrap()[j]);
                assert!((v - second[i][j]).abs() <= 1e-3 * v.abs() + 1e-12, "{path} {j}");
                let (m, v) = (m / (1.0 - beta1.powi(step)), v / (1.0 - beta2.powi(step)));
                let rate = report.learning_rate;
                *value = (f64::from(*value) * (1.0 - rate * decay)
                    - rate * m / (v.sqrt() + config.eps)) as f32;
            }
        }
        for ((path, a), (_, b)) in floats(trainer.model()).iter().zip(&expected) {
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(0.1), "{path}: {a} against {b}");
            }
        }
    }
}

#[test]
fn accumulated_batches_are_one_batch() {
    // Several batches of fewer rows against one, the same tokens for the same submodels.
    for draw in ["sampled", "joint", "joint-separate", "sandwich", "per-layer"] {
        let config = TrainConfig { draw: draw.parse().unwrap(), ..train_config() };
        let (mut whole, mut parts) = (trainer(&config, 1), trainer(&config, 4));
        // The second step begins where the first ended.
        for _ in 0..2 {
            let (a, b) = (whole.step(&counting(4)).unwrap(), parts.step(&counting(1)).unwrap());
            assert!((a.grad_norm - b.grad_norm).abs() < 1e-4 * a.grad_norm, "{draw}");
            for (a, b) in a.terms.iter().zip(&b.terms) {
                assert_eq!((&a.label, a.count), (&b.label, b.count));
                assert!((a.nats - b.nats).abs() < 1e-4 * a.nats, "{draw} {}", a.label);
            }
        }
    }
}

#[test]
fn the_average_of_the_weights_is_what_is_published() {
    let config = TrainConfig { ema: 0.9, ..train_config() };
    let dir = tempfile::tempdir().unwrap();
    super::support::train(dir.path(), &config, None).unwrap();
    let published: (MatLm, _) = matformer_nn::folder::load(dir.path(), &device()).unwrap();
    // The same by hand: decay 0.9, or (1 + t)/(10 + t) if that is less.
    let mut trainer = trainer(&config, 1);
    let mut average = floats(trainer.model());
    for step in 1..=config.steps {
        trainer.step(&counting(super::support::ROWS)).unwrap();
        let decay = 0.9_f64.min((1.0 + step as f64) / (10.0 + step as f64));
        for ((_, average), (_, now)) in average.iter_mut().zip(floats(trainer.model())) {
            for (a, w) in average.iter_mut().zip(now) {
                *a = (f64::from(*a) * decay + f64::from(w) * (1.0 - decay)) as f32;
            }
        }
    }
    for ((path, expected), (_, found)) in average.iter().zip(floats(&published.0)) {
        let off = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-6, "{path}: {off}");
    }
    let raw = floats(trainer.model());
    assert!(raw.iter().zip(&average).any(|((_, raw), (_, average))| raw != average));
}

#[test]
fn early_layers_learn_at_a_lower_rate() {
    // One step of AdamW without decay moves every weight with a gradient by the rate.
    let config = TrainConfig { layer_decay: 0.5, weight_decay: 0.0, warmup: 0, ..train_config() };
    let mut trainer = trainer(&config, 1);
    let before = floats(trainer.model());
    trainer.step(&counting(super::support::ROWS)).unwrap();
    let moved = |path: &str| {
        let after = floats(trainer.model());
        let of =
            |all: &[(String, Vec<f32>)]| all.iter().find(|(p, _)| p == path).unwrap().1.clone();
        let pairs = of(&before).into_iter().zip(of(&after));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let [norm, second, first] = ["norm.gamma", "layers.1.ffn.up", "layers.0.ffn.up"].map(moved);
    assert!((second / norm - 0.5).abs() < 0.02, "{second} {norm}");
    assert!((first / second - 0.5).abs() < 0.02, "{first} {second}");
}

#[test]
fn what_is_frozen_stays_as_it_is_and_the_others_learn_the_same() {
    let freeze: Vec<String> = ["embed", "layers.1"].map(str::to_owned).to_vec();
    let config = TrainConfig { freeze, clip: 0.0, warmup: 0, ..train_config() };
    config.validate_freeze(&model()).unwrap();
    let free = TrainConfig { freeze: Vec::new(), ..config.clone() };
    let [mut frozen, mut trainer] = [&config, &free].map(|config| trainer(config, 1));
    let before = floats(frozen.model());
    for trainer in [&mut frozen, &mut trainer] {
        trainer.step(&counting(ROWS)).unwrap();
    }
    let (frozen_weights, all) = (floats(frozen.model()), floats(trainer.model()));
    for (((path, old), (_, new)), (_, other)) in before.iter().zip(&frozen_weights).zip(&all) {
        let is_frozen = path == "embed" || path.starts_with("layers.1.");
        assert_eq!(old == new, is_frozen, "{path}");
        assert_eq!(new == other, !is_frozen, "{path}");
        assert_eq!(frozen.optimizer().save().unwrap().contains_key(path), !is_frozen, "{path}");
    }
    for (names, expected) in [
        (
            vec!["embeds"],
            "`train.freeze` is `embeds`; expected one of embed, layers, norm, or a path",
        ),
        (vec!["embed", "layer"], "`train.freeze` is `layer`; expected one of"),
        (vec!["layers.1.ffn."], "`train.freeze` is `layers.1.ffn.`; expected one of"),
        (vec![""], "`train.freeze` is ``; expected one of"),
        (vec!["embed", "layers", "norm"], "; expected something to train"),
    ] {
        let freeze = names.into_iter().map(str::to_owned).collect();
        let config = TrainConfig { freeze, ..train_config() };
        let error = config.validate_freeze(&model()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn steps_that_leave_outer_rows_alone_give_the_losses_that_they_always_gave() {
    // Recorded when down was stored `[d_ff, d_model]`, a width being its first rows.
    let decay = [48.36486816, 47.10377502, 49.11839294, 47.31861877, 46.38545990, 50.26148224];
    let skip = [48.36486816, 47.10377502, 48.80470657, 47.48825836, 45.54570007, 47.22359467];
    for (outer, expected) in [(Outer::Decay, decay), (Outer::Skip, skip)] {
        let config = TrainConfig {
            draw: "sampled".parse().unwrap(),
            outer,
            warmup: 0,
            learning_rate: 0.05,
            ..train_config()
        };
        let mut trainer = trainer(&config, 1);
        for expected in expected {
            let report = trainer.step(&counting(ROWS)).unwrap();
            let found = report.terms.iter().map(|term| term.nats).sum::<f64>();
            // Room for what instruction sets round otherwise, grown by a large learning rate.
            assert!((found - expected).abs() < 5e-3, "{outer:?}: {found} against {expected}");
        }
    }
}
