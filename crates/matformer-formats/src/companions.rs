//! The small files that lie beside the weights in a folder of Hugging Face.

use std::path::{Path, PathBuf};

use matformer_core::fs;

use crate::{Error, Result};

/// Names of the files that belong to a model whatever is done with its weights: tokenizers and chat
/// templates, what prepares images, licenses.
const NAMES: [&str; 22] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "LICENCE",
    "NOTICE",
    "NOTICE.txt",
    "Notice",
    "USE_POLICY.md",
    "CITATION.cff",
];

/// The folder of the chat templates but the default one, `NAME.jinja`.
pub(crate) const TEMPLATES: &str = "additional_chat_templates";

/// Names and contents of the small files in a folder that go with its model: tokenizer, chat templates,
/// image processor, license. `config.json` and `generation_config.json`, which are written anew, and
/// the model card are not among them.
///
/// # Errors
/// When one cannot be read.
pub fn companions(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let there = NAMES.into_iter().filter(|name| dir.join(name).is_file()).map(str::to_owned);
    let templates = templates(dir)?.into_iter().map(|name| format!("{TEMPLATES}/{name}.jinja"));
    there.chain(templates).map(|name| Ok((name.clone(), fs::read(dir.join(name))?))).collect()
}

/// Names of the chat templates of a folder but the default one.
pub(crate) fn templates(dir: &Path) -> Result<Vec<String>> {
    let dir = dir.join(TEMPLATES);
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let is_template = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "jinja");
    let name = |path: PathBuf| match path.file_stem().and_then(|stem| stem.to_str()) {
        Some(name) => Ok(name.to_owned()),
        None => Err(Error::File {
            found: "a name that is not UTF-8".to_owned(),
            expected: "a chat template with a name".to_owned(),
            path,
        }),
    };
    fs::read_dir(dir)?.into_iter().filter(is_template).map(name).collect()
}
