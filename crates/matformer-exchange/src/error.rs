//! Errors between processes.

use crate::Launcher;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error between the processes of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A rank has failed, and all ranks end.
    #[error("rank {rank}: {message}")]
    Rank {
        /// The rank.
        rank: usize,
        /// Its error.
        message: String,
    },
    /// Something that must be equal on all ranks is not.
    #[error("{what} is {found}; expected {expected}, as on rank 0")]
    Differs {
        /// What it is.
        what: String,
        /// What this rank has.
        found: String,
        /// What rank 0 has.
        expected: String,
    },
    /// Started as one of several processes, by a program that cannot exchange anything.
    #[error(
        "started by {launcher} as one of {world} processes; this program was built without MPI"
    )]
    NotBuilt {
        /// Who started it.
        launcher: Launcher,
        /// How many processes it announces.
        world: usize,
    },
    /// Started by a launcher whose processes do not find each other over MPI.
    #[error(
        "started by {launcher} as one of {world} processes; expected a launcher of MPI programs"
    )]
    NoMpi {
        /// Who started it.
        launcher: Launcher,
        /// How many processes it announces.
        world: usize,
    },
    /// MPI connects fewer or more processes than the launcher has started.
    #[error("MPI connects {found} of the {expected} processes that {launcher} has started")]
    World {
        /// Who started them.
        launcher: Launcher,
        /// Processes that MPI connects.
        found: usize,
        /// Processes that the launcher announces.
        expected: usize,
    },
    /// An invalid environment variable of a launcher.
    #[error("environment variable `{name}` is `{found}`; expected {expected}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value, empty if it is missing.
        found: String,
        /// Its valid values.
        expected: String,
    },
    /// MPI could not be started as it is needed.
    #[error("MPI: {found}; expected {expected}")]
    Start {
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
}
