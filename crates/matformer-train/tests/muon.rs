//! Muon against its definition, on the drawn part of nested matrices alone.

use matformer_nn::{layer_of, nested_layer};
use matformer_train::{OptimizerRule, TrainConfig, Trainer};

use super::support::{Counting, ROWS, model, train, train_config, weights, within};

fn config(draw: &str) -> TrainConfig {
    TrainConfig {
        draw: draw.parse().unwrap(),
        optimizer: OptimizerRule::Muon,
        clip: 0.0,
        ..train_config()
    }
}

fn counting() -> Counting {
    Counting { rows: ROWS, wrong: 0..0, stop_at: None }
}

/// Whether a parameter is a matrix of a layer.
fn is_matrix(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap();
    layer_of(path).is_some() && ["weight", "up", "gate", "down"].contains(&last)
}

#[test]
fn what_was_not_drawn_stays_and_what_is_no_matrix_takes_adamw() {
    let before = weights(&model());
    let mut trainer = Trainer::new(model(), &config("baseline:S"), 1);
    trainer.step(&counting()).unwrap();
    let saved = trainer.optimizer().save().unwrap();
    for (path, after) in weights(trainer.model()) {
        assert_eq!(saved[&path].second.is_none(), is_matrix(&path), "{path}");
        if nested_layer(&path).is_none() {
            continue;
        }
        for (i, (a, b)) in after.iter().zip(&before[&path]).enumerate() {
            assert_eq!(a != b, within(&path, i, 4), "{path} {i}");
        }
        assert_eq!(saved[&path].pieces, [(4 * 16, 1), (32 * 16, 0)]);
    }
}

/// A matrix as rows.
type Matrix = Vec<Vec<f64>>;

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let of = |row: &Vec<f64>| {
        (0..b[0].len()).map(|j| row.iter().zip(b).map(|(x, b)| x * b[j]).sum()).collect()
    };
    a.iter().map(of).collect()
}

fn transposed(a: &Matrix) -> Matrix {
    (0..a[0].len()).map(|j| a.iter().map(|row| row[j]).collect()).collect()
}

fn sum(a: &Matrix, b: &Matrix, of: impl Fn(f64, f64) -> f64) -> Matrix {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect()).collect()
}

/// The iteration in double precision.
fn orthogonal(x: &Matrix) -> Matrix {
    let norm = x.iter().flatten().map(|v| v * v).sum::<f64>().sqrt();
    let mut x = sum(x, x, |v, _| v / norm);
    for _ in 0..5 {
        let gram = product(&x, &transposed(&x));
        let both = sum(&gram, &product(&gram, &gram), |a, b| -4.7750 * a + 2.0315 * b);
        x = sum(&x, &product(&both, &x), |a, b| 3.4445 * a + b);
    }
    x
}

/// The first `rows` rows of the first `cols` columns.
fn part(values: &[f32], [n, m]: [usize; 2], [rows, cols]: [usize; 2]) -> Matrix {
    assert_eq!(values.len(), n * m);
    values
        .chunks(m)
        .take(rows)
        .map(|row| row[..cols].iter().map(|v| f64::from(*v)).collect())
        .collect()
}

#[test]
fn steps_are_those_of_the_definition_on_the_drawn_part() {
    let config = config("baseline:S");
    let mut trainer = Trainer::new(model(), &config, 1);
    let floats = |bits: &[u32]| -> Vec<f32> { bits.iter().map(|b| f32::from_bits(*b)).collect() };
    // Of d_model 16 and d_ff 32, whose S is 4.
    let matrices = [
        ("layers.0.ffn.up", [32, 16], [4, 16]),
        ("layers.1.ffn.down", [16, 32], [16, 4]),
        ("layers.0.attention.o.weight", [16, 16], [16, 16]),
    ];
    let mut momentum: Vec<Matrix> =
        matrices.iter().map(|(_, _, [rows, cols])| vec![vec![0.0; *cols]; *rows]).collect();
    for _ in 0..3 {
        let before = weights(trainer.model());
        let report = trainer.step(&counting()).unwrap();
        let (after, saved) = (weights(trainer.model()), trainer.optimizer().save().unwrap());
        for ((path, shape, drawn), momentum) in matrices.iter().zip(&mut momentum) {
            let of = |values: &[f32]| part(values, *shape, *drawn);
            let now = of(&saved[*path].first);
            let grad = sum(&now, momentum, |now, old| now - 0.95 * old);
            *momentum = now.clone();
            let update = orthogonal(&sum(&grad, &now, |grad, now| grad + 0.95 * now));
            let size = 0.2 * (drawn[0].max(drawn[1]) as f64).sqrt() * report.learning_rate;
            let decay = 1.0 - report.learning_rate * config.weight_decay;
            let expected = sum(&of(&floats(&before[*path])), &update, |p, u| p * decay - size * u);
            let found = of(&floats(&after[*path]));
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                assert!((found - expected).abs() < 1e-4, "{path}: {found} against {expected}");
            }
        }
    }
}

#[test]
fn a_run_that_was_stopped_ends_as_one_that_was_not() {
    let config = config("sampled");
    let [whole, stopped] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    train(whole.path(), &config, None).unwrap();
    train(stopped.path(), &config, Some(7)).unwrap();
    train(stopped.path(), &config, None).unwrap();
    let read =
        |dir: &tempfile::TempDir| std::fs::read(dir.path().join("model.safetensors")).unwrap();
    assert_eq!(read(&whole), read(&stopped));
}

/// Moments of the one rule are not taken for those of the other.
#[test]
fn a_run_goes_on_with_another_rule() {
    let dir = tempfile::tempdir().unwrap();
    let adamw = TrainConfig { optimizer: OptimizerRule::Adamw, ..config("sampled") };
    let muon = config("sampled");
    for (config, stop) in [(&adamw, Some(5)), (&muon, Some(9)), (&adamw, None)] {
        train(dir.path(), config, stop).unwrap();
    }
    let lines = matformer_train::MetricsLog::read(dir.path()).unwrap();
    let losses = lines.iter().filter_map(|line| match line {
        matformer_train::MetricsLine::Train(t) => t.loss.values().copied().reduce(f64::max),
        _ => None,
    });
    let losses: Vec<f64> = losses.collect();
    assert_eq!(losses.len(), 12);
    assert!(losses.iter().all(|loss| *loss < losses[0] + 0.5), "{losses:?}");
}
