//! What a model card says in front, for a model that is made of another.

use std::{collections::BTreeMap, path::Path};

use matformer_core::fs;

/// The file of a model card.
pub const CARD: &str = "README.md";

/// Metadata keys of a model card that also apply to slices of the model.
const INHERITED: [&str; 6] =
    ["license", "license_name", "license_link", "base_model", "language", "datasets"];

/// The lines in front of the card in the folder `dir` that hold for what is cut out of its model; empty where
/// there is no card.
pub fn inherited(dir: &Path) -> String {
    let front = front_matter(dir);
    INHERITED.iter().filter_map(|key| front.get(*key)).map(String::as_str).collect()
}

/// What a model's card says of its license: the value of `license`.
pub fn license(dir: &Path) -> Option<String> {
    let line = front_matter(dir).remove("license")?;
    let value = line.split_once(':')?.1.trim().trim_matches(['"', '\'']);
    (!value.is_empty() && !value.contains('\n')).then(|| value.to_owned())
}

/// Lines of the keys in front of a model's card, by key.
fn front_matter(dir: &Path) -> BTreeMap<String, String> {
    let card = fs::read_to_string(dir.join(CARD)).unwrap_or_default();
    let mut lines = card.lines();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    if lines.next() != Some("---") {
        return found;
    }
    let mut last = None;
    for line in lines.take_while(|line| *line != "---") {
        // An indented line, or an item of a list, belongs to the key above it.
        if !line.starts_with([' ', '-', '#']) {
            last = line.split_once(':').map(|(key, _)| key.to_owned());
        }
        if let Some(key) = &last {
            let lines = found.entry(key.clone()).or_default();
            *lines += line;
            lines.push('\n');
        }
    }
    found
}
