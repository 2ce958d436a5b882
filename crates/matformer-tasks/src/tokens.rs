//! Contexts and continuations as tokens.

use matformer_data::Tokenizer;

/// A row of tokens whose last ones are scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scored {
    /// The tokens: at most one more than the model's context, since the last one is only predicted.
    pub tokens: Vec<u32>,
    /// How many of the last ones are the continuation.
    pub scored: usize,
    /// Tokens that were cut from the beginning of the context.
    pub cut: usize,
}

/// `continuation` after `context`, for a model of `most` positions. White space at the end of the context belongs to
/// the continuation, as words are tokenized with the space before them; where text is tokenized as a whole, the
/// continuation is what follows as many tokens as the context has alone.
///
/// # Errors
/// What is wrong, as text: the continuation is longer than the model's context, or has no tokens.
pub fn tokens(
    tokenizer: &Tokenizer,
    context: &str,
    continuation: &str,
    most: usize,
) -> Result<Scored, String> {
    let encode =
        |text: &str| tokenizer.encode_as_configured(text).map_err(|error| error.to_string());
    let (mut tokens, before) = if context.is_empty() {
        let own = tokenizer.encode_with_control(continuation).map_err(|error| error.to_string())?;
        let begin = (own.first() != Some(&tokenizer.bos())).then_some(tokenizer.bos());
        (begin.into_iter().chain(own).collect::<Vec<u32>>(), 1)
    } else {
        let text = context.trim_end();
        let before = encode(text)?.len();
        (encode(&format!("{context}{continuation}"))?, before)
    };
    let scored = tokens.len().saturating_sub(before);
    if before == 0 {
        return Err("the context is white space only, expected text".to_owned());
    }
    if scored == 0 {
        return Err(format!("continuation {continuation:?} adds no token to its context"));
    }
    if scored > most {
        return Err(format!(
            "a choice of {scored} tokens, expected at most {most}, the model's context"
        ));
    }
    let cut = tokens.len().saturating_sub(most + 1);
    tokens.drain(..cut);
    Ok(Scored { tokens, scored, cut })
}
