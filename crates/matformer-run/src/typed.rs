//! Commands that are said to a person, as a shell reads them.

use std::ffi::OsString;

/// `matformer` with these arguments, each quoted where a shell would split or change it.
pub fn command(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> String {
    let arguments = arguments.into_iter().map(|word| word.into().to_string_lossy().into_owned());
    let words = arguments.map(|word| match shlex::try_quote(&word) {
        // The crate also quotes what only some shells read otherwise, and only where a word begins.
        Ok(quoted) if !is_plain(&word) => quoted.into_owned(),
        // With a zero byte, which no system passes on, there is nothing to quote.
        _ => word,
    });
    std::iter::once("matformer".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Whether every shell takes a word as it is.
fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=:,./%@".contains(c);
    !word.is_empty() && !word.starts_with('=') && word.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn words_that_a_shell_would_split_are_quoted() {
        let plain = ["train", "runs/a", "--set", "train.steps=8"];
        assert_eq!(command(plain), format!("matformer {}", plain.join(" ")));
        let said = command(["elastify", "my model", "--set", "data.paths=[\"*.txt\"]"]);
        assert_eq!(said, "matformer elastify 'my model' --set 'data.paths=[\"*.txt\"]'");
    }
}
