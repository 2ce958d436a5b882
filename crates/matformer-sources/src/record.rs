//! What a source in the cache is.

use std::path::Path;

use matformer_core::fs;
use matformer_data::Hash;
use serde::{Deserialize, Serialize};

use crate::fetch::home;
use crate::{Content, Source, Sources};

const FORMAT_VERSION: u32 = 1;
pub(crate) const RECORD: &str = "source.json";

/// What a source in the cache is: `source.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the folder's format.
    pub format_version: u32,
    /// The source's name.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// What it holds; left out where that is text.
    #[serde(default, skip_serializing_if = "Content::is_text")]
    pub content: Content,
    /// Its parts, each a folder of this name.
    pub parts: Vec<PartRecord>,
}

/// What a part of a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRecord {
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// The licence of the texts, images or model.
    pub licence: String,
    /// The page where they are from.
    pub origin: String,
    /// SHA-256 of the files that they were made of.
    pub sha256: Hash,
    /// SHA-256 of the texts, images or model.
    pub text_sha256: Hash,
    /// How many files they are.
    pub files: usize,
    /// Bytes in them.
    pub bytes: usize,
}

impl Record {
    /// What `source` is, by the table.
    pub fn of(sources: &Sources, source: &Source) -> Self {
        let parts = sources.parts(source).map(|part| PartRecord {
            name: part.name.clone(),
            title: part.title.clone(),
            licence: part.licence.clone(),
            origin: part.origin.clone(),
            sha256: part.sha256,
            text_sha256: part.text_sha256,
            files: part.files,
            bytes: part.bytes,
        });
        Self {
            format_version: FORMAT_VERSION,
            name: source.name.clone(),
            title: source.title.clone(),
            content: sources.content(source),
            parts: parts.collect(),
        }
    }

    /// Bytes in all files.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.parts.iter().map(|part| part.files).sum()
    }

    /// Whether the cache has this very source; its files are not looked at.
    pub fn is_cached(&self, cache: &Path) -> bool {
        let path = home(cache).join(&self.name).join(RECORD);
        let there = fs::read(path).ok().and_then(|json| serde_json::from_slice(&json).ok());
        there.as_ref() == Some(self)
    }
}
