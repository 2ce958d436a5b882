//! Several ranks make the same run as one. Here they are threads.

use std::{ops::Range, path::Path, sync::Arc};

use matformer_exchange::{Exchange, threads};
use matformer_lm::MatLm;
use matformer_train::{
    Batch, Batches, BoxError, Checkpoints, Distill, MetricsLine, MetricsLog, Outcome, Result,
    RunOptions, TrainConfig, run,
};
use matformer_vit::MatVit;

use crate::support::{self, Counting, SEQ, Subject, device, draws, options, train_config};

/// One rank of a run.
pub struct Rank<M> {
    pub number: usize,
    model: M,
    pub batches: Counting,
    /// A batch that this rank cannot read.
    unreadable: Option<u64>,
    pub options: RunOptions,
}

/// Batches of a rank.
struct OfRank {
    batches: Counting,
    unreadable: Option<u64>,
}

impl<M: Subject> Batches<M> for OfRank {
    fn train(&self, model: &M, index: u64) -> Result<Batch<M>, BoxError> {
        self.train_rows(model, index, 0..Batches::<M>::rows(self))
    }

    fn rows(&self) -> usize {
        Batches::<M>::rows(&self.batches)
    }

    fn train_rows(&self, model: &M, index: u64, rows: Range<usize>) -> Result<Batch<M>, BoxError> {
        if self.unreadable == Some(index) {
            return Err("unreadable".into());
        }
        self.batches.train_rows(model, index, rows)
    }

    fn targets_per_batch(&self) -> usize {
        Batches::<M>::targets_per_batch(&self.batches)
    }

    fn held_out_len(&self) -> usize {
        Batches::<M>::held_out_len(&self.batches)
    }

    fn held_out(&self, model: &M, index: usize) -> Result<Batch<M>, BoxError> {
        self.batches.held_out(model, index)
    }
}

/// What each rank of `world` makes of a run in `dir`; `set` changes what one rank has.
pub fn ranks<M: Subject>(
    world: usize,
    dir: &Path,
    config: &TrainConfig,
    set: impl Fn(&mut Rank<M>) + Sync,
) -> Vec<Result<Outcome>> {
    let make = |exchange: Exchange| {
        let model = M::fresh(&device().autodiff());
        let rows = config.batch_rows.unwrap_or(config.tokens_per_step / M::TARGETS);
        let batches = Counting { rows, wrong: 0..0, stop_at: None };
        let options = options::<M>(model.space(), dir, config);
        let mut rank = Rank { number: exchange.rank(), model, batches, unreadable: None, options };
        set(&mut rank);
        let Rank { model, batches, unreadable, options, .. } = rank;
        let options = RunOptions { exchange, ..options };
        run(model, Arc::new(OfRank { batches, unreadable }), options)
    };
    std::thread::scope(|scope| {
        let ranks = threads(world).into_iter().map(|rank| scope.spawn(|| make(rank)));
        ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Trains to the end on `world` ranks.
fn trained<M: Subject>(world: usize, dir: &Path, config: &TrainConfig) {
    let outcomes = ranks::<M>(world, dir, config, |_| {});
    assert!(outcomes.iter().all(|outcome| !outcome.as_ref().unwrap().interrupted));
}

/// With a higher `eps`: AdamW makes a step of full length of a gradient that is zero but for rounding,
/// which depends on the order of sums.
fn config() -> TrainConfig {
    TrainConfig { eps: 1e-4, ..train_config() }
}

/// All losses of a run, in their order.
pub fn losses(dir: &Path) -> Vec<f64> {
    let lines = MetricsLog::read(dir).unwrap();
    let of = |line: MetricsLine| match line {
        MetricsLine::Train(line) => line.loss.into_values().collect::<Vec<f64>>(),
        MetricsLine::HeldOut(line) => line.held_out.into_values().collect(),
        MetricsLine::Skipped(line) => panic!("skipped: {line:?}"),
    };
    lines.into_iter().flat_map(of).collect()
}

/// Largest relative difference of two loss curves.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max)
}

/// Over 50 steps, on numbers of ranks that divide the rows evenly and that do not.
fn follows_one_rank<M: Subject>(rows: usize) {
    for draw in draws() {
        let tokens_per_step = rows * M::TARGETS;
        let config = TrainConfig {
            draw,
            tokens_per_step,
            steps: 50,
            // Differences of rounding grow with the steps: at 0.01, in the worst draw to 1.1e-5.
            learning_rate: 3e-3,
            eval_every: 25,
            checkpoint_every: 50,
            ..config()
        };
        let one = tempfile::tempdir().unwrap();
        trained::<M>(1, one.path(), &config);
        for world in [2, 4] {
            let dir = tempfile::tempdir().unwrap();
            trained::<M>(world, dir.path(), &config);
            let worst = apart(&losses(one.path()), &losses(dir.path()));
            assert!(worst < 1e-5, "{} on {world} ranks: {worst:e}", config.draw);
        }
    }
}

#[test]
fn ranks_follow_the_losses_of_one_rank_for_every_draw() {
    follows_one_rank::<MatLm>(6);
}

#[test]
fn ranks_follow_one_rank_with_drop_path() {
    follows_one_rank::<MatVit>(6);
}

#[test]
fn ranks_share_a_step_of_several_passes_and_a_teacher() {
    let config = TrainConfig {
        draw: "joint-separate".parse().unwrap(),
        tokens_per_step: 6 * SEQ,
        batch_rows: Some(2),
        distill: Some(Distill::default()),
        ..config()
    };
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for (world, dir) in [1, 2].into_iter().zip(&dirs) {
        trained::<MatLm>(world, dir.path(), &config);
    }
    let worst = apart(&losses(dirs[0].path()), &losses(dirs[1].path()));
    assert!(worst < 1e-5, "{worst:e}");
}

#[test]
fn a_checkpoint_goes_on_with_another_number_of_ranks() {
    let config = TrainConfig { tokens_per_step: 6 * SEQ, ..config() };
    let one = tempfile::tempdir().unwrap();
    trained::<MatLm>(1, one.path(), &config);
    let dir = tempfile::tempdir().unwrap();
    // Rank 1 alone is asked to stop.
    let outcomes = ranks::<MatLm>(2, dir.path(), &config, |rank| {
        if rank.number == 1 {
            rank.batches.stop_at = Some((6, rank.options.interrupter.clone()));
        }
    });
    for outcome in outcomes {
        let outcome = outcome.unwrap();
        assert!(outcome.interrupted && outcome.steps == 7, "{outcome:?}");
    }
    assert_eq!(Checkpoints::of(dir.path()).latest().unwrap().unwrap().step, 7);
    trained::<MatLm>(3, dir.path(), &config);
    let worst = apart(&losses(one.path()), &losses(dir.path()));
    assert!(worst < 1e-5, "{worst:e}");
}

/// What each of two ranks says if `set` makes a difference.
fn refused(config: &TrainConfig, set: impl Fn(&mut Rank<MatLm>) + Sync) -> [String; 2] {
    let dir = tempfile::tempdir().unwrap();
    let errors = ranks::<MatLm>(2, dir.path(), config, set);
    let said: Vec<String> = errors.into_iter().map(|e| e.unwrap_err().to_string()).collect();
    said.try_into().unwrap()
}

#[test]
fn a_rank_that_differs_is_refused_by_name() {
    let config = config();
    let [first, second] = refused(&config, |rank| {
        rank.options.config.learning_rate *= (1 + rank.number) as f64;
    });
    assert_eq!(second, "`train.learning_rate` is 0.02; expected 0.01, as on rank 0");
    assert_eq!(first, format!("rank 1: {second}"));
    let [first, _] = refused(&config, |rank| {
        rank.options.manifest.provenance.data_hash = rank.number.to_string().repeat(4);
    });
    assert_eq!(first, "rank 1: the hash of the data is 1111; expected 0000, as on rank 0");
    let [first, _] = refused(&config, |rank| {
        rank.model =
            MatLm::new(&support::config(), rank.number as u64, &device().autodiff()).unwrap();
    });
    assert!(first.starts_with("rank 1: the hash of the weights is "), "{first}");
}

#[test]
fn an_error_of_a_rank_ends_all() {
    let [first, second] = refused(&config(), |rank| {
        rank.unreadable = (rank.number == 1).then_some(5);
    });
    assert_eq!([&first[..], &second], ["rank 1: batch 5: unreadable", "batch 5: unreadable"]);
    let config = TrainConfig { tokens_per_step: SEQ, ..config() };
    let [first, second] = refused(&config, |_| {});
    assert_eq!(
        first,
        "`train.tokens_per_step` is 8; expected at least 2 rows, one for each rank: they are 1"
    );
    assert_eq!(second, format!("rank 0: {first}"));
}
