//! Signals that ask the process to end: Ctrl-C (SIGINT), SIGTERM and SIGHUP.
//!
//! A signal that was ignored when the process started stays ignored: `nohup` ignores SIGHUP, and a
//! shell without job control ignores Ctrl-C in what it starts with `&`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
#[cfg(unix)]
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{failure::INTERRUPTED, logging::say};

/// Signals within this time count as one: a terminal sends Ctrl-C to all processes in the foreground, and a parent
/// process may forward the same signal to its children.
#[cfg(unix)]
const AS_ONE: Duration = Duration::from_millis(300);

/// A signal that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// As a person knows it: `Ctrl-C`, `SIGTERM`, `SIGHUP`.
    pub name: &'static str,
    /// The system's number.
    #[cfg(unix)]
    pub number: i32,
}

impl Signal {
    /// Sends the same to another process. Without signals there is nothing to do: a console sends
    /// Ctrl-C to all of its processes.
    pub fn send(self, process: u32) {
        #[cfg(unix)]
        if let Ok(id) = libc::pid_t::try_from(process) {
            // SAFETY: kill takes two numbers.
            unsafe { libc::kill(id, self.number) };
        }
        #[cfg(not(unix))]
        let _ = process;
    }
}

/// What follows a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The process goes on, and ends in its own time.
    GoOn,
    /// The process ends now, with exit code 130.
    End,
}

type Action = Box<dyn FnMut(Signal) -> Then + Send>;

/// What a signal does; it may change while a command runs.
#[derive(Clone)]
pub struct Interrupts {
    action: Arc<Mutex<Action>>,
    received: Arc<OnceLock<Signal>>,
}

impl Interrupts {
    /// Calls `action` for each signal from now on, in a thread of its own. Call it once.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install(action: impl FnMut(Signal) -> Then + Send + 'static) -> Result<Self> {
        let action: Action = Box::new(action);
        let this = Self { action: Arc::new(Mutex::new(action)), received: Arc::default() };
        let heard = this.clone();
        listen(move |signal| {
            // Only the first is kept.
            let _ = heard.received.set(signal);
            let then = (heard.action.lock().unwrap_or_else(PoisonError::into_inner))(signal);
            if then == Then::End {
                std::process::exit(i32::from(INTERRUPTED));
            }
        })?;
        Ok(this)
    }

    /// Ends the process at the first signal, and says so; `kept` says what is not lost.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn end(kept: &'static str) -> Result<Self> {
        Self::install(move |signal| {
            say!("{}: interrupted{kept}", signal.name);
            Then::End
        })
    }

    /// Calls `action` instead from now on.
    pub fn set(&self, action: impl FnMut(Signal) -> Then + Send + 'static) {
        *self.action.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(action);
    }

    /// The first signal that was received, if any was.
    pub fn received(&self) -> Option<Signal> {
        self.received.get().copied()
    }
}

#[cfg(unix)]
fn listen(mut heard: impl FnMut(Signal) + Send + 'static) -> Result<()> {
    use signal_hook::{
        consts::{SIGHUP, SIGINT, SIGTERM},
        iterator::Signals,
    };

    let all = [("Ctrl-C", SIGINT), ("SIGTERM", SIGTERM), ("SIGHUP", SIGHUP)];
    let ours = all.into_iter().filter(|(_, number)| !is_ignored(*number));
    let ours: Vec<Signal> = ours.map(|(name, number)| Signal { name, number }).collect();
    let mut signals = Signals::new(ours.iter().map(|signal| signal.number))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut last: Option<Instant> = None;
        for number in signals.forever() {
            let now = Instant::now();
            let repeats = last.is_some_and(|last| now.duration_since(last) < AS_ONE);
            let signal = ours.iter().find(|signal| signal.number == number);
            if let Some(signal) = signal.filter(|_| !repeats) {
                last = Some(now);
                heard(*signal);
            }
        }
    })?;
    Ok(())
}

/// Whether the process ignores a signal.
#[cfg(unix)]
fn is_ignored(number: i32) -> bool {
    let mut current = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action, sigaction only writes the current one to where it is told.
    unsafe {
        libc::sigaction(number, std::ptr::null(), current.as_mut_ptr()) == 0
            && current.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn listen(mut heard: impl FnMut(Signal) + Send + 'static) -> Result<()> {
    Ok(ctrlc::set_handler(move || heard(Signal { name: "Ctrl-C" }))?)
}
