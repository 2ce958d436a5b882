//! Ranks that are processes, connected by MPI.
//!
//! MPI's own errors end all ranks with a message of MPI's (its default handler), so that the calls
//! here do not fail.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mpi::{
    Threading,
    collective::SystemOperation,
    environment::Universe,
    topology::SimpleCommunicator,
    traits::{Communicator, CommunicatorCollectives, Equivalence, Root},
};

use crate::{Error, Result, Transport};

/// Elements of one call: counts are C ints, and each call needs a second buffer.
const CHUNK: usize = 1 << 22;

/// A rank of `MPI_COMM_WORLD`.
pub(crate) struct Mpi {
    /// Ends MPI when it is dropped.
    universe: Option<Universe>,
    /// Held during each call: MPI is started for one call at a time.
    calling: Mutex<()>,
    rank: usize,
    world: usize,
}

impl Mpi {
    /// Starts MPI in this process.
    pub(crate) fn start() -> Result<Self> {
        let expected =
            "calls from one thread at a time, in a process that has not started MPI before";
        let started = mpi::initialize_with_threading(Threading::Serialized);
        let Some((universe, provided)) = started else {
            return Err(Error::Start { found: "started before".to_owned(), expected });
        };
        let world = universe.world();
        let (rank, world) = (world.rank() as usize, world.size() as usize);
        let this = Self { universe: Some(universe), calling: Mutex::new(()), rank, world };
        if provided < Threading::Serialized {
            return Err(Error::Start { found: format!("threads: {provided:?}"), expected });
        }
        Ok(this)
    }

    fn call(&self) -> (SimpleCommunicator, MutexGuard<'_, ()>) {
        let held = self.calling.lock().unwrap_or_else(PoisonError::into_inner);
        (SimpleCommunicator::world(), held)
    }

    fn sum<T: Equivalence + Copy + Default>(&self, values: &mut [T]) {
        let (world, _held) = self.call();
        let mut own = vec![T::default(); values.len().min(CHUNK)];
        for chunk in values.chunks_mut(CHUNK) {
            let own = &mut own[..chunk.len()];
            own.copy_from_slice(chunk);
            world.all_reduce_into(own, chunk, SystemOperation::sum());
        }
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn sum_f32(&self, values: &mut [f32]) {
        self.sum(values);
    }

    fn sum_f64(&self, values: &mut [f64]) {
        self.sum(values);
    }

    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) {
        let (world, _held) = self.call();
        let root = world.process_at_rank(root as i32);
        let mut len = [bytes.len() as u64];
        root.broadcast_into(&mut len[..]);
        bytes.resize(len[0] as usize, 0);
        for chunk in bytes.chunks_mut(CHUNK) {
            root.broadcast_into(chunk);
        }
    }

    fn abort(&self, code: i32) -> ! {
        // Not `call`: another thread of this process may be in a call that never returns.
        SimpleCommunicator::world().abort(code)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // To end MPI is a collective call: a rank that panics would wait for the others, and they for
        // it. The launcher ends all ranks when one exits without it.
        if std::thread::panicking() {
            std::mem::forget(self.universe.take());
        }
    }
}
