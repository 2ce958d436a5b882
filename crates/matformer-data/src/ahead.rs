//! What is needed next, made while something else is done.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Makes values by key on a thread of its own, one ahead of what was asked for last.
///
/// A value is a function of its key, so what is given does not depend on what was made ahead: keys that nobody
/// foresaw are made when they are asked for.
pub struct Ahead<K, T> {
    make: Arc<dyn Fn(&K) -> T + Send + Sync>,
    state: Mutex<State<K, T>>,
}

struct State<K, T> {
    worker: Option<Worker<K, T>>,
    /// What the worker was told to make.
    pending: Option<K>,
    /// What was asked for last.
    last: Option<K>,
}

/// Ends when it is dropped, after what it is at.
struct Worker<K, T> {
    keys: Sender<K>,
    made: Receiver<T>,
}

impl<K: Clone + PartialEq + Send + 'static, T: Send + 'static> Ahead<K, T> {
    /// What `make` makes.
    pub fn new(make: impl Fn(&K) -> T + Send + Sync + 'static) -> Self {
        let state = Mutex::new(State { worker: None, pending: None, last: None });
        Self { make: Arc::new(make), state }
    }

    /// The value of `key`; meanwhile the one is begun that `next` foresees from the last key and this one.
    pub fn get(&self, key: K, next: impl FnOnce(&K, &K) -> Option<K>) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let foreseen = state.pending.as_ref() == Some(&key);
        let repeated = state.last.as_ref() == Some(&key);
        let mut found = None;
        if state.pending.is_some() && (foreseen || !repeated) {
            // The value of another key is of no use.
            let made = state.worker.as_ref().and_then(|worker| worker.made.recv().ok());
            found = made.filter(|_| foreseen);
            state.pending = None;
        }
        let value = found.unwrap_or_else(|| (self.make)(&key));
        if state.pending.is_none()
            && let Some(next) = state.last.as_ref().and_then(|last| next(last, &key))
        {
            self.begin(&mut state, next);
        }
        state.last = Some(key);
        value
    }

    /// Has `key` made; where there is no thread for it, it is made when it is asked for.
    fn begin(&self, state: &mut State<K, T>, key: K) {
        let alive = |worker: &Worker<K, T>| worker.keys.send(key.clone()).is_ok();
        if !state.worker.as_ref().is_some_and(alive) {
            state.worker = self.worker().filter(alive);
        }
        state.pending = state.worker.is_some().then_some(key);
    }

    fn worker(&self) -> Option<Worker<K, T>> {
        let (keys, asked) = channel::<K>();
        let (done, made) = channel();
        let make = Arc::clone(&self.make);
        let work = move || {
            for key in asked {
                if done.send(make(&key)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("ahead".into()).spawn(work).ok()?;
        Some(Worker { keys, made })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn step(last: &u64, now: &u64) -> Option<u64> {
        (now > last).then(|| 2 * now - last)
    }

    #[test]
    fn values_are_those_of_their_keys_in_any_order() {
        let ahead = Ahead::new(|key: &u64| key * key);
        for key in [0, 1, 2, 3, 3, 4, 2, 9, 10, 11, 11, 12, 0] {
            assert_eq!(ahead.get(key, step), key * key, "{key}");
        }
    }

    #[test]
    fn each_value_of_a_series_is_made_once_and_on_another_thread() {
        let (made, here) = (Arc::new(AtomicUsize::new(0)), thread::current().id());
        let counted = Arc::clone(&made);
        let ahead = Ahead::new(move |_: &u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            thread::current().id() == here
        });
        let made_here: Vec<bool> = (0..20).map(|key| ahead.get(key, step)).collect();
        assert_eq!(made_here[..2], [true, true], "nothing is foreseen from one key");
        assert!(made_here[2..].iter().all(|here| !here));
        // The last was asked for twice: it is made again, and the next one is kept.
        assert!(ahead.get(19, step));
        assert!(!ahead.get(20, step));
        drop(ahead);
        assert!((22..=23).contains(&made.load(Ordering::SeqCst)), "{made:?}");
    }

    #[test]
    fn a_value_that_panics_does_so_where_it_is_asked_for() {
        let ahead = Ahead::new(|key: &u64| assert!(*key < 3, "no value of {key}"));
        (0..3).for_each(|key| ahead.get(key, step));
        let asked = std::panic::AssertUnwindSafe(|| ahead.get(3, step));
        assert!(std::panic::catch_unwind(asked).is_err());
        ahead.get(1, step);
    }
}
