//! Who has started this process, by the environment variables of launchers.

use std::fmt;

use crate::{Error, Result};

/// What starts the processes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// `mpiexec` of MPICH and its relatives (Hydra, PMI).
    Mpich,
    /// Slurm's `srun`.
    Slurm,
    /// The same without `--mpi`, so that its processes do not find each other.
    SlurmWithoutMpi,
    /// PyTorch's `torchrun`, whose processes do not know MPI.
    Torchrun,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenMpi => "Open MPI's mpirun",
            Self::Mpich => "MPICH's mpiexec",
            Self::Slurm => "Slurm's srun",
            Self::SlurmWithoutMpi => "Slurm's srun without `--mpi`",
            Self::Torchrun => "torchrun",
        })
    }
}

/// What a launcher says of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Who has started it.
    pub launcher: Launcher,
    /// Its number, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world: usize,
    /// Its number among those of its host, from 0, where the launcher says it.
    pub local_rank: Option<usize>,
}

/// The environment variables of a launcher.
struct Variables {
    launcher: Launcher,
    rank: &'static str,
    world: &'static str,
    local_rank: &'static str,
    /// Another variable that must be there: these names are common.
    beside: Option<&'static str>,
}

/// In the order of their precedence: `mpirun` and `mpiexec` in a Slurm allocation start their
/// processes through `srun`. `SLURM_NTASKS` is set for the batch script, too, which is one process.
const LAUNCHERS: [Variables; 4] = [
    Variables {
        launcher: Launcher::OpenMpi,
        rank: "OMPI_COMM_WORLD_RANK",
        world: "OMPI_COMM_WORLD_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        beside: None,
    },
    Variables {
        launcher: Launcher::Mpich,
        rank: "PMI_RANK",
        world: "PMI_SIZE",
        local_rank: "MPI_LOCALRANKID",
        beside: None,
    },
    Variables {
        launcher: Launcher::Slurm,
        rank: "SLURM_PROCID",
        world: "SLURM_STEP_NUM_TASKS",
        local_rank: "SLURM_LOCALID",
        beside: None,
    },
    Variables {
        launcher: Launcher::Torchrun,
        rank: "RANK",
        world: "WORLD_SIZE",
        local_rank: "LOCAL_RANK",
        beside: Some("MASTER_ADDR"),
    },
];

/// What `srun --mpi=…` sets, one or the other, where `PMI_SIZE` is not: PMIx, and the PMI of Cray.
const OF_SRUN: [&str; 2] = ["PMIX_NAMESPACE", "PMI_CONTROL_PORT"];

impl Launch {
    /// What the environment says; `None` for a process that was started by itself.
    ///
    /// # Errors
    /// [`Error::Variable`] if a launcher's variables contradict each other.
    pub fn from_env() -> Result<Option<Self>> {
        Self::of(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Like [`from_env`](Self::from_env), with the given variables.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let there = |v: &&Variables| {
            variable(v.world).is_some() && v.beside.is_none_or(|name| variable(name).is_some())
        };
        let Some(names) = LAUNCHERS.iter().find(there) else {
            return Ok(None);
        };
        let number = |name, expected: String, fits: &dyn Fn(usize) -> bool| {
            let found = variable(name).unwrap_or_default();
            let number = found.trim().parse().ok().filter(|n| fits(*n));
            number.ok_or(Error::Variable { name, found, expected })
        };
        let most = i32::MAX as usize;
        let world = number(names.world, format!("a number of processes, 1 to {most}"), &|n| {
            (1..=most).contains(&n)
        })?;
        let below = format!("a number below {world}, which is `{}`", names.world);
        let rank = number(names.rank, below.clone(), &|n| n < world)?;
        let local_rank = match variable(names.local_rank) {
            None => None,
            Some(_) => Some(number(names.local_rank, below, &|n| n < world)?),
        };
        let launcher = match names.launcher {
            Launcher::Slurm if OF_SRUN.iter().all(|name| variable(name).is_none()) => {
                Launcher::SlurmWithoutMpi
            }
            launcher => launcher,
        };
        Ok(Some(Self { launcher, rank, world, local_rank }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Launch>> {
        let value = |name: &str| variables.iter().find(|(n, _)| *n == name);
        Launch::of(|name| value(name).map(|(_, value)| (*value).to_owned()))
    }

    fn found(variables: &[(&str, &str)]) -> (Launcher, usize, usize, Option<usize>) {
        let launch = of(variables).unwrap().unwrap();
        (launch.launcher, launch.rank, launch.world, launch.local_rank)
    }

    #[test]
    fn each_launcher_has_its_variables() {
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            // Of the `srun` that has started Open MPI's daemon on this host.
            ("SLURM_PROCID", "1"),
            ("SLURM_STEP_NUM_TASKS", "2"),
        ];
        assert_eq!(found(&open_mpi), (Launcher::OpenMpi, 3, 4, Some(1)));
        assert_eq!(found(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]), (Launcher::Mpich, 0, 2, None));
        let slurm = [
            ("PMIX_NAMESPACE", "slurm.pmix.8.0"),
            ("SLURM_PROCID", "5"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_LOCALID", "1"),
        ];
        assert_eq!(found(&slurm), (Launcher::Slurm, 5, 8, Some(1)));
        assert_eq!(found(&slurm[1..]), (Launcher::SlurmWithoutMpi, 5, 8, Some(1)));
        let torchrun =
            [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("MASTER_ADDR", "node1")];
        assert_eq!(found(&torchrun), (Launcher::Torchrun, 1, 2, Some(1)));
    }

    #[test]
    fn a_process_by_itself_has_no_launcher() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("RANK", "1"), ("WORLD_SIZE", "2")]), Ok(None));
        let batch_script = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")];
        assert_eq!(of(&batch_script), Ok(None));
    }

    #[test]
    fn variables_that_contradict_each_other_are_refused() {
        let said = |variables: &[(&str, &str)]| of(variables).unwrap_err().to_string();
        assert_eq!(
            said(&[("PMI_RANK", "2"), ("PMI_SIZE", "2")]),
            "environment variable `PMI_RANK` is `2`; expected a number below 2, which is `PMI_SIZE`"
        );
        assert_eq!(
            said(&[("PMI_RANK", "0"), ("PMI_SIZE", "two")]),
            "environment variable `PMI_SIZE` is `two`; expected a number of processes, 1 to \
             2147483647"
        );
        assert!(said(&[("OMPI_COMM_WORLD_SIZE", "2")]).contains("`OMPI_COMM_WORLD_RANK` is ``"));
    }
}
