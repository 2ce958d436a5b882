//! How far submodels predict what the largest does, in numbers.

use serde::Serialize;

use crate::{DocumentLoss, Estimate, Result, stats};

/// Submodels beside the largest one, and models that were trained alone beside the largest of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Consistency {
    /// Label of the largest.
    pub to: String,
    /// Held-out tokens, or images, at which they were compared.
    pub targets: usize,
    /// Beginnings of held-out documents that were continued; none of images, or where all documents are too short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
    /// In the order in which they were asked for.
    pub results: Vec<Consistent>,
}

/// Texts that were generated to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Continued {
    /// How many.
    pub texts: usize,
    /// Tokens of each.
    pub tokens: usize,
}

/// How far a model predicts what the largest of its kind does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Consistent {
    /// Its label.
    pub submodel: String,
    /// How much it was trained, where it was trained alone: then it is compared with the largest that was trained
    /// alone as much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone: Option<String>,
    /// On held-out data.
    pub held_out: Likeness,
    /// On what the largest writes, token by token: the share of equal tokens is that of a draft's which it accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Likeness>,
    /// Share of equal tokens of the texts that each writes on its own, place by place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<Estimate>,
}

/// Predictions of a model beside those of the largest, per token or image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Likeness {
    /// Share at which both find the same the likeliest.
    pub equal: Estimate,
    /// KL(largest ‖ model), in nats.
    pub kl: Estimate,
    /// KL(model ‖ largest), in nats.
    pub reverse_kl: Estimate,
}

impl Likeness {
    /// Of documents that were measured beside a reference; nothing of others.
    ///
    /// # Errors
    /// [`Error::Nothing`](crate::Error::Nothing) if they hold no target.
    pub fn of(documents: &[DocumentLoss]) -> Result<Option<Self>> {
        let equal = stats::per_target(documents, |d| Some(d.beside?.equal as f64))?;
        let reverse = stats::per_target(documents, |d| Some(d.beside?.reverse_nats))?;
        let kl = stats::loss(documents)?;
        Ok(equal.zip(reverse).map(|(equal, reverse_kl)| Self { equal, kl, reverse_kl }))
    }
}
