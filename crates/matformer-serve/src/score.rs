//! Log-probabilities as clients read them.

use std::sync::Arc;

use matformer_data::{TextStream, Tokenizer};
use matformer_engine::Logprobs;
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// A token's spelling. Where it is no text of its own, such as a part of a character, its id: distinct tokens never
/// share a name.
#[derive(Clone, Debug, PartialEq)]
struct Name {
    text: String,
    is_text: bool,
}

/// One token with its log-probability and those of the most likely ones.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    name: Name,
    /// `None` for the first token of a prompt.
    logprob: Option<f32>,
    /// Best first; with the token itself, which may not be among the best.
    top: Vec<(Name, f32)>,
    /// How many of the best were asked for.
    asked: usize,
    /// Characters of the text in front of it.
    offset: usize,
}

/// Names tokens and counts the characters in front of them.
pub(crate) struct Scores {
    tokenizer: Arc<Tokenizer>,
    tokens: Vec<u32>,
    text: TextStream<Arc<Tokenizer>>,
    offset: usize,
    asked: usize,
}

impl Scores {
    /// Of a text whose tokens come one by one, `asked` of the most likely ones with each. `before` are tokens of the
    /// prompt that are not part of the text.
    pub(crate) fn new(tokenizer: &Arc<Tokenizer>, before: &[u32], asked: usize) -> Self {
        let text = TextStream::new(Arc::clone(tokenizer), before, &[]);
        let tokens = before.last().copied().into_iter().collect();
        Self { tokenizer: Arc::clone(tokenizer), tokens, text, offset: 0, asked }
    }

    /// The next token.
    pub(crate) fn push(
        &mut self,
        token: u32,
        logprobs: Option<&Logprobs>,
    ) -> Result<Scored, ApiError> {
        let before = self.tokens.last().copied();
        let name = self.name(before, token)?;
        let mut top: Vec<(Name, f32)> = Vec::new();
        let best = logprobs.map_or(&[][..], |logprobs| &logprobs.top);
        let chosen = logprobs.map(|logprobs| (token, logprobs.chosen));
        let unlisted = chosen.filter(|_| best.iter().all(|(other, _)| *other != token));
        for (other, logprob) in best.iter().copied().chain(unlisted) {
            let mut name = if other == token { name.clone() } else { self.name(before, other)? };
            if top.iter().any(|(taken, _)| *taken == name) {
                name = Name::id(other);
            }
            top.push((name, logprob));
        }
        let offset = self.offset;
        self.offset += self.text.push(token).map_err(internal)?.chars().count();
        self.tokens = vec![token];
        Ok(Scored { name, logprob: chosen.map(|(_, p)| p), top, asked: self.asked, offset })
    }

    fn name(&self, before: Option<u32>, token: u32) -> Result<Name, ApiError> {
        let tokens: Vec<u32> = before.into_iter().chain([token]).collect();
        let text = self.tokenizer.decode_one(&tokens, tokens.len() - 1).map_err(internal)?;
        let is_text = !text.is_empty() && !text.contains('\u{fffd}');
        Ok(if is_text { Name { text, is_text } } else { Name::id(token) })
    }
}

impl Name {
    fn id(token: u32) -> Self {
        Self { text: format!("token_id:{token}"), is_text: false }
    }

    fn bytes(&self) -> Option<&[u8]> {
        self.is_text.then_some(self.text.as_bytes())
    }
}

fn internal(error: matformer_data::Error) -> ApiError {
    ApiError::internal(error.to_string())
}

/// As `/v1/completions` has them: four lists.
pub(crate) fn legacy(scored: &[Scored]) -> Value {
    let of = |scored: &Scored| match scored.logprob {
        None => Value::Null,
        Some(_) => {
            let pair = |(name, logprob): &(Name, f32)| (name.text.clone(), json!(logprob));
            Value::Object(scored.top.iter().map(pair).collect::<Map<String, Value>>())
        }
    };
    json!({
        "tokens": scored.iter().map(|s| &s.name.text).collect::<Vec<_>>(),
        "token_logprobs": scored.iter().map(|s| s.logprob).collect::<Vec<_>>(),
        "top_logprobs": scored.iter().map(of).collect::<Vec<_>>(),
        "text_offset": scored.iter().map(|s| s.offset).collect::<Vec<_>>(),
    })
}

/// As `/v1/chat/completions` has them: an object for each token.
pub(crate) fn chat(scored: &[Scored]) -> Value {
    let entry = |name: &Name, logprob: Option<f32>| json!({ "token": name.text, "logprob": logprob, "bytes": name.bytes() });
    let token = |scored: &Scored| {
        let best = scored.top.iter().take(scored.asked);
        let mut object = entry(&scored.name, scored.logprob);
        object["top_logprobs"] = best.map(|(name, p)| entry(name, Some(*p))).collect();
        object
    };
    json!({ "content": scored.iter().map(token).collect::<Vec<_>>(), "refusal": null })
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn tokens_of_one_spelling_have_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let text = "a é 🦊".to_owned();
        let tokenizer = Arc::new(Tokenizer::train(&[text], 258, dir.path()).unwrap());
        let tokens = tokenizer.encode("a🦊b").unwrap();
        assert!(tokens.len() > 4, "the fox is of several tokens: {tokens:?}");
        let mut scores = Scores::new(&tokenizer, &[], 2);
        let best = vec![(tokens[1], -0.5), (tokens[2], -1.0)];
        let mut all = Vec::new();
        for token in &tokens {
            let logprobs = Logprobs { chosen: -2.25, top: best.clone() };
            all.push(scores.push(*token, Some(&logprobs)).unwrap());
        }
        let legacy = legacy(&all);
        let offsets: Vec<u64> =
            legacy["text_offset"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        assert_eq!((offsets[0], offsets[1], offsets[2]), (0, 1, 1));
        assert_eq!(offsets.last(), Some(&2), "the fox is one character");
        assert_eq!(legacy["tokens"][1], format!("token_id:{}", tokens[1]));
        let top = legacy["top_logprobs"][0].as_object().unwrap();
        assert_eq!(top.len(), 3, "the token itself is always there");
        assert_eq!(top["a"], legacy["token_logprobs"][0]);
        assert_eq!(legacy["top_logprobs"][1].as_object().unwrap().len(), 2);
        let chat = chat(&all);
        assert_eq!(chat["content"][0]["bytes"], json!([97]));
        assert_eq!(chat["content"][1]["bytes"], Value::Null);
        assert_eq!(chat["content"][0]["top_logprobs"].as_array().unwrap().len(), 2);
    }
}
