//! What a page is about: the loss of text, or the accuracy of images.

use super::format;
use crate::{DataFacts, Estimate, EvalResults, Paired, SubmodelResult};

/// The number by which submodels are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Nats per token: less is better.
    Loss,
    /// Share of the images whose class was found, in percent.
    Top1,
}

impl Metric {
    /// The metric of what was measured: accuracy where there is one.
    pub fn of(results: &EvalResults) -> Self {
        Self::of_all(results.results.iter())
    }

    /// The same of some results.
    pub fn of_all<'a>(mut results: impl Iterator<Item = &'a SubmodelResult>) -> Self {
        match results.any(|result| result.top1.is_some()) {
            true => Self::Top1,
            false => Self::Loss,
        }
    }

    /// As a sentence begins with it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loss => "Held-out loss",
            Self::Top1 => "Top-1 accuracy",
        }
    }

    /// What a difference is of.
    pub fn short(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Top1 => "top-1",
        }
    }

    /// What is trained on, one by one.
    pub(super) fn targets(self) -> &'static str {
        match self {
            Self::Loss => "tokens",
            Self::Top1 => "images",
        }
    }

    /// What is held out or not.
    pub(super) fn document(self) -> &'static str {
        match self {
            Self::Loss => "document",
            Self::Top1 => "image",
        }
    }

    /// The figure's axis.
    pub(super) fn axis(self) -> &'static str {
        match self {
            Self::Loss => "held-out loss, nats per token",
            Self::Top1 => "top-1 accuracy on held-out images, %",
        }
    }

    /// The axis of losses during training.
    pub(super) fn loss_axis(self) -> &'static str {
        match self {
            Self::Loss => "loss, nats per token",
            Self::Top1 => "loss, nats per image",
        }
    }

    /// Heads of the table's two columns.
    pub(super) fn columns(self) -> [&'static str; 2] {
        match self {
            Self::Loss => ["Loss, nats/token", "Bits/byte"],
            Self::Top1 => ["Top-1, %", "Top-5, %"],
        }
    }

    /// The table's two cells.
    pub(super) fn cells(self, r: &SubmodelResult) -> [String; 2] {
        let (value, stderr) = self.point(r);
        match self {
            Self::Loss => [
                format::with_error(value, stderr),
                r.bits_per_byte.map_or("–".into(), |bits| format!("{bits:.3}")),
            ],
            Self::Top1 => [
                format::percent(value, stderr),
                r.top5.map_or("–".into(), |e| {
                    format::percent(100.0 * e.value, e.stderr.map(|stderr| 100.0 * stderr))
                }),
            ],
        }
    }

    /// Value and standard error, as the figure and the table have them.
    pub fn point(self, r: &SubmodelResult) -> (f64, Option<f64>) {
        match (self, r.top1) {
            (Self::Loss, _) => (r.loss, r.stderr),
            (Self::Top1, None) => (f64::NAN, None),
            (Self::Top1, Some(top1)) => (100.0 * top1.value, top1.stderr.map(|e| 100.0 * e)),
        }
    }

    /// Difference to the reference, in the unit of [`point`](Self::point).
    pub fn paired(self, paired: &Paired) -> (f64, Option<f64>) {
        match (self, paired.top1) {
            (Self::Top1, Some(top1)) => (100.0 * top1.value, top1.stderr.map(|e| 100.0 * e)),
            _ => (paired.diff, paired.stderr),
        }
    }

    /// A measured difference, in the unit of [`point`](Self::point).
    pub fn scaled(self, difference: Estimate) -> (f64, Option<f64>) {
        let scale = if self == Self::Top1 { 100.0 } else { 1.0 };
        (scale * difference.value, difference.stderr.map(|stderr| scale * stderr))
    }

    /// A difference as text.
    pub(super) fn difference(self, (value, stderr): (f64, Option<f64>)) -> String {
        match self {
            Self::Loss => format::difference(value, stderr),
            Self::Top1 => format::difference_in_percent(value, stderr),
        }
    }

    /// What standard errors are over: `120 documents`, or `7 clusters of 120 documents` where some are not
    /// independent.
    pub fn counted(self, data: &DataFacts) -> String {
        format::counted(data.clusters, data.documents, self.document())
    }

    /// What was measured on.
    pub(super) fn held_out(self, data: &DataFacts) -> String {
        match self {
            Self::Loss => format::held_out(data),
            Self::Top1 => format!("{} images", format::thousands(data.documents as u64)),
        }
    }
}
