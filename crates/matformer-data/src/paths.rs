//! The names of paths, and when files were changed.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::time::UNIX_EPOCH;

/// The parts of a path with `/` between them.
pub(crate) fn joined<'a>(parts: impl IntoIterator<Item = &'a OsStr>) -> String {
    let parts: Vec<_> = parts.into_iter().map(OsStr::to_string_lossy).collect();
    parts.join("/")
}

/// When a file was changed, in nanoseconds since 1970; 0 where that is unknown.
pub(crate) fn changed(about: &Metadata) -> u128 {
    let since = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos())
}
