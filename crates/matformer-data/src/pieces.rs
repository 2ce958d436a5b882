//! Long texts in pieces whose tokens are those of the whole.

use serde_json::{Value, json};

/// Regular expressions of pre-tokenizers of which no match holds a letter and white space behind it: those
/// of Llama 3 and Qwen 2.
const KNOWN: [&str; 2] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

/// Whether a text can be cut between a letter and white space without another token: the tokenizer cuts
/// there itself, whatever is around.
pub(crate) fn may_be_cut(tokenizer: &tokenizers::Tokenizer) -> bool {
    let plain = |token: &tokenizers::AddedToken| {
        token.special
            || !(token.lstrip || token.rstrip || token.content.contains(char::is_whitespace))
    };
    tokenizer.get_normalizer().is_none()
        && tokenizer.get_added_tokens_decoder().values().all(plain)
        && serde_json::to_value(tokenizer.get_pre_tokenizer()).is_ok_and(|found| cuts(&found))
}

/// Whether a pre-tokenizer is one of those that are known to cut there.
fn cuts(pre_tokenizer: &Value) -> bool {
    let parts = match pre_tokenizer.get("pretokenizers").and_then(Value::as_array) {
        Some(parts) => parts.clone(),
        None => vec![pre_tokenizer.clone()],
    };
    let is = |part: &Value, key: &str, value: Value| part.get(key) == Some(&value);
    let known = |part: &Value| {
        is(part, "type", json!("Digits"))
            || is(part, "type", json!("ByteLevel")) && is(part, "add_prefix_space", json!(false))
            || is_known(part)
    };
    let cut = |part: &Value| is(part, "use_regex", json!(true)) || is_known(part);
    parts.iter().all(known) && parts.iter().any(cut)
}

fn is_known(part: &Value) -> bool {
    let regex = part.pointer("/pattern/Regex").and_then(Value::as_str);
    regex.is_some_and(|regex| KNOWN.contains(&regex))
        && part.get("behavior") == Some(&json!("Isolated"))
        && part.get("invert") == Some(&json!(false))
}

/// Cuts a text into pieces of `size` bytes or a little more, each but the last of which ends with a letter
/// in front of white space.
pub(crate) fn of(text: &str, size: usize) -> Vec<&str> {
    let (mut pieces, mut start) = (Vec::new(), 0);
    let bytes = text.as_bytes();
    let ends =
        |at: &usize| bytes[at - 1].is_ascii_alphabetic() && matches!(bytes[*at], b' ' | b'\n');
    while let Some(end) = (start + size.max(1)..bytes.len()).find(ends) {
        pieces.push(&text[start..end]);
        start = end;
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Tokenizer;

    #[test]
    fn pieces_end_with_words() {
        assert_eq!(of("one two three four", 4), ["one two", " three", " four"]);
        assert_eq!(of("one, two.\n3 ", 1), ["one, two.\n3 "]);
        assert_eq!(of("été a\nb", 1), ["été a", "\nb"]);
        assert_eq!(of("", 1), [""]);
    }

    #[test]
    fn only_known_pre_tokenizers_are_cut() {
        let byte_level = |prefix: bool, regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "use_regex": regex});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let all = |parts: &[Value]| cuts(&json!({"type": "Sequence", "pretokenizers": parts}));
        assert!(cuts(&byte_level(false, true)));
        assert!(!cuts(&byte_level(true, true)) && !cuts(&byte_level(false, false)));
        assert!(all(&[split(KNOWN[0]), byte_level(false, false)]));
        assert!(all(&[
            json!({"type": "Digits", "individual_digits": true}),
            byte_level(false, true)
        ]));
        assert!(!all(&[split(r"\w+ \w+"), byte_level(false, false)]));
        assert!(!cuts(&Value::Null) && !cuts(&json!({"type": "Metaspace"})));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_tokens_of_the_pieces_are_those_of_the_text(
            text in "([a-c']{1,3}|[ \n\t]{1,3}|[.,1é♥'\u{301}]|don't|\r\n){0,40}",
            size in 1_usize..12,
        ) {
            static TOKENIZER: std::sync::LazyLock<(tempfile::TempDir, Tokenizer)> =
                std::sync::LazyLock::new(|| {
                    let folder = tempfile::tempdir().unwrap();
                    let text = "a ab abc don't  b\n\nca\t.1 cc é".repeat(20);
                    let tokenizer = Tokenizer::train(&[text], 300, folder.path()).unwrap();
                    (folder, tokenizer)
                });
            let tokenizer = &TOKENIZER.1;
            let pieces = of(&text, size).into_iter().map(|piece| tokenizer.encode(piece).unwrap());
            prop_assert_eq!(pieces.collect::<Vec<_>>().concat(), tokenizer.encode(&text).unwrap());
        }
    }
}
