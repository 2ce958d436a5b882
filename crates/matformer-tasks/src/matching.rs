//! When a generated text is one of the answers.

use fancy_regex::Regex;

/// What is left out of texts before they are compared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matching {
    pub ignored: Vec<Regex>,
    pub ignore_case: bool,
    pub ignore_punctuation: bool,
    pub ignore_numbers: bool,
}

impl Matching {
    /// Whether `text` is one of the answers.
    pub fn is_match(&self, text: &str, answers: &[String]) -> bool {
        let text = self.reduced(text);
        answers.iter().any(|answer| self.reduced(answer) == text)
    }

    fn reduced(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for regex in &self.ignored {
            text = regex.replace_all(&text, "").into_owned();
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        text
    }
}

/// White space as Python has it: also the separators of files, groups, records and units.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `len(re.split(r"\s+", text))`: the runs of white space, and one.
pub(crate) fn words(text: &str) -> usize {
    let spaces: Vec<bool> = text.chars().map(is_space).collect();
    1 + spaces.chunk_by(|a, b| a == b).filter(|run| run[0]).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_no_difference() {
        let plain = Matching::default();
        let answers = ["The Eiffel Tower!".to_owned(), "Paris 7".to_owned()];
        assert!(plain.is_match("Paris 7", &answers));
        assert!(!plain.is_match("paris 7", &answers) && !plain.is_match(" Paris 7", &answers));
        let loose = Matching {
            ignored: vec![Regex::new("\\b(?:The |the )").unwrap()],
            ignore_case: true,
            ignore_punctuation: true,
            ignore_numbers: true,
        };
        assert!(loose.is_match("EIFFEL tower", &answers));
        assert!(loose.is_match("paris 12", &answers), "numbers do not count");
        assert!(!loose.is_match("Eiffel", &answers));
    }

    /// As Python prints them.
    #[test]
    fn words_are_counted_as_in_python() {
        let of = ["", " ", "a", " a", "a b", "a \n\t b ", "a\u{1f}b\u{a0}c"].map(words);
        assert_eq!(of, [1, 2, 1, 2, 2, 3, 3]);
    }
}
