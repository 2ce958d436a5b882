//! A store whose measurements several ranks make: rank 0 has it, the others help.

use std::path::PathBuf;

use matformer_exchange::Exchange;

use super::{Groups, Store};
use crate::{Error, Result};

impl Store {
    /// Shares measurements from now on with the other ranks of `ranks`, which call
    /// [`evaluate`](Self::evaluate) of a [`helping`](Self::helping) store on the same data at the same time.
    pub fn share_among(&mut self, ranks: Exchange) {
        self.ranks = ranks;
    }

    /// The store of a rank above 0, which keeps nothing. It measures this rank's share of what rank 0 does not
    /// know, and its evaluations are empty.
    pub fn helping(ranks: Exchange) -> Self {
        Self { ranks, ..Self::empty(PathBuf::new()) }
    }

    /// The ranks that measure together: those of the data that this store is asked about.
    pub fn ranks(&self) -> Exchange {
        self.ranks.clone()
    }

    /// What rank 0 has to measure.
    pub(super) fn of_first(&self, missing: Groups) -> Result<Groups> {
        if self.ranks.is_alone() {
            return Ok(missing);
        }
        let unfit = |error: serde_json::Error| Error::Store { message: error.to_string() };
        let groups: Vec<_> = missing.into_iter().collect();
        let bytes = self.ranks.broadcast(serde_json::to_vec(&groups).map_err(unfit)?);
        let groups: Vec<_> = serde_json::from_slice(&bytes).map_err(unfit)?;
        Ok(groups.into_iter().collect())
    }
}
