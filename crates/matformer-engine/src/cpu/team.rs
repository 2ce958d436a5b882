//! Threads that stay awake between pieces of work: a token of a small model is hundreds of products of some
//! microseconds each, and waking a thread takes as long as one of them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

/// Rounds that a member waits for work before it gives its turn to other threads: a few microseconds.
const SPINS: u32 = 1 << 11;
/// Rounds after which it sleeps: about a millisecond.
const YIELDS: u32 = 1 << 10;

/// Part of the state: the number of workers that are in the piece of work.
const INSIDE: u64 = 0xFFFF;
/// Part of the state: workers may enter.
const OPEN: u64 = INSIDE + 1;
/// Where the number of the piece begins in the state.
const NUMBER: u32 = OPEN.trailing_zeros() + 1;

/// Work that every member takes part in.
type Work = dyn Fn() + Sync;

/// Threads that work together on one thing at a time. The thread that asks is the first of them.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The piece of work: its number, whether it is open, and how many workers are in it. A worker that has not come
    /// when the others are done is not waited for: it may be asleep, or have no processor.
    state: AtomicU64,
    /// What is being done: valid while the piece is open or a worker is in it.
    work: Mutex<Option<&'static Work>>,
    /// Workers that sleep, or are about to.
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    panicked: AtomicBool,
    ended: AtomicBool,
}

impl Team {
    /// A team of so many threads, one at least, the caller's included.
    pub fn new(members: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            work: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
            panicked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let worker = |_| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.serve())
        };
        let workers = (1..members.max(1)).map(worker).collect();
        Self { shared, workers }
    }

    /// Number of its threads.
    pub fn members(&self) -> usize {
        self.workers.len() + 1
    }

    /// Gives every item to one member and returns when all are done. Each member begins with neighbours, in their
    /// order: what comes next in memory is on its way to it. Then it helps the others.
    ///
    /// # Panics
    /// If `work` does, on whichever thread.
    pub fn each<T: Send>(&mut self, items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
        let items: Vec<Mutex<Option<T>>> =
            items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        if self.workers.is_empty() || items.len() < 2 {
            let left = items.into_iter().filter_map(into_inner);
            return left.for_each(work);
        }
        let members = self.members();
        let from = |member: usize| member * items.len() / members;
        let next: Vec<AtomicUsize> = (0..members).map(|m| AtomicUsize::new(from(m))).collect();
        let arrived = AtomicUsize::new(0);
        self.all(&|| {
            let own = arrived.fetch_add(1, Ordering::Relaxed);
            for member in (own..own + members).map(|member| member % members) {
                let share = ..from(member + 1);
                while let Some(item) =
                    items[share].get(next[member].fetch_add(1, Ordering::Relaxed))
                {
                    if let Some(item) = lock(item).take() {
                        work(item);
                    }
                }
            }
        });
    }

    /// Has every member do its part that comes in time, and returns when all of them have.
    fn all(&mut self, work: &(dyn Fn() + Sync)) {
        let shared = &*self.shared;
        // SAFETY: nobody uses the reference after `Finish` has closed the piece and waited for all that are in it,
        // which happens before this function returns or unwinds.
        let work: &'static Work =
            unsafe { std::mem::transmute::<&(dyn Fn() + Sync), &'static Work>(work) };
        *lock(&shared.work) = Some(work);
        shared.open();
        let finish = Finish(shared);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _bed = lock(&shared.bed);
            shared.bell.notify_all();
        }
        work();
        drop(finish);
        if shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a thread of the engine panicked");
        }
    }
}

/// Closes the piece of work when it is dropped, also while the asking thread unwinds, and waits for those in it.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut round = 0;
        while self.0.state.load(Ordering::Acquire) & INSIDE > 0 {
            pause(&mut round);
        }
        *lock(&self.0.work) = None;
    }
}

impl Shared {
    /// Begins the next piece of work. Nobody is in the one before.
    fn open(&self) {
        let next = (self.state.load(Ordering::Relaxed) >> NUMBER) + 1;
        self.state.store(next << NUMBER | OPEN, Ordering::SeqCst);
    }

    fn serve(&self) {
        let mut seen = 0;
        loop {
            self.wait_for(seen);
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let state = self.state.load(Ordering::Acquire);
            let entered = state & OPEN > 0
                && self
                    .state
                    .compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok();
            if entered {
                let work = *lock(&self.work);
                let done = catch_unwind(AssertUnwindSafe(|| work.map(|work| work())));
                if done.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
                self.state.fetch_sub(1, Ordering::Release);
            }
            // Where another has changed the state in between, it is looked at once more.
            if entered || state & OPEN == 0 {
                seen = state >> NUMBER;
            }
        }
    }

    /// Returns when there is another piece of work than the one that was `seen`, or the team ends.
    fn wait_for(&self, seen: u64) {
        let is_next = || {
            self.state.load(Ordering::SeqCst) >> NUMBER > seen || self.ended.load(Ordering::SeqCst)
        };
        let mut round = 0;
        while !is_next() {
            if round < SPINS + YIELDS {
                pause(&mut round);
                continue;
            }
            let mut bed = lock(&self.bed);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while !is_next() {
                bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Waits for a moment, at first without giving up the processor.
fn pause(round: &mut u32) {
    if *round < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
    *round = round.saturating_add(1);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        {
            let _bed = lock(&self.shared.bed);
            self.shared.bell.notify_all();
        }
        for worker in self.workers.drain(..) {
            if let Err(panic) = worker.join()
                && !std::thread::panicking()
            {
                resume_unwind(panic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_item_is_done_once_and_before_each_returns() {
        for members in [1, 2, 5] {
            let mut team = Team::new(members);
            assert_eq!(team.members(), members);
            for n in [0, 1, 2, 3, 17, 200] {
                let mut values = vec![0u64; n];
                team.each(values.iter_mut().enumerate(), |(i, value)| *value += i as u64 + 1);
                let expected: Vec<u64> = (1..=n as u64).collect();
                assert_eq!(values, expected, "{members} members");
            }
        }
    }

    #[test]
    fn thousands_of_small_pieces_and_rests_between_them() {
        let mut team = Team::new(3);
        let sum = AtomicUsize::new(0);
        for i in 0..5000 {
            team.each(0..4, |_| {
                sum.fetch_add(1, Ordering::Relaxed);
            });
            if i % 2000 == 0 {
                // Long enough that the workers sleep.
                std::thread::sleep(Duration::from_millis(60));
            }
        }
        assert_eq!(sum.load(Ordering::Relaxed), 20_000);
    }

    /// More threads than processors: most come when a piece is done, and some end before they did anything.
    #[test]
    fn nobody_waits_for_those_who_come_too_late() {
        for _ in 0..50 {
            let mut team = Team::new(16);
            let mut values = vec![0u64; 40];
            for _ in 0..20 {
                team.each(values.iter_mut(), |value| *value += 1);
            }
            assert!(values.iter().all(|value| *value == 20));
        }
    }

    #[test]
    fn a_panic_arrives_where_the_work_was_asked_for_and_the_team_goes_on() {
        let mut team = Team::new(2);
        for bad in [0, 5] {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                team.each(0..6, |i| {
                    std::thread::sleep(Duration::from_millis(2));
                    assert_ne!(i, bad);
                });
            }));
            assert!(panicked.is_err());
        }
        let done = AtomicUsize::new(0);
        team.each(0..6, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 6);
    }
}
