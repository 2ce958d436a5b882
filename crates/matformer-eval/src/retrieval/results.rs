//! What a search found, as numbers for machines.

use serde::{Deserialize, Serialize};

use super::Retrieved;
use crate::Estimate;

/// The JSON that `matformer retrieve --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchResults {
    /// What was measured: a path or a name.
    pub model: String,
    /// Hash of its weights.
    pub weights: String,
    /// Hash of the whole data set.
    pub data: String,
    /// Images that were searched.
    pub gallery_images: usize,
    /// Images that were searched for.
    pub queries: usize,
    /// Clusters that these are of, such as emoji in several drawings; left out where each query stands
    /// for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<usize>,
    /// What was searched for in what, in a few words.
    pub searched: String,
    /// What a relevant image shares with the query: `class`, `name`.
    pub relevant: String,
    /// 1-NN accuracy of a random choice.
    pub chance: f64,
    /// One entry per pair of encoders.
    pub results: Vec<SearchResult>,
}

/// A way to search: one encoder of queries, one of the gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// What embeds the queries.
    pub query: String,
    /// What embedded the gallery.
    pub gallery: String,
    /// The budget of encoders that were trained alone: `per-width`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<String>,
    /// Parameters of what embeds queries.
    pub query_params: u64,
    /// FLOPs of embedding one.
    pub query_flops: f64,
    /// How good it is.
    #[serde(flatten)]
    pub found: Retrieved,
    /// 1-NN accuracy minus that of the shared gallery's own encoder as query, paired; `null` for itself.
    pub above: Option<Estimate>,
}

impl SearchResults {
    /// What standard errors are over: `377 queries`, or `377 clusters of 754 queries` where some are not
    /// independent.
    pub fn counted(&self) -> String {
        match self.clusters {
            Some(clusters) => format!("{clusters} clusters of {} queries", self.queries),
            None => format!("{} queries", self.queries),
        }
    }
}

impl SearchResult {
    /// Whether queries and gallery have one encoder.
    pub fn is_symmetric(&self) -> bool {
        self.query == self.gallery
    }
}
