//! Standard output: results, and nothing else.

use std::io::{self, Write};

use anyhow::Result;

/// Prints a line of a result. It is an error that it cannot be printed, but no error that its
/// reader has gone away (`| head`).
macro_rules! out {
    ($($argument:tt)*) => {
        crate::output::line(format_args!($($argument)*))
    };
}
pub(crate) use out;

/// Standard output that cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("standard output")]
struct Error(#[source] io::Error);

/// Prints a line: [`out!`].
pub fn line(text: std::fmt::Arguments<'_>) -> Result<()> {
    checked(writeln!(io::stdout(), "{text}"))
}

/// Prints text that is not a whole line, now.
pub fn text(text: &str) -> Result<()> {
    let mut out = io::stdout();
    checked(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What has come of writing to standard output. Ends the process, quietly, if its reader has gone
/// away.
pub fn checked(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other.map_err(Error)?),
    }
}
