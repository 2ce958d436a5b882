//! From the files of a package to text, where they are not text already.

mod markup;
mod rdata;
mod ztext;

use serde::Deserialize;

use super::Files;

/// How the files of a package become text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoder {
    /// They are text.
    #[default]
    AsTheyAre,
    /// A SWORD module, a document per book.
    SwordBooks,
    /// A SWORD module, a document per chapter.
    SwordChapters,
    /// An R database of character vectors, a document per vector.
    RStrings,
}

impl Decoder {
    /// The texts in `files`.
    ///
    /// # Errors
    /// The reason: files that are missing, damaged, or not UTF-8.
    pub(super) fn decode(self, files: Files) -> Result<Files, String> {
        match self {
            Self::AsTheyAre => as_they_are(files),
            Self::SwordBooks => ztext::decode(&files, markup::cut_at_books),
            Self::SwordChapters => ztext::decode(&files, markup::cut_at_chapters),
            Self::RStrings => rdata::decode(&files),
        }
    }
}

fn as_they_are(files: Files) -> Result<Files, String> {
    for (name, bytes) in files.iter() {
        std::str::from_utf8(bytes).map_err(|error| format!("`{name}`: {error}"))?;
    }
    Ok(files)
}

/// A running number and what a title has of letters and digits: `012-pride-and-prejudice.txt`.
fn file_name(number: usize, title: &str) -> String {
    let mut name = format!("{number:03}");
    for word in title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()) {
        name.push('-');
        name.push_str(&word.to_ascii_lowercase());
    }
    name + ".txt"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_taken_as_it_is_and_checked() {
        let mut files = Files::default();
        files.add("a.md".into(), "é".into()).unwrap();
        assert_eq!(Decoder::AsTheyAre.decode(files.clone()).unwrap(), files);
        files.add("b.md".into(), b"\xe9".to_vec()).unwrap();
        assert!(Decoder::AsTheyAre.decode(files).unwrap_err().starts_with("`b.md`: "));
    }

    #[test]
    fn names_are_safe() {
        assert_eq!(file_name(7, "Ps.119"), "007-ps-119.txt");
        assert_eq!(file_name(12, "  PRIDE and Prejudice! "), "012-pride-and-prejudice.txt");
        assert_eq!(file_name(0, "../é"), "000.txt");
    }
}
