//! What goes to standard error, and into the log file of a run.
//!
//! Everything is an event. Those of the target [`SAID`] tell a person how it goes and are printed
//! as they are; the others are the log, printed with their level in front: `warning: …`. `-q`
//! leaves errors only, `-v` and `-vv` add to the log, `MATFORMER_LOG` overrides its levels.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

pub use matformer::train::SAID;

use crate::{
    args::{Args, Command},
    failure::{Hinted, OrBadInput},
};

pub use matformer::train::say;

/// Environment variable with the levels of the log.
const ENV: &str = "MATFORMER_LOG";

/// Name of the log file in a run folder.
const FILE: &str = "train.log";

static QUIET: AtomicBool = AtomicBool::new(false);

/// Number of this process among those of its run.
static RANK: AtomicUsize = AtomicUsize::new(0);

/// What is in front of an error of a rank that is not the first.
pub fn rank_prefix() -> String {
    match RANK.load(Ordering::Relaxed) {
        0 => String::new(),
        rank => format!("rank {rank}: "),
    }
}

/// Whether only errors are said.
pub fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Sets up what is said and logged. Nothing is said before. Ranks above 0 say errors only, and write no
/// log file.
///
/// # Errors
/// When `MATFORMER_LOG` is not a list of levels; the log has its default levels then.
pub fn init(args: &Args, rank: usize) -> Result<()> {
    let quiet = args.quiet || rank > 0;
    QUIET.store(quiet, Ordering::Relaxed);
    RANK.store(rank, Ordering::Relaxed);
    let level = match (quiet, args.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let ours = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(OURS, level);
    let asked = match std::env::var(ENV) {
        Ok(text) if !text.trim().is_empty() => levels(&text),
        _ => Ok(ours.clone()),
    };
    let said = if quiet { LevelFilter::ERROR } else { LevelFilter::INFO };
    let stderr = asked.as_ref().unwrap_or(&ours).clone().with_target(SAID, said);
    // Only what trains has a folder to log into.
    let run =
        matches!(args.command, Command::Train(_) | Command::Elastify(_) | Command::Baselines(_));
    let file = (run && rank == 0).then(|| {
        *log() = Log::Waiting(Vec::new());
        let levels = Targets::new().with_default(LevelFilter::INFO);
        layer(Format { timed: true }, || LogWriter)
            .with_filter(levels.with_target(OURS, LevelFilter::DEBUG))
    });
    tracing_subscriber::registry()
        .with(layer(Format { timed: false }, || Stderr).with_filter(stderr))
        .with(file)
        .init();
    asked.map(|_| ()).bad_input()
}

/// What the targets of our crates begin with.
const OURS: &str = "matformer";

/// `debug`, `off`, `warn,matformer_data=debug`.
fn levels(text: &str) -> Result<Targets, Hinted> {
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, part),
        };
        // An empty level would parse, too.
        let parsed = Some(level).filter(|level| !level.is_empty()).map(str::parse::<LevelFilter>);
        let Some(Ok(level)) = parsed else {
            return Err(Hinted {
                message: format!(
                    "{ENV}: `{part}`, expected `off`, `error`, `warn`, `info`, `debug` or `trace`"
                ),
                hint: "levels may be given by module: `warn,matformer_data=debug`".to_owned(),
            });
        };
        targets = match target {
            Some(target) => targets.with_target(target, level),
            None => targets.with_default(level),
        };
    }
    Ok(targets)
}

/// Opens the log file of the run in `dir`, and writes what has been logged so far.
///
/// # Errors
/// When the file cannot be opened or written.
pub fn open(dir: &Path) -> Result<()> {
    let path = dir.join(FILE);
    let mut log = log();
    let begin = || {
        let mut file = File::options().create(true).append(true).open(&path)?;
        if let Log::Waiting(bytes) = &*log {
            file.write_all(bytes)?;
        }
        Ok(file)
    };
    let file = begin().map_err(matformer::core::fs::error(&path, "append to"))?;
    *log = Log::Open(file);
    Ok(())
}

/// The log file: events wait until the run has a folder.
enum Log {
    None,
    Waiting(Vec<u8>),
    Open(File),
}

static LOG: Mutex<Log> = Mutex::new(Log::None);

fn log() -> std::sync::MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to the log file. What it cannot write is lost: a log is no reason to stop.
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *log() {
            Log::None => {}
            Log::Waiting(waiting) => waiting.extend(bytes),
            Log::Open(file) => drop(file.write_all(bytes)),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, which nobody may be reading any more.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        drop(io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn layer<S, W, F>(format: Format, writer: F) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write,
    F: Fn() -> W + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer().with_ansi(false).event_format(format).with_writer(writer)
}

/// An event as a line.
struct Format {
    /// With time and level in front, always.
    timed: bool,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        if self.timed {
            SystemTime.format_time(&mut out)?;
            write!(out, " {level:>5} ")?;
        } else if target != SAID {
            let word = match level {
                Level::ERROR => "error",
                Level::WARN => "warning",
                Level::INFO => "info",
                Level::DEBUG => "debug",
                Level::TRACE => "trace",
            };
            write!(out, "{word}: ")?;
        }
        // Whose word it is, where it is not ours.
        if !target.starts_with(OURS) {
            write!(out, "{target}: ")?;
        }
        context.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::levels;

    #[test]
    fn levels_are_words_or_words_by_module() {
        for text in ["debug", "OFF", "warn,matformer_data=debug", "error, wgpu_core=info,"] {
            assert!(levels(text).is_ok(), "{text}");
        }
        for text in ["zzz", "matformer_data", "warn,matformer=loud", "=", "a=b=info"] {
            assert!(levels(text).is_err(), "{text}");
        }
    }
}
