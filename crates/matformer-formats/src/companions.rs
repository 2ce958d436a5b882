//! The small files that lie beside the weights in a folder of Hugging Face.

use std::path::Path;

use matformer_core::fs;

use crate::Result;

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

/// Names and contents of the small files in a folder that go with its model: tokenizer, chat template,
/// image processor, license. `config.json` and `generation_config.json`, which are written anew, and
/// the model card are not among them.
///
/// # Errors
/// When one cannot be read.
pub fn companions(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let there = NAMES.into_iter().filter(|name| dir.join(name).is_file());
    there.map(|name| Ok((name.to_owned(), fs::read(dir.join(name))?))).collect()
}
