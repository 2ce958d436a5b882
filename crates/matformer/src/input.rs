//! Standard input: a text that was piped in.

use std::io::{IsTerminal, Read, stdin};

use anyhow::Result;

use crate::failure::{Hinted, OrBadInput};

/// The text from standard input, without its last line break; `what` it is, and the options that give it
/// otherwise.
pub fn piped(what: &str, options: &str) -> Result<String> {
    if stdin().is_terminal() {
        return Err(Hinted {
            message: format!("no {what}"),
            hint: format!("give {options}, or pipe a text in"),
        })
        .bad_input();
    }
    let mut text = String::new();
    stdin()
        .read_to_string(&mut text)
        .map_err(|error| Hinted {
            message: format!("standard input: {error}"),
            hint: "expected text in UTF-8".to_owned(),
        })
        .bad_input()?;
    let line = text.strip_suffix('\n').map_or(text.len(), str::len);
    text.truncate(line);
    Ok(text)
}
