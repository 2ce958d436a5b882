//! What is lost between a text and its tokens.

use serde::{Deserialize, Serialize};

use crate::images::composed;

/// Text that a tokenizer does not give back as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Documents that come back otherwise.
    pub documents: usize,
    /// Bytes of them that do not come back, or bytes that come in addition if these are more.
    pub bytes: usize,
    /// Of these bytes, those of documents that come back in another normal form of Unicode: they say the
    /// same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub normalised: usize,
    /// The name of the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What one document loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LostBytes {
    bytes: usize,
    normalised: bool,
}

impl LostBytes {
    /// Compares a text with what its tokens give.
    pub(crate) fn between(text: &str, decoded: &str) -> Option<Self> {
        if text == decoded {
            return None;
        }
        // By how often each byte occurs: whatever else a tokenizer does, it keeps the order.
        let mut missing = [0_i64; 256];
        text.bytes().for_each(|byte| missing[usize::from(byte)] += 1);
        decoded.bytes().for_each(|byte| missing[usize::from(byte)] -= 1);
        let sum = |sign: i64| missing.iter().map(|count| (sign * count).max(0)).sum::<i64>();
        let bytes = sum(1).max(sum(-1)) as usize;
        Some(Self { bytes, normalised: composed(text) == composed(decoded) })
    }
}

impl Lost {
    /// Counts what the document `name` loses.
    pub(crate) fn add(&mut self, name: &str, lost: LostBytes) {
        self.bytes += lost.bytes;
        self.normalised += if lost.normalised { lost.bytes } else { 0 };
        self.documents += 1;
        self.first.get_or_insert_with(|| name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_missing_or_added_are_counted() {
        let lost = |text: &str, decoded: &str| {
            let mut lost = Lost::default();
            if let Some(bytes) = LostBytes::between(text, decoded) {
                lost.add("a", bytes);
            }
            assert_eq!(lost.normalised, if text == "e\u{301}" { lost.bytes } else { 0 });
            (lost.documents, lost.bytes)
        };
        assert_eq!(lost("same", "same"), (0, 0));
        assert_eq!(lost("AbC", "abc"), (1, 2));
        assert_eq!(lost("e\u{301}", "é"), (1, 3), "composed");
        assert_eq!(lost("a ❄ b", "a <unk> b"), (1, 5), "what stands for it is longer");
        assert_eq!(lost("a  b", "a b"), (1, 1));
    }
}
