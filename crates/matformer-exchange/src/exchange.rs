//! What a rank says to the others.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{Error, Launch, Launcher, Result};

/// Connects the ranks of a run. Every call is collective: all ranks make the same calls in the same
/// order, and each returns when all have made theirs.
pub trait Transport: Send + Sync {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn world(&self) -> usize;

    /// Replaces each value by its sum over all ranks: the same bits on all of them.
    fn sum_f32(&self, values: &mut [f32]);

    /// As [`sum_f32`](Self::sum_f32).
    fn sum_f64(&self, values: &mut [f64]);

    /// Replaces `bytes` by those of rank `root`.
    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>);

    /// Ends all ranks now, without their consent, with this exit code.
    fn abort(&self, code: i32) -> !;
}

/// A process's place among the ranks of a run, and what it exchanges with them. Clones are the same
/// rank.
#[derive(Clone)]
pub struct Exchange {
    transport: Arc<dyn Transport>,
    ended: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.world())
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::local()
    }
}

impl Exchange {
    /// One process alone: its sums are what it has.
    pub fn local() -> Self {
        Self::over(Local)
    }

    /// A rank of `transport`.
    pub fn over(transport: impl Transport + 'static) -> Self {
        Self { transport: Arc::new(transport), ended: Arc::default(), sent: Arc::default() }
    }

    /// The exchange of a process that was started by `launch`: over MPI where it announces several
    /// processes. Call it once.
    ///
    /// # Errors
    /// When the launcher has started several processes and they cannot exchange anything: without
    /// the feature `mpi`, by torchrun, by srun without `--mpi`, or if MPI connects another number of them.
    pub fn open(launch: Option<&Launch>) -> Result<Self> {
        let Some(launch) = launch.filter(|launch| launch.world > 1) else {
            return Ok(Self::local());
        };
        let Launch { launcher, world, .. } = *launch;
        if matches!(launcher, Launcher::Torchrun | Launcher::SlurmWithoutMpi) {
            return Err(Error::NoMpi { launcher, world });
        }
        #[cfg(feature = "mpi")]
        {
            let mpi = crate::mpi::Mpi::start()?;
            let found = mpi.world();
            if found != world {
                return Err(Error::World { launcher, found, expected: world });
            }
            Ok(Self::over(mpi))
        }
        #[cfg(not(feature = "mpi"))]
        Err(Error::NotBuilt { launcher, world })
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.transport.rank()
    }

    /// Number of processes.
    pub fn world(&self) -> usize {
        self.transport.world()
    }

    /// Whether this is the rank that writes and prints.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there is no other rank.
    pub fn is_alone(&self) -> bool {
        self.world() == 1
    }

    /// Replaces each value by its sum over all ranks: the same bits on all of them.
    pub fn sum_f32(&self, values: &mut [f32]) {
        if !self.is_alone() && !values.is_empty() {
            self.transport.sum_f32(values);
            self.count_sum(size_of_val(values));
        }
    }

    /// As [`sum_f32`](Self::sum_f32).
    pub fn sum_f64(&self, values: &mut [f64]) {
        if !self.is_alone() && !values.is_empty() {
            self.transport.sum_f64(values);
            self.count_sum(size_of_val(values));
        }
    }

    /// Bytes that this rank has sent for its sums, by the rings that MPI libraries make for large ones: of N ranks
    /// each sends 2 (N − 1) / N of what is summed. Broadcasts, which are small, do not count.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn count_sum(&self, bytes: usize) {
        let world = self.world() as u64;
        self.sent.fetch_add(bytes as u64 * 2 * (world - 1) / world, Ordering::Relaxed);
    }

    /// Whether it holds on any rank.
    pub fn any(&self, here: bool) -> bool {
        let mut count = [f64::from(u8::from(here))];
        self.sum_f64(&mut count);
        count[0] > 0.0
    }

    /// The bytes of rank 0.
    pub fn broadcast(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if !self.is_alone() {
            self.transport.broadcast(0, &mut bytes);
        }
        bytes
    }

    /// The bytes of all ranks, in their order.
    pub fn gather(&self, own: Vec<u8>) -> Vec<Vec<u8>> {
        let of = |rank| {
            let mut bytes = if rank == self.rank() { own.clone() } else { Vec::new() };
            self.transport.broadcast(rank, &mut bytes);
            bytes
        };
        (0..self.world()).map(of).collect()
    }

    /// The first error of any rank becomes the error of all: each rank returns its own if it has
    /// one, otherwise [`Error::Rank`] with the text that `describe` makes of the error.
    ///
    /// # Errors
    /// When a rank has failed.
    pub fn agree<T, E: From<Error>>(
        &self,
        result: Result<T, E>,
        describe: impl Fn(&E) -> String,
    ) -> Result<T, E> {
        self.agree_and_sum(result, &mut [], describe)
    }

    /// As [`agree`](Self::agree), and each value becomes its sum over all ranks in the same message: on a slow network
    /// the time of a step inside of a round is that of its messages.
    ///
    /// # Errors
    /// As [`agree`](Self::agree); what the values are is then not defined.
    pub fn agree_and_sum<T, E: From<Error>>(
        &self,
        result: Result<T, E>,
        values: &mut [f64],
        describe: impl Fn(&E) -> String,
    ) -> Result<T, E> {
        if self.is_alone() {
            return result;
        }
        let mut sums = vec![f64::from(u8::from(result.is_err()))];
        sums.extend_from_slice(values);
        self.sum_f64(&mut sums);
        values.copy_from_slice(&sums[1..]);
        if sums[0] == 0.0 {
            return result;
        }
        self.ended.store(true, Ordering::Relaxed);
        // A byte in front, because an error may say nothing.
        let said = result
            .as_ref()
            .err()
            .map_or_else(Vec::new, |e| format!("!{}", describe(e)).into_bytes());
        let all = self.gather(said);
        let first = all.iter().enumerate().find(|(_, said)| !said.is_empty());
        let said = |(rank, bytes): (usize, &Vec<u8>)| {
            (rank, String::from_utf8_lossy(&bytes[1..]).into_owned())
        };
        let (rank, message) = first.map(said).unwrap_or_default();
        Err(result.err().unwrap_or_else(|| Error::Rank { rank, message }.into()))
    }

    /// Calls `f` on rank 0, and then, if that has not failed, on all others: for what the first
    /// writes and the others find.
    ///
    /// # Errors
    /// As [`agree`](Self::agree).
    pub fn first_then<T, E: From<Error>>(
        &self,
        describe: impl Fn(&E) -> String,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if self.is_first() {
            let first = self.agree(f(), &describe)?;
            self.agree(Ok(()), &describe)?;
            return Ok(first);
        }
        self.agree(Ok(()), &describe)?;
        self.agree(f(), &describe)
    }

    /// Checks that each of `facts` has the same value on all ranks.
    ///
    /// # Errors
    /// [`Error::Differs`] on a rank where one has not, [`Error::Rank`] on the others.
    pub fn check_equal(&self, facts: &[Fact]) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        let lines: String =
            facts.iter().map(|Fact { what, value }| format!("{what}\0{value}\0")).collect();
        let of_first = String::from_utf8_lossy(&self.broadcast(lines.into_bytes())).into_owned();
        let of_first: Vec<&str> = of_first.split_terminator('\0').collect();
        self.agree(equal(facts, &of_first), Error::to_string)
    }

    /// Whether all ranks end by an error that they have agreed on: rank 0 says it.
    pub fn ended_together(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Ends all ranks now: for an error that the others do not know of.
    pub fn abort(&self, code: i32) -> ! {
        self.transport.abort(code)
    }
}

/// Compares facts with those of rank 0: what and value by turns.
fn equal(facts: &[Fact], of_first: &[&str]) -> Result<()> {
    let differs = |what: &str, found: &str, expected: &str| {
        let [what, found, expected] = [what, found, expected].map(str::to_owned);
        Err(Error::Differs { what, found, expected })
    };
    let value = |what: &str| of_first.chunks(2).find(|pair| pair[0] == what)?.get(1).copied();
    for Fact { what, value: found } in facts {
        let expected = value(what).unwrap_or("absent");
        if found != expected {
            return differs(what, found, expected);
        }
    }
    match of_first.chunks(2).find(|pair| facts.iter().all(|fact| fact.what != pair[0])) {
        Some(pair) => differs(pair[0], "absent", pair.get(1).unwrap_or(&"")),
        None => Ok(()),
    }
}

/// Something that must be equal on all ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is, as a person knows it.
    pub what: String,
    /// Its value on this rank.
    pub value: String,
}

impl Fact {
    /// A fact.
    pub fn new(what: impl Into<String>, value: impl ToString) -> Self {
        Self { what: what.into(), value: value.to_string() }
    }
}

/// No other rank.
struct Local;

impl Transport for Local {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn sum_f32(&self, _: &mut [f32]) {}

    fn sum_f64(&self, _: &mut [f64]) {}

    fn broadcast(&self, _: usize, _: &mut Vec<u8>) {}

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads;

    /// What each of three ranks makes of `f`.
    fn on_three<T: Send>(f: impl Fn(&Exchange) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let ranks: Vec<_> =
                threads(3).into_iter().map(|rank| scope.spawn(|| f(&{ rank }))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_and_bytes_of_the_first_are_the_same_on_all_ranks() {
        let found = on_three(|exchange| {
            let rank = exchange.rank() as f32;
            let mut values = [rank, 0.1 * rank, 1.0];
            exchange.sum_f32(&mut values);
            let bytes = exchange.broadcast(vec![exchange.rank() as u8; exchange.rank() + 1]);
            // Each of three sends 4 / 3 of the 12 bytes.
            assert_eq!(exchange.sent(), 16);
            (values, bytes, exchange.any(exchange.rank() == 2), exchange.any(false))
        });
        let expected = ([3.0, 0.1 + 0.2, 3.0], vec![0], true, false);
        assert_eq!(found, vec![expected; 3]);
    }

    #[test]
    fn an_error_of_a_rank_is_the_error_of_all() {
        let found = on_three(|exchange| {
            let own = Error::Start { found: "one".to_owned(), expected: "two" };
            let own = if exchange.rank() == 1 { Err(own) } else { Ok(7) };
            let before = exchange.ended_together();
            let agreed = exchange.agree(own, Error::to_string);
            (before, agreed.unwrap_err().to_string(), exchange.ended_together())
        });
        let own = "MPI: one; expected two";
        let said = [format!("rank 1: {own}"), own.to_owned(), format!("rank 1: {own}")];
        assert_eq!(found, said.map(|said| (false, said, true)));
        assert_eq!(
            on_three(|exchange| exchange.agree(Ok::<_, Error>(7), Error::to_string)),
            [Ok(7), Ok(7), Ok(7)]
        );
    }

    #[test]
    fn values_are_summed_in_the_message_that_says_who_has_failed() {
        let found = on_three(|exchange| {
            let mut values = [exchange.rank() as f64, f64::NAN];
            let agreed = exchange.agree_and_sum(Ok::<_, Error>(()), &mut values, Error::to_string);
            // Two numbers of 8 bytes, and whether it failed.
            (agreed, values[0], values[1].is_nan(), exchange.sent())
        });
        assert_eq!(found, vec![(Ok(()), 3.0, true, 32); 3]);
    }

    #[test]
    fn what_the_first_has_done_the_others_find() {
        let done = std::sync::atomic::AtomicUsize::new(0);
        let found = on_three(|exchange| {
            let f = || Ok::<_, Error>(done.fetch_add(1, Ordering::SeqCst));
            exchange.first_then(Error::to_string, f).unwrap()
        });
        assert_eq!(found[0], 0);
        let failed = on_three(|exchange| {
            let own = Error::Start { found: "a file".to_owned(), expected: "none" };
            let fails = || Err::<(), _>(own);
            exchange.first_then(Error::to_string, fails).unwrap_err().to_string()
        });
        assert_eq!(failed[1..], ["rank 0: MPI: a file; expected none"; 2]);
    }

    #[test]
    fn a_rank_with_another_value_is_named() {
        let found = on_three(|exchange| {
            let data = if exchange.rank() == 2 { "bb" } else { "aa" };
            let facts = [Fact::new("the version", 1), Fact::new("the data", data)];
            exchange.check_equal(&facts).unwrap_err().to_string()
        });
        assert_eq!(found[0], "rank 2: the data is bb; expected aa, as on rank 0");
        assert_eq!(found[2], "the data is bb; expected aa, as on rank 0");
        on_three(|exchange| exchange.check_equal(&[Fact::new("the data", 3)]).unwrap());
        let found = on_three(|exchange| {
            let facts = [Fact::new("the data", 3), Fact::new("`train.clip`", 1)];
            let facts = &facts[..2 - exchange.rank() % 2];
            exchange.check_equal(facts).unwrap_err().to_string()
        });
        assert_eq!(found[1], "`train.clip` is absent; expected 1, as on rank 0");
    }

    #[test]
    fn a_process_alone_has_its_own_sums() {
        let alone = Exchange::local();
        let mut values = [1.5];
        alone.sum_f64(&mut values);
        assert_eq!((values, alone.any(true), alone.broadcast(vec![4])), ([1.5], true, vec![4]));
        let error = Error::Start { found: String::new(), expected: "" };
        assert_eq!(alone.agree(Err::<(), _>(error.clone()), Error::to_string), Err(error));
        assert!(!alone.ended_together());
    }
}
