//! What is lost between a text and its tokens.

use serde::{Deserialize, Serialize};

use crate::Document;

/// Text that a tokenizer does not give back as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Documents that come back otherwise.
    pub documents: usize,
    /// Bytes of them that do not come back, or bytes that come in addition if these are more.
    pub bytes: usize,
    /// The name of the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

impl Lost {
    /// Compares a document with what its tokens give.
    pub(crate) fn compare(&mut self, document: &Document, decoded: &str) {
        if document.text == decoded {
            return;
        }
        // By how often each byte occurs: whatever else a tokenizer does, it keeps the order.
        let mut missing = [0_i64; 256];
        document.text.bytes().for_each(|byte| missing[usize::from(byte)] += 1);
        decoded.bytes().for_each(|byte| missing[usize::from(byte)] -= 1);
        let sum = |sign: i64| missing.iter().map(|count| (sign * count).max(0)).sum::<i64>();
        self.bytes += sum(1).max(sum(-1)) as usize;
        self.documents += 1;
        self.first.get_or_insert_with(|| document.name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_missing_or_added_are_counted() {
        let lost = |text: &str, decoded: &str| {
            let mut lost = Lost::default();
            lost.compare(&Document { name: "a".into(), text: text.into(), cluster: None }, decoded);
            (lost.documents, lost.bytes)
        };
        assert_eq!(lost("same", "same"), (0, 0));
        assert_eq!(lost("AbC", "abc"), (1, 2));
        assert_eq!(lost("e\u{301}", "é"), (1, 3), "composed");
        assert_eq!(lost("a ❄ b", "a <unk> b"), (1, 5), "what stands for it is longer");
        assert_eq!(lost("a  b", "a b"), (1, 1));
    }
}
