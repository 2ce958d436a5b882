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

/// Rows in which every source has its share.
pub(crate) const BLOCK: u64 = 1000;

/// Iterates over the windows of a shard without replacement. Each epoch uses another order and another offset.
///
/// Row `r` of rank `k` at step `t` is global row `i = (t * world + k) * rows + r`; it reads window `i % windows` of
/// epoch `i / windows`, at the place that a permutation keyed by (seed, epoch) gives it. There is no state between
/// calls, so a resumed run reads the same windows as an uninterrupted one, and the ranks of a step together read the
/// same windows as a single rank with `world * rows` rows. Windows may cross document boundaries; the separator between
/// two documents is a target like any other token.
///
/// Of several sources with weights ([`mixed`](Self::mixed)), each has its share of every 1,000 global rows, at
/// places that a permutation keyed by the seed gives it, and goes through its own windows in the same way: a source
/// whose weight is larger than its size comes again sooner.
#[derive(Debug, Clone)]
pub struct Batches {
    shard: Shard,
    shape: BatchShape,
    seed: u64,
    streams: Vec<Stream>,
    /// Whose turn it is in each of [`BLOCK`] rows, where there are several streams.
    turns: Vec<Turn>,
}

/// A row of a [`BLOCK`]: its stream, and which of the stream's rows of the block it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    stream: usize,
    row: u64,
}

/// The part of a shard that is gone through in its own epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stream {
    tokens: Range<usize>,
    windows: u64,
    /// Its rows among each [`BLOCK`].
    share: u64,
    /// Keys its epochs.
    name: String,
}

impl Stream {
    /// A part of a shard in windows of `seq_len` targets.
    fn new(tokens: Range<usize>, seq_len: usize, share: u64, name: String) -> Self {
        // The last window is given up where the offset needs its room.
        let windows = ((tokens.len() - seq_len) / seq_len).max(1) as u64;
        Self { tokens, windows, share, name }
    }

    /// Where the inputs of its row `row` start in the shard.
    fn start(&self, row: u128, seq_len: usize, seed: u64) -> usize {
        let windows = u128::from(self.windows);
        let epoch = (row / windows) as u64;
        let mut random = rng::keyed(seed, &self.name, epoch);
        let permutation = Permutation::new(self.windows, &mut random);
        // Targets that no window covers: room to shift all of them.
        let room = self.tokens.len() - 1 - self.windows as usize * seq_len;
        let offset = rng::index(&mut random, room.min(seq_len - 1) + 1);
        self.tokens.start + offset + permutation.at((row % windows) as u64) as usize * seq_len
    }
}

impl Batches {
    /// Batches of `shape` from `shard`.
    ///
    /// # Errors
    /// [`Error::Value`] if the shape is empty, [`Error::TooShort`] if the shard has fewer tokens than
    /// one batch: `rows * seq_len + 1`.
    pub fn new(shard: Shard, shape: BatchShape, seed: u64) -> Result<Self> {
        check(shard.len(), shape)?;
        let all = 0..shard.len();
        let stream = Stream::new(all, shape.seq_len, BLOCK, "batches".into());
        Ok(Self { shard, shape, seed, streams: vec![stream], turns: Vec::new() })
    }

    /// Batches of several parts of a shard, each with its weight; of the whole shard where no part is given.
    ///
    /// # Errors
    /// As [`new`](Self::new), also for a part of fewer tokens than one row has.
    pub fn mixed(
        shard: Shard,
        parts: impl IntoIterator<Item = (Range<usize>, f64)>,
        shape: BatchShape,
        seed: u64,
    ) -> Result<Self> {
        let (parts, weights): (Vec<Range<usize>>, Vec<f64>) = parts.into_iter().unzip();
        if parts.is_empty() {
            return Self::new(shard, shape, seed);
        }
        check(shard.len(), shape)?;
        let (mut streams, mut turns) = (Vec::new(), Vec::new());
        for (number, (part, rows)) in parts.into_iter().zip(shares(&weights)).enumerate() {
            let tokens = part.start.min(shard.len())..part.end.min(shard.len());
            check(tokens.len(), BatchShape { rows: 1, ..shape })?;
            let name = format!("batches of source {number}");
            streams.push(Stream::new(tokens, shape.seq_len, rows, name));
            turns.extend(std::iter::repeat_n(number, rows as usize));
        }
        let order = Permutation::keyed(BLOCK, seed, "sources", 0);
        let mut rows = vec![0; streams.len()];
        let turns = (0..BLOCK).map(|place| {
            let stream = turns[order.at(place) as usize];
            rows[stream] += 1;
            Turn { stream, row: rows[stream] - 1 }
        });
        let turns = turns.collect();
        Ok(Self { shard, shape, seed, streams, turns })
    }

    /// Rows of training until a window comes again.
    pub fn windows(&self) -> u64 {
        let until = |stream: &Stream| match stream.share {
            BLOCK => stream.windows,
            rows => (u128::from(stream.windows) * u128::from(BLOCK) / u128::from(rows)) as u64,
        };
        self.streams.iter().map(until).min().unwrap_or_default()
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
        let block = u128::from(BLOCK);
        let (stream, row) = match self.turns.get((row % block) as usize) {
            None => (&self.streams[0], row),
            Some(turn) => {
                let stream = &self.streams[turn.stream];
                (stream, row / block * u128::from(stream.share) + u128::from(turn.row))
            }
        };
        stream.start(row, self.shape.seq_len, self.seed)
    }
}

/// Whether so many tokens are enough for a batch.
fn check(found: usize, shape: BatchShape) -> Result<()> {
    for (key, value) in [("rows", shape.rows), ("seq_len", shape.seq_len)] {
        if value == 0 {
            return Err(Error::zero(key));
        }
    }
    let BatchShape { rows, seq_len } = shape;
    let needed = rows.saturating_mul(seq_len).saturating_add(1);
    match found < needed {
        true => Err(Error::TooShort { found, needed, rows, seq_len }),
        false => Ok(()),
    }
}

/// The rows of each source among [`BLOCK`], in proportion to its weight, at least one: what rounding down leaves
/// goes to those that it took most from.
fn shares(weights: &[f64]) -> Vec<u64> {
    let sum: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights.iter().map(|weight| weight / sum * BLOCK as f64).collect();
    let mut rows: Vec<u64> = exact.iter().map(|rows| (*rows as u64).max(1)).collect();
    while rows.iter().sum::<u64>() != BLOCK {
        let short = rows.iter().sum::<u64>() < BLOCK;
        let lacking = |at: &usize| exact[*at] - rows[*at] as f64;
        let most = |a: &usize, b: &usize| lacking(a).total_cmp(&lacking(b));
        let at = match short {
            true => (0..rows.len()).max_by(most),
            false => (0..rows.len()).filter(|at| rows[*at] > 1).min_by(most),
        };
        match at {
            Some(at) if short => rows[at] += 1,
            Some(at) => rows[at] -= 1,
            None => break,
        }
    }
    rows
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
    fn sources_have_their_shares_and_epochs_of_their_own() {
        let (_folder, shard) = counting(10_000);
        let shape = BatchShape { rows: 4, seq_len: 10 };
        let parts = [(0..1001, 0.7), (1001..4000, 0.1), (4000..10_000, 0.2)];
        let batches = Batches::mixed(shard.clone(), parts.clone(), shape, 3).unwrap();
        let source =
            |token: u32| parts.iter().position(|(part, _)| part.contains(&(token as usize)));
        let mut starts = vec![Vec::new(); 3];
        for step in 0..750 {
            let batch = batches.at(step, 0, 1);
            for (inputs, targets) in batch.inputs.chunks(10).zip(batch.targets.chunks(10)) {
                assert!(inputs.iter().zip(targets).all(|(input, target)| input + 1 == *target));
                assert_eq!(source(inputs[0]), source(targets[9]), "no window crosses a border");
                starts[source(inputs[0]).unwrap()].push(inputs[0]);
            }
        }
        // Three thousand rows: exactly 70, 10 and 20 %.
        assert_eq!(starts.iter().map(Vec::len).collect::<Vec<_>>(), [2100, 300, 600]);
        // An epoch of the first source has 99 windows, none twice; the others are not through yet.
        for epoch in starts[0].chunks_exact(99) {
            assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 99);
        }
        assert_eq!(starts[2].iter().take(599).collect::<HashSet<_>>().len(), 599);
        assert_eq!(batches.windows(), 99 * 1000 / 700);
        // Ranks share a step, and the seed decides.
        let whole = batches.part(40, 0..4);
        let two = Batches::mixed(shard.clone(), parts.clone(), BatchShape { rows: 2, ..shape }, 3);
        let two = two.unwrap();
        let ranks = [two.at(40, 0, 2).inputs, two.at(40, 1, 2).inputs].concat();
        assert_eq!(ranks, whole.inputs);
        assert_eq!(batches.part(40, 1..3).inputs, whole.inputs[10..30]);
        let other = Batches::mixed(shard.clone(), parts, shape, 4).unwrap();
        assert_ne!(other.at(40, 0, 1), batches.at(40, 0, 1));
        let short = Batches::mixed(shard, [(0..10, 0.5), (10..9000, 0.5)], shape, 3).unwrap_err();
        assert!(matches!(short, Error::TooShort { found: 10, needed: 11, rows: 1, .. }), "{short}");
    }

    #[test]
    fn shares_fill_a_block() {
        assert_eq!(shares(&[3.0, 1.0]), [750, 250]);
        assert_eq!(shares(&[1.0, 1.0, 1.0]).iter().sum::<u64>(), BLOCK);
        assert_eq!(shares(&[1e6, 1e3, 1e-9]), [998, 1, 1]);
        assert_eq!(shares(&[0.7, 0.2, 0.1]), [700, 200, 100]);
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
        assert_eq!(new(0, 4).unwrap_err().to_string(), "`rows` is 0, expected: at least 1");
        assert_eq!(new(1, 0).unwrap_err().to_string(), "`seq_len` is 0, expected: at least 1");
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
