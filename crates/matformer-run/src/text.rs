//! Text for a MatLM: shards and windows of `matformer-data` as batches on the model's device.

use std::ops::Range;

use matformer_data::{BatchShape, HostBatch, Prepared};
use matformer_eval::{HeldOutBatch, WindowBatch, window_batches};
use matformer_lm::MatLm;
use matformer_train::{Batch, Batches, BoxError};

/// Batches of a prepared corpus.
pub struct TextBatches {
    train: matformer_data::Batches,
    /// Share of the training tokens that are learnt.
    learnt: f64,
    held_out: Vec<WindowBatch>,
}

impl TextBatches {
    /// Training batches of `shape`, of sources with these weights if there are several, and about
    /// `held_out_tokens` held-out tokens in windows of up to the length of a training row, as many to a batch.
    ///
    /// # Errors
    /// When the shards cannot be read or are shorter than one batch.
    pub fn new(
        prepared: &Prepared,
        weights: &[f64],
        shape: BatchShape,
        held_out_tokens: usize,
        seed: u64,
    ) -> matformer_eval::Result<Self> {
        let train = prepared.batches(weights, shape, seed)?;
        let held_out = prepared.held_out_part(Some(held_out_tokens))?;
        let learnt = prepared.learnt(weights);
        let held_out = window_batches(&held_out, shape.seq_len, shape.rows)?;
        Ok(Self { train, learnt, held_out })
    }

    /// Batches of which no two share a row: an epoch's.
    pub fn distinct(&self) -> u64 {
        (self.train.windows() / self.train.shape().rows as u64).max(1)
    }
}

fn on(model: &MatLm, batch: &HostBatch) -> Result<Batch<MatLm>, BoxError> {
    Ok(Batch {
        input: model.tokens(batch.rows, &batch.inputs)?,
        target: model.targets(batch.rows, &batch.targets, batch.learnt.as_deref())?,
    })
}

impl Batches<MatLm> for TextBatches {
    fn train(&self, model: &MatLm, index: u64) -> Result<Batch<MatLm>, BoxError> {
        on(model, &self.train.at(index, 0, 1))
    }

    fn rows(&self) -> usize {
        self.train.shape().rows
    }

    fn train_rows(
        &self,
        model: &MatLm,
        index: u64,
        rows: Range<usize>,
    ) -> Result<Batch<MatLm>, BoxError> {
        on(model, &self.train.part(index, rows))
    }

    fn targets_per_batch(&self) -> usize {
        let shape = self.train.shape();
        shape.rows * shape.seq_len
    }

    fn learnt_per_batch(&self) -> f64 {
        self.targets_per_batch() as f64 * self.learnt
    }

    fn held_out_len(&self) -> usize {
        self.held_out.len()
    }

    fn held_out_source(&self, index: usize) -> Option<usize> {
        self.held_out[index].source
    }

    fn held_out(&self, model: &MatLm, index: usize) -> Result<Batch<MatLm>, BoxError> {
        let (input, target) = (&self.held_out[index]).on(model)?;
        Ok(Batch { input, target })
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::Plan;
    use matformer_data::{DataConfig, prepare};
    use matformer_lm::MatLmConfig;
    use matformer_nn::{DeviceSpec, Elastic, State, row_losses, walk};

    use super::*;

    #[test]
    fn rows_and_held_out_windows_may_be_shorter_than_the_context() {
        let root = tempfile::tempdir().unwrap();
        let text = root.path().join("text");
        std::fs::create_dir_all(&text).unwrap();
        for index in 0..20 {
            let sentence = format!("The owl counts {index} coats in the hall.\n");
            std::fs::write(text.join(format!("{index}.txt")), sentence.repeat(9)).unwrap();
        }
        let data = DataConfig {
            paths: vec![text.into()],
            held_out: 0.2,
            vocab_size: 300,
            ..DataConfig::default()
        };
        let prepared = prepare(&data, &root.path().join("cache"), &mut |_| {}).unwrap();
        let vocab_size = prepared.summary.vocab_size;
        let config = MatLmConfig { vocab_size, context: 64, ..MatLmConfig::default() };
        let device = DeviceSpec::Auto.resolve().unwrap();
        let model = MatLm::new(&config, 0, &device).unwrap();
        let of = |rows, seq_len| {
            TextBatches::new(&prepared, &[], BatchShape { rows, seq_len }, 1000, 3).unwrap()
        };

        let short = of(8, 16);
        assert_eq!(Batches::<MatLm>::targets_per_batch(&short), 8 * 16);
        let host = short.train.at(5, 0, 1);
        let shard = prepared.train().unwrap();
        let tokens: Vec<u32> = shard.iter(0..shard.len()).collect();
        for (inputs, targets) in host.inputs.chunks(16).zip(host.targets.chunks(16)) {
            let row = [inputs, &targets[15..]].concat();
            assert!(tokens.windows(17).any(|window| window == row), "{row:?}");
            assert_eq!(&row[1..], targets);
        }
        let batch = short.train(&model, 5).unwrap();
        let plan = Plan::one(&model.space().largest());
        let walked = walk(&model, &batch.input, &plan, &mut State::new()).unwrap();
        let losses = row_losses(&model, &walked, &batch.target);
        assert_eq!(losses[0].counts, [16; 8]);

        // Windows are as long as rows: of longer ones there are fewer.
        let windows = |batches: &TextBatches| {
            batches.held_out.iter().map(|batch| batch.documents.len()).sum::<usize>()
        };
        assert!(short.held_out.iter().all(|batch| batch.tokens <= 8 * 16));
        assert!(windows(&short) > windows(&of(2, 64)) && windows(&of(2, 64)) > 0);
    }

    /// A model is taught and measured by answers alone: a run's loss counts them and nothing else.
    #[test]
    fn of_conversations_only_answers_count() {
        let root = tempfile::tempdir().unwrap();
        let fixture = include_str!("../../matformer-data/tests/fixtures/chat/answers.json");
        let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
        let tokenizer = root.path().join("tokenizer.json");
        std::fs::write(&tokenizer, fixture["tokenizer"].to_string()).unwrap();
        let template = fixture["templates"][2]["template"].as_str().unwrap();
        std::fs::write(root.path().join("chat_template.jinja"), template).unwrap();
        let row = |index: usize| {
            let (prompt, completion) = (format!("How many coats has owl {index}?"), "None at all.");
            serde_json::json!({ "prompt": prompt, "completion": completion }).to_string() + "\n"
        };
        let rows = root.path().join("rows.jsonl");
        std::fs::write(&rows, (0..40).map(row).collect::<String>()).unwrap();
        let data = DataConfig {
            paths: vec![rows.into()],
            chat: true,
            tokenizer: Some(tokenizer.into()),
            held_out: 0.2,
            ..DataConfig::default()
        };
        let prepared = prepare(&data, &root.path().join("cache"), &mut |_| {}).unwrap();
        let vocab_size = prepared.summary.vocab_size;
        let config = MatLmConfig { vocab_size, context: 64, ..MatLmConfig::default() };
        let model = MatLm::new(&config, 0, &DeviceSpec::Auto.resolve().unwrap()).unwrap();
        let shape = BatchShape { rows: 4, seq_len: 48 };
        let batches = TextBatches::new(&prepared, &[], shape, 1000, 3).unwrap();

        let plan = Plan::one(&model.space().largest());
        let of = |batch: &Batch<MatLm>| {
            let walked = walk(&model, &batch.input, &plan, &mut State::new()).unwrap();
            row_losses(&model, &walked, &batch.target).remove(0)
        };
        let host = batches.train.at(2, 0, 1);
        let learnt = host.learnt.as_ref().unwrap();
        let expected: Vec<usize> =
            learnt.chunks(48).map(|row| row.iter().filter(|flag| **flag).count()).collect();
        let loss = of(&batches.train(&model, 2).unwrap());
        assert_eq!(loss.counts, expected);
        assert!(expected.iter().all(|count| (1..40).contains(count)), "{expected:?}");
        // The loss is that of the flagged targets, each alone.
        let nats: Vec<f32> = loss.nats.try_into_vec_as().unwrap();
        let alone = |row: usize| -> f32 {
            let at = row * 48..(row + 1) * 48;
            let (inputs, targets) = (&host.inputs[at.clone()], &host.targets[at.clone()]);
            let input = model.tokens(1, inputs).unwrap();
            let target = model.targets(1, targets, None).unwrap();
            let walked = walk(&model, &input, &plan, &mut State::new()).unwrap();
            let each = model.token_nats(&walked.of(0), &target);
            let each: Vec<f32> = each.try_into_vec_as().unwrap();
            each.iter().zip(&learnt[at]).filter(|(_, flag)| **flag).map(|(nats, _)| nats).sum()
        };
        for (row, nats) in nats.iter().enumerate() {
            assert!((nats - alone(row)).abs() < 1e-3 * nats, "{nats} {}", alone(row));
        }
        // On average over all batches; the held-out windows have every answer's token once.
        let share =
            prepared.summary.train.answers.unwrap() as f64 / prepared.summary.train.tokens as f64;
        assert_eq!(batches.learnt_per_batch(), 4.0 * 48.0 * share);
        let held_out: usize = (0..batches.held_out_len())
            .map(|at| of(&batches.held_out(&model, at).unwrap()).counts.iter().sum::<usize>())
            .sum();
        assert_eq!(held_out, prepared.summary.held_out.answers.unwrap());
    }
}
