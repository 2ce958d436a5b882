//! Special tokens: ids that a model's files name for other programs. Nothing here depends on them.

use matformer_nn::{ConfigFile, Error, Result};
use serde_json::{Map, Value, json};

/// The file of transformers that says how to generate.
const GENERATION: &str = "generation_config.json";

const KEYS: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];

/// The ids of special tokens, and what else a folder says about generating. What was read is
/// written again as it was: a list of end tokens stays a list, a missing key stays missing.
#[derive(Clone, Debug, PartialEq)]
pub struct SpecialTokens {
    /// Those of [`KEYS`] that `config.json` has.
    ids: Map<String, Value>,
    /// The contents of [`GENERATION`]; made from the ids if absent.
    generation: Option<Map<String, Value>>,
}

impl SpecialTokens {
    /// Ids of the begin-of-text, end-of-text and padding tokens; `None` if the tokenizer has none.
    pub fn new(bos: Option<u32>, eos: Option<u32>, pad: Option<u32>) -> Self {
        let [bos, eos, pad] = [bos, eos, pad].map(|id| json!(id));
        // Without `bos` or `eos`, transformers uses the ids of Llama 1: write them even if null.
        let ids = KEYS.into_iter().zip([bos, eos, pad]);
        let kept = ids.filter(|(key, id)| *key != "pad_token_id" || !id.is_null());
        Self { ids: kept.map(|(key, id)| (key.to_owned(), id)).collect(), generation: None }
    }

    /// Reads them from the files of a folder of a model with so many tokens.
    pub(crate) fn read(file: &ConfigFile, vocab_size: usize) -> Result<Self> {
        let found =
            KEYS.into_iter().filter_map(|key| Some((key.to_owned(), file.raw(key)?.clone())));
        let ids: Map<String, Value> = found.collect();
        let generation = file.beside(GENERATION)?;
        let expected = format!("a token below {vocab_size}, a list of such, or null");
        if let Some((key, id)) = unfit(&ids, vocab_size) {
            return Err(file.wrong_value(key, id, &expected));
        }
        if let Some((key, id)) = generation.as_ref().and_then(|said| unfit(said, vocab_size)) {
            return Err(Error::File {
                path: file.path().with_file_name(GENERATION),
                found: format!("`{key}`: {id}"),
                expected,
            });
        }
        Ok(Self { ids, generation })
    }

    /// The token that begins a text, where `config.json` names one.
    pub fn bos(&self) -> Option<u32> {
        self.ids.get(KEYS[0]).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok())
    }

    /// The tokens that end a text: those of `generation_config.json`, or else of `config.json`.
    pub fn ends(&self) -> Vec<u32> {
        let key = "eos_token_id";
        let said = self.generation.as_ref().and_then(|said| said.get(key));
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match said.filter(|value| !value.is_null()).or_else(|| self.ids.get(key)) {
            Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
            Some(value) => id(value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// The keys of `config.json`.
    pub(crate) fn ids(&self) -> &Map<String, Value> {
        &self.ids
    }

    /// Name and contents of the file that says how to generate.
    pub(crate) fn generation(&self, context: usize) -> (&'static str, Value) {
        let made = || {
            let mut made = self.ids.clone();
            made.insert("max_length".to_owned(), json!(context));
            made
        };
        (GENERATION, Value::Object(self.generation.clone().unwrap_or_else(made)))
    }
}

/// The first of [`KEYS`] that names no token. A negative number is how some folders say that there is none.
fn unfit(keys: &Map<String, Value>, vocab_size: usize) -> Option<(&'static str, &Value)> {
    let is_token = |id: &Value| match id.as_u64() {
        Some(id) => id < vocab_size as u64,
        None => id.is_null() || id.as_i64().is_some(),
    };
    let fits = |value: &Value| match value {
        Value::Array(list) => list.iter().all(is_token),
        id => is_token(id),
    };
    let found = KEYS.into_iter().filter_map(|key| Some((key, keys.get(key)?)));
    found.into_iter().find(|(_, value)| !fits(value))
}

impl Default for SpecialTokens {
    fn default() -> Self {
        Self::new(None, None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_token_is_refused_by_key() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let bad = |keys: Value| unfit(&object(keys), 320).map(|(key, _)| key);
        for fits in [json!(null), json!(0), json!(319), json!(-1), json!([1, 319])] {
            assert_eq!(bad(json!({ "eos_token_id": fits })), None);
        }
        for other in [json!(320), json!(1.5), json!("</s>"), json!([1, 320]), json!({})] {
            assert_eq!(
                bad(json!({ "bos_token_id": 1, "eos_token_id": other })),
                Some("eos_token_id")
            );
        }
    }

    #[test]
    fn a_text_ends_with_each_of_a_list_of_tokens() {
        let ends = |config: Value, generation: Option<Value>| {
            let object = |value: Value| value.as_object().cloned().unwrap();
            SpecialTokens { ids: object(config), generation: generation.map(object) }.ends()
        };
        assert_eq!(ends(json!({"eos_token_id": 2}), None), [2]);
        let chat = json!({"eos_token_id": [128_001, 128_009]});
        assert_eq!(ends(json!({"eos_token_id": 2}), Some(chat.clone())), [128_001, 128_009]);
        assert_eq!(ends(chat, Some(json!({"eos_token_id": null}))), [128_001, 128_009]);
        assert!(ends(json!({}), None).is_empty());
        assert_eq!(SpecialTokens::new(Some(1), Some(7), None).ends(), [7]);
    }
}
