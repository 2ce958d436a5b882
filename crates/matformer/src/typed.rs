//! The command that was typed.

use std::ffi::OsString;

use matformer::run::typed::command;

/// The command that was typed, once more, with `flag` if it was not among its arguments: whatever else was
/// asked for is asked for again.
pub fn again(flag: Option<&str>) -> String {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(flag) = flag.filter(|flag| arguments.iter().all(|typed| typed != flag)) {
        arguments.push(flag.into());
    }
    command(arguments)
}
