//! From the files of a package to those of a part: texts, images, a model or evaluation sets.

mod emoji;
mod markup;
mod rdata;
mod ztext;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Files;

/// What a source holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Texts, one a file.
    #[default]
    Text,
    /// Images, each in a folder that is its class, or tables of images and classes.
    Images,
    /// A model in one file.
    Model,
    /// Rows of evaluation sets, each set in a folder of its name.
    Sets,
}

impl Content {
    /// The folder of the files in that of the source.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Images => "images",
            Self::Model => "model",
            Self::Sets => "sets",
        }
    }

    /// Several of them, in a message.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Text => "texts",
            Self::Images => "images",
            Self::Model => "model files",
            Self::Sets => "sets",
        }
    }

    /// Whether it is text, which is what a record that says nothing holds.
    pub(super) fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Images => "images",
            Self::Model => "a model",
            Self::Sets => "evaluation sets",
        })
    }
}

/// How the files of a package become those of a part.
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
    /// They are images, or tables of images (IDX), and stay as they are.
    Images,
    /// A package `emoji-datasource-STYLE`, a folder of images per subcategory.
    Emoji,
    /// The one file is a model, and stays as it is.
    Model,
    /// They are rows of evaluation sets, and stay as they are.
    Sets,
}

impl Decoder {
    /// What it makes.
    pub fn content(self) -> Content {
        match self {
            Self::AsTheyAre | Self::SwordBooks | Self::SwordChapters | Self::RStrings => {
                Content::Text
            }
            Self::Images | Self::Emoji => Content::Images,
            Self::Model => Content::Model,
            Self::Sets => Content::Sets,
        }
    }

    /// The texts, images or model in `files`.
    ///
    /// # Errors
    /// The reason: files that are missing or damaged, text that is not UTF-8.
    pub(super) fn decode(self, files: Files) -> Result<Files, String> {
        match self {
            Self::AsTheyAre => as_they_are(files),
            Self::SwordBooks => ztext::decode(&files, markup::cut_at_books),
            Self::SwordChapters => ztext::decode(&files, markup::cut_at_chapters),
            Self::RStrings => rdata::decode(&files),
            Self::Images | Self::Model | Self::Sets => Ok(files),
            Self::Emoji => emoji::decode(files),
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
    fn images_and_models_are_taken_as_they_are() {
        let mut files = Files::default();
        files.add("a.png".into(), b"\x89PNG".to_vec()).unwrap();
        assert_eq!(Decoder::Images.decode(files.clone()).unwrap(), files);
        assert_eq!(Decoder::Model.decode(files.clone()).unwrap(), files);
        assert_eq!(Decoder::Images.content().to_string(), "images");
        assert_eq!(Decoder::Model.content().to_string(), "a model");
        assert_eq!(Decoder::default().content(), Content::Text);
    }

    #[test]
    fn names_are_safe() {
        assert_eq!(file_name(7, "Ps.119"), "007-ps-119.txt");
        assert_eq!(file_name(12, "  PRIDE and Prejudice! "), "012-pride-and-prejudice.txt");
        assert_eq!(file_name(0, "../é"), "000.txt");
    }
}
