//! Ranks that are threads of one process: for tests of what ranks do.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Exchange, Transport};

/// How long a rank waits for the others: longer than any of them computes in a test.
const PATIENCE: Duration = Duration::from_secs(120);

/// The ranks of a world of `world` threads. A rank that waits for one that has been dropped panics.
pub fn threads(world: usize) -> Vec<Exchange> {
    let meeting = Arc::new(Meeting {
        state: Mutex::new(State { slots: vec![None; world], ..State::default() }),
        changed: Condvar::new(),
    });
    (0..world)
        .map(|rank| Exchange::over(Thread { rank, world, meeting: meeting.clone() }))
        .collect()
}

struct Thread {
    rank: usize,
    world: usize,
    meeting: Arc<Meeting>,
}

/// Where the threads bring their bytes, round by round.
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    round: u64,
    slots: Vec<Option<Vec<u8>>>,
    /// What all ranks brought to the last round, in their order.
    brought: Arc<Vec<Vec<u8>>>,
    left: bool,
}

impl Thread {
    fn state(&self) -> MutexGuard<'_, State> {
        self.meeting.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of all ranks.
    fn meet(&self, bytes: Vec<u8>) -> Arc<Vec<Vec<u8>>> {
        let mut state = self.state();
        state.slots[self.rank] = Some(bytes);
        if state.slots.iter().all(Option::is_some) {
            let brought = state.slots.iter_mut().map(|slot| slot.take().unwrap_or_default());
            state.brought = Arc::new(brought.collect());
            state.round += 1;
            self.meeting.changed.notify_all();
            return state.brought.clone();
        }
        let round = state.round;
        let waits = |state: &mut State| state.round == round && !state.left;
        let waited = self.meeting.changed.wait_timeout_while(state, PATIENCE, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(
            state.round > round,
            "rank {}: another rank has left, or makes another call",
            self.rank
        );
        state.brought.clone()
    }

    /// Sums in the order of the ranks: the same bits on all of them.
    fn sum<T: Copy + std::ops::AddAssign, const N: usize>(
        &self,
        values: &mut [T],
        bytes: impl Fn(T) -> [u8; N],
        value: impl Fn([u8; N]) -> T,
    ) {
        let brought = self.meet(values.iter().flat_map(|v| bytes(*v)).collect());
        for (rank, of_rank) in brought.iter().enumerate() {
            let (chunks, rest) = of_rank.as_chunks::<N>();
            assert!(
                rest.is_empty() && chunks.len() == values.len(),
                "rank {rank} sums other values"
            );
            for (sum, chunk) in values.iter_mut().zip(chunks) {
                if rank == 0 {
                    *sum = value(*chunk);
                } else {
                    *sum += value(*chunk);
                }
            }
        }
    }
}

impl Transport for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn sum_f32(&self, values: &mut [f32]) {
        self.sum(values, f32::to_le_bytes, f32::from_le_bytes);
    }

    fn sum_f64(&self, values: &mut [f64]) {
        self.sum(values, f64::to_le_bytes, f64::from_le_bytes);
    }

    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) {
        *bytes = self.meet(std::mem::take(bytes))[root].clone();
    }

    fn abort(&self, code: i32) -> ! {
        panic!("rank {} ends all ranks with exit code {code}", self.rank)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.state().left = true;
        self.meeting.changed.notify_all();
    }
}
