//! Ctrl-C.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use matformer::train::Interrupter;

use crate::{failure::INTERRUPTED, logging::say};

/// What Ctrl-C does: until training begins it ends the process, from then on the first saves and
/// ends, and the second ends at once.
pub struct Interrupts {
    training: Arc<Mutex<Option<Interrupter>>>,
}

impl Interrupts {
    /// Takes Ctrl-C over.
    ///
    /// # Errors
    /// When the system does not give it.
    pub fn install() -> Result<Self> {
        let training: Arc<Mutex<Option<Interrupter>>> = Arc::default();
        let seen = training.clone();
        ctrlc::set_handler(move || {
            match &*seen.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(interrupter) if !interrupter.should_stop() => {
                    return interrupter.stop(Some("Ctrl-C"));
                }
                Some(_) => say!("ended at once: what came after the last checkpoint is lost"),
                None => say!("interrupted before training began: nothing was lost"),
            }
            std::process::exit(i32::from(INTERRUPTED));
        })?;
        Ok(Self { training })
    }

    /// From here on Ctrl-C asks for a checkpoint first.
    pub fn save_with(&self, interrupter: &Interrupter) {
        let mut training = self.training.lock().unwrap_or_else(PoisonError::into_inner);
        *training = Some(interrupter.clone());
    }
}
