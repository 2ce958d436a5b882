//! What is needed next, made while something else is done.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Makes values by key on a thread of its own, one ahead of what was asked for last.
///
/// A value is a function of its key, so what is given does not depend on what was made ahead: keys that nobody
/// foresaw are made when they are asked for. The value that was given last is kept: a teacher and its students
/// ask for the same one.
pub struct Ahead<K, T, E> {
    make: Arc<Make<K, T, E>>,
    state: Mutex<State<K, T, E>>,
}

/// Makes the value of a key.
type Make<K, T, E> = dyn Fn(&K) -> Result<T, E> + Send + Sync;

struct State<K, T, E> {
    worker: Option<Worker<K, T, E>>,
    /// What the worker was told to make.
    pending: Option<K>,
    /// What was asked for last, and its value.
    last: Option<(K, Arc<T>)>,
}

/// Ends when it is dropped, after what it is at.
struct Worker<K, T, E> {
    keys: Sender<K>,
    made: Receiver<Result<T, E>>,
}

impl<K, T, E> Ahead<K, T, E>
where
    K: Clone + PartialEq + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    /// What `make` makes.
    pub fn new(make: impl Fn(&K) -> Result<T, E> + Send + Sync + 'static) -> Self {
        let state = Mutex::new(State { worker: None, pending: None, last: None });
        Self { make: Arc::new(make), state }
    }

    /// The value of `key`; meanwhile the one is begun that `next` foresees from the last key and this one.
    ///
    /// # Errors
    /// Those of making it.
    pub fn get(&self, key: K, next: impl FnOnce(&K, &K) -> Option<K>) -> Result<Arc<T>, E> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let last = state.last.take();
        if let Some((_, value)) = last.as_ref().filter(|(last, _)| *last == key) {
            let value = Arc::clone(value);
            state.last = last;
            return Ok(value);
        }
        let mut found = None;
        if let Some(pending) = state.pending.take() {
            let made = state.worker.as_ref().and_then(|worker| worker.made.recv().ok());
            // The value of another key is of no use.
            found = made.filter(|_| pending == key);
        }
        let value = Arc::new(found.unwrap_or_else(|| (self.make)(&key))?);
        if let Some(next) = last.as_ref().and_then(|(last, _)| next(last, &key)) {
            self.begin(&mut state, next);
        }
        state.last = Some((key, Arc::clone(&value)));
        Ok(value)
    }

    /// Has `key` made; where there is no thread for it, it is made when it is asked for.
    fn begin(&self, state: &mut State<K, T, E>, key: K) {
        let alive = |worker: &Worker<K, T, E>| worker.keys.send(key.clone()).is_ok();
        if !state.worker.as_ref().is_some_and(alive) {
            state.worker = self.worker().filter(alive);
        }
        state.pending = state.worker.is_some().then_some(key);
    }

    fn worker(&self) -> Option<Worker<K, T, E>> {
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
        let made = |key: &u64| if *key == 7 { Err("seven") } else { Ok(key * key) };
        let ahead = Ahead::new(made);
        for key in [0, 1, 2, 3, 3, 4, 2, 9, 10, 11, 11, 12, 0, 7, 7, 5, 6, 7, 8] {
            assert_eq!(ahead.get(key, step).map(|value| *value), made(&key), "{key}");
        }
    }

    #[test]
    fn each_value_of_a_series_is_made_once_and_on_another_thread() {
        let (made, here) = (Arc::new(AtomicUsize::new(0)), thread::current().id());
        let counted = Arc::clone(&made);
        let ahead = Ahead::new(move |_: &u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::convert::Infallible>(thread::current().id() == here)
        });
        let get = |key| *ahead.get(key, step).unwrap();
        // Each twice, as a teacher and its students ask.
        let made_here: Vec<bool> = (0..40).map(|at| get(at / 2)).step_by(2).collect();
        assert_eq!(made_here[..2], [true, true], "nothing is foreseen from one key");
        assert!(made_here[2..].iter().all(|here| !here));
        assert!(!get(20));
        drop(ahead);
        assert!((21..=22).contains(&made.load(Ordering::SeqCst)), "{made:?}");
    }

    #[test]
    fn a_value_that_panics_does_so_where_it_is_asked_for() {
        let ahead = Ahead::new(|key: &u64| {
            assert!(*key < 3, "no value of {key}");
            Ok::<_, std::convert::Infallible>(())
        });
        let get = |key| *ahead.get(key, step).unwrap();
        (0..3).for_each(get);
        let asked = std::panic::AssertUnwindSafe(|| get(3));
        assert!(std::panic::catch_unwind(asked).is_err());
        get(1);
    }
}
