//! Training batches as a pure function of (seed, step, rank, world).

use std::ops::Range;

use matformer_core::rng;

use crate::{Error, Result, Shard, permutation::Permutation};

/// The shape of one rank's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Sequences of one rank.
    pub rows: usize,
    /// Targets of one sequence.
    pub seq_len: usize,
}

/// Token ids of one batch, row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBatch {
    /// Sequences.
    pub rows: usize,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Input tokens, [rows * seq_len].
    pub inputs: Vec<u32>,
    /// The token after each input, [rows * seq_len].
    pub targets: Vec<u32>,
    /// Which targets are learnt, [rows * seq_len], where not all are.
    pub learnt: Option<Vec<bool>>,
}

/// Iterates over the windows of a shard without replacement. Each epoch uses another order and another offset.
///
/// Row `r` of rank `k` at step `t` is global row `i = (t * world + k) * rows + r`; it reads window `i % windows` of
/// epoch `i / windows`, at the place that a permutation keyed by (seed, epoch) gives it. There is no state between
/// calls, so a resumed run reads the same windows as an uninterrupted one, and the ranks of a step together read the
/// same windows as a single rank with `world * rows` rows. Windows may cross document boundaries; the separator between
/// two documents is a target like any other token.
#[derive(Debug, Clone)]
pub struct Batches {
    shard: Shard,
    shape: BatchShape,
    seed: u64,
    windows: u64,
}

impl Batches {
    /// Batches of `shape` from `shard`.
    ///
    /// # Errors
    /// [`Error::Zero`] if the shape is empty, [`Error::TooShort`] if the shard has fewer tokens than
    /// one batch: `rows * seq_len + 1`.
    pub fn new(shard: Shard, shape: BatchShape, seed: u64) -> Result<Self> {
        for (key, value) in [("rows", shape.rows), ("seq_len", shape.seq_len)] {
            if value == 0 {
                return Err(Error::Zero { key });
            }
        }
        let needed = shape.rows.saturating_mul(shape.seq_len).saturating_add(1);
        if shard.len() < needed {
            let BatchShape { rows, seq_len } = shape;
            return Err(Error::TooShort { found: shard.len(), needed, rows, seq_len });
        }
        // The last window is given up where the offset needs its room.
        let windows = ((shard.len() - shape.seq_len) / shape.seq_len).max(1) as u64;
        Ok(Self { shard, shape, seed, windows })
    }

    /// Windows in one epoch.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// The shape of a batch.
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// The batch of `rank` out of `world` at `step`.
    pub fn at(&self, step: u64, rank: usize, world: usize) -> HostBatch {
        let turn = u128::from(step) * world as u128 + rank as u128;
        self.rows(turn * self.shape.rows as u128, self.shape.rows)
    }

    /// The rows `rows` of the batch of a single rank at `step`.
    pub fn part(&self, step: u64, rows: Range<usize>) -> HostBatch {
        let first = u128::from(step) * self.shape.rows as u128 + rows.start as u128;
        self.rows(first, rows.len())
    }

    /// `rows` rows from global row `first`.
    fn rows(&self, first: u128, rows: usize) -> HostBatch {
        let seq_len = self.shape.seq_len;
        let learnt = self.shard.is_masked().then(|| Vec::with_capacity(rows * seq_len));
        let mut batch = HostBatch { rows, seq_len, inputs: vec![], targets: vec![], learnt };
        batch.inputs.reserve_exact(rows * seq_len);
        batch.targets.reserve_exact(rows * seq_len);
        for row in 0..rows as u128 {
            let start = self.start(first + row);
            batch.inputs.extend(self.shard.iter(start..start + seq_len));
            let targets = start + 1..start + seq_len + 1;
            batch.targets.extend(self.shard.iter(targets.clone()));
            if let Some(learnt) = &mut batch.learnt {
                learnt.extend(self.shard.learnt(targets));
            }
        }
        batch
    }

    /// Where the inputs of global row `row` start in the shard.
    fn start(&self, row: u128) -> usize {
        let windows = u128::from(self.windows);
        let epoch = (row / windows) as u64;
        let mut random = rng::keyed(self.seed, "batches", epoch);
        let permutation = Permutation::new(self.windows, &mut random);
        let seq_len = self.shape.seq_len;
        // Targets that no window covers: room to shift all of them.
        let room = self.shard.len() - 1 - self.windows as usize * seq_len;
        let offset = rng::index(&mut random, room.min(seq_len - 1) + 1);
        offset + permutation.at((row % windows) as u64) as usize * seq_len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::Hash;

    /// A shard of the tokens 0..count, so that a token tells its place.
    fn counting(count: u32) -> (tempfile::TempDir, Shard) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        let tokens: Vec<u32> = (0..count).collect();
        Shard::write(&path, &tokens, Hash::of(b""), 1 << 20).unwrap();
        (folder, Shard::open(&path).unwrap())
    }

    fn batches(shard: &Shard, rows: usize, seq_len: usize, seed: u64) -> Batches {
        Batches::new(shard.clone(), BatchShape { rows, seq_len }, seed).unwrap()
    }

    #[test]
    fn targets_are_the_next_tokens_and_a_batch_repeats() {
        let (_folder, shard) = counting(1000);
        let batches = batches(&shard, 4, 16, 7);
        let batch = batches.at(3, 0, 1);
        assert_eq!(batch.inputs.len(), 64);
        assert!(
            batch.inputs.iter().zip(&batch.targets).all(|(input, target)| input + 1 == *target)
        );
        assert_eq!(batch, batches.at(3, 0, 1));
        assert_ne!(batch, batches.at(4, 0, 1));
    }

    #[test]
    fn seeds_and_epochs_differ_in_order_and_offset() {
        let (_folder, shard) = counting(1000);
        let epoch = |seed, epoch: u64| {
            let batches = batches(&shard, 1, 10, seed);
            (0..batches.windows())
                .map(|w| batches.at(epoch * batches.windows() + w, 0, 1).inputs[0])
                .collect::<Vec<_>>()
        };
        assert_ne!(epoch(0, 0), epoch(1, 0));
        assert_ne!(epoch(0, 0), epoch(0, 1));
        let offsets: HashSet<u32> = (0..20).map(|at| epoch(0, at)[0] % 10).collect();
        assert!(offsets.len() > 4, "{offsets:?}");
    }

    #[test]
    fn too_short_and_empty_shapes_are_refused() {
        let (_folder, shard) = counting(10);
        let new = |rows, seq_len| Batches::new(shard.clone(), BatchShape { rows, seq_len }, 0);
        assert!(matches!(new(1, 10), Err(Error::TooShort { found: 10, needed: 11, .. })));
        assert!(matches!(new(3, 4), Err(Error::TooShort { needed: 13, rows: 3, .. })));
        assert!(matches!(new(0, 4), Err(Error::Zero { key: "rows" })));
        assert!(matches!(new(1, 0), Err(Error::Zero { key: "seq_len" })));
        assert!(matches!(new(1, usize::MAX), Err(Error::TooShort { .. })));
        assert_eq!(new(1, 9).unwrap().at(5, 0, 1).targets, (1..10).collect::<Vec<_>>());
        assert_eq!(new(1, 9).unwrap().at(u64::MAX, usize::MAX, usize::MAX).rows, 1);
    }

    #[test]
    fn a_part_of_a_batch_has_its_rows() {
        let (_folder, shard) = counting(1000);
        let batches = batches(&shard, 6, 16, 7);
        let (whole, part) = (batches.at(3, 0, 1), batches.part(3, 2..5));
        assert_eq!((part.rows, &part.inputs[..]), (3, &whole.inputs[2 * 16..5 * 16]));
        assert_eq!(part.targets, whole.targets[2 * 16..5 * 16]);
    }

    proptest! {
        // Every case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_permutation_is_a_bijection(n in 1_u64..3000, seed: u64) {
            let permutation = Permutation::new(n, &mut rng::keyed(seed, "test", 0));
            let images: HashSet<u64> = (0..n).map(|x| permutation.at(x)).collect();
            prop_assert_eq!(images.len() as u64, n);
            prop_assert!(images.iter().all(|&y| y < n));
        }

        #[test]
        fn an_epoch_reads_every_window_once(
            count in 12_u32..600,
            seq_len in 1_usize..11,
            seed: u64,
            epoch in 0_u64..5,
        ) {
            let (_folder, shard) = counting(count);
            let batches = batches(&shard, 1, seq_len, seed);
            let mut targets = HashSet::new();
            for step in 0..batches.windows() {
                for target in batches.at(epoch * batches.windows() + step, 0, 1).targets {
                    prop_assert!(targets.insert(target), "token {} twice", target);
                }
            }
            // All but the room for the offset.
            prop_assert!(targets.len() + 2 * seq_len > count as usize);
        }

        #[test]
        fn ranks_together_read_what_one_rank_reads(
            rows in 1_usize..5,
            world in 1_usize..5,
            step in 0_u64..200,
            seed: u64,
        ) {
            let (_folder, shard) = counting(400);
            let ranks = batches(&shard, rows, 8, seed);
            let one = batches(&shard, rows * world, 8, seed).at(step, 0, 1);
            let (mut inputs, mut targets) = (Vec::new(), Vec::new());
            for rank in 0..world {
                let batch = ranks.at(step, rank, world);
                inputs.extend(batch.inputs);
                targets.extend(batch.targets);
            }
            prop_assert_eq!((inputs, targets), (one.inputs, one.targets));
        }
    }
}
