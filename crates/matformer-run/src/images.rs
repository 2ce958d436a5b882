//! Images for a MatViT: host batches of `matformer-data` as batches on the model's device.

use std::ops::Range;

use matformer_data::{Ahead, ImageBatch, ImageBatches, PreparedImages, spread};
use matformer_train::{Batch, Batches, BoxError};
use matformer_vit::MatVit;

use matformer_runfile::{RunFile, Vit};

/// A batch, and the rows of it that are wanted; all if none are named.
type Rows = (u64, Option<Range<usize>>);

/// Batches of prepared images.
pub struct VitBatches {
    train: ImageBatches,
    /// Batches while the model computes: varying images takes longer than reading them.
    ahead: Ahead<Rows, ImageBatch, matformer_data::Error>,
    held_out: ImageBatches,
    /// Places of the held-out images, a batch each.
    places: Vec<Vec<usize>>,
}

impl VitBatches {
    /// Training batches of `rows` images, and about `train.eval_tokens` held-out images, spread
    /// evenly.
    ///
    /// # Errors
    /// When the images cannot be read, are fewer than one batch, or cannot be varied as the run
    /// file says.
    pub fn new(
        run: &RunFile<Vit>,
        prepared: &PreparedImages,
        rows: usize,
    ) -> matformer_data::Result<Self> {
        let (size, seed) = (run.shape().image_size, run.train.seed);
        let augment = &run.data.augment;
        let train = ImageBatches::new(prepared.train()?, augment, size, rows, seed)?;
        let held_out = ImageBatches::new(prepared.held_out()?, augment, size, 1, seed)?;
        let places = spread(held_out.set().len(), run.train.eval_tokens);
        let places = places.chunks(rows).map(<[usize]>::to_vec).collect();
        let batches = train.clone();
        let ahead = Ahead::new(move |(index, rows): &Rows| match rows {
            None => batches.at(*index, 0, 1),
            Some(rows) => batches.part(*index, rows.clone()),
        });
        Ok(Self { train, ahead, held_out, places })
    }

    /// Batches of which no two share an image: an epoch's.
    pub fn distinct(&self) -> u64 {
        (self.train.set().len() / self.train.rows()).max(1) as u64
    }
}

/// The rows that are wanted next: as far behind these as these were behind the last.
fn following(last: &Rows, now: &Rows) -> Option<Rows> {
    let forward = now.0.checked_sub(last.0).filter(|forward| *forward > 0)?;
    Some((now.0.checked_add(forward)?, now.1.clone()))
}

fn on(model: &MatVit, batch: &ImageBatch) -> Result<Batch<MatVit>, BoxError> {
    debug_assert_eq!(batch.pixels.len(), batch.rows * model.config().pixels());
    Ok(Batch {
        input: model.images(batch.rows, &batch.pixels)?,
        target: model.soft_labels(&batch.weights)?,
    })
}

impl Batches<MatVit> for VitBatches {
    fn train(&self, model: &MatVit, index: u64) -> Result<Batch<MatVit>, BoxError> {
        let batch = self.ahead.get((index, None), following)?;
        on(model, &batch)
    }

    fn rows(&self) -> usize {
        self.train.rows()
    }

    fn train_rows(
        &self,
        model: &MatVit,
        index: u64,
        rows: Range<usize>,
    ) -> Result<Batch<MatVit>, BoxError> {
        let batch = self.ahead.get((index, Some(rows)), following)?;
        on(model, &batch)
    }

    fn targets_per_batch(&self) -> usize {
        self.train.rows()
    }

    fn held_out_len(&self) -> usize {
        self.places.len()
    }

    fn held_out(&self, model: &MatVit, index: usize) -> Result<Batch<MatVit>, BoxError> {
        on(model, &self.held_out.plain(&self.places[index])?)
    }
}
