//! Texts that submodels generated, in the folder of a model: nothing is generated twice.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use matformer_core::{Submodel, fs};
use serde::{Deserialize, Serialize};

use super::{Store, StoreKey};
use crate::{Error, Result};

/// Texts of one model under the same rules. What is generated at once is a file of its own, as in [`Store`].
#[derive(Debug)]
pub struct Texts {
    folder: PathBuf,
    known: HashMap<Place, String>,
    unreadable: Vec<PathBuf>,
    not_kept: Option<Error>,
}

/// Widths of a submodel, and the prompt.
type Place = (Vec<usize>, Vec<u32>);

/// A file, and how it is told from others.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Widths of the submodel.
    widths: Vec<usize>,
    texts: Vec<Generated>,
}

/// A text that was generated.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generated {
    /// Tokens of the prompt.
    pub prompt: Vec<u32>,
    /// What follows it.
    pub text: String,
}

impl Texts {
    /// What a model folder has; the data of the key is how texts are generated.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(model: &Path, key: &StoreKey<'_>) -> Result<Self> {
        let folder = Store::folder_of(model, key);
        let (mut known, mut unreadable) = (HashMap::new(), Vec::new());
        for path in if folder.exists() { fs::read_dir(&folder)? } else { Vec::new() } {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let Ok(File { widths, texts }) = serde_json::from_slice(&fs::read(&path)?) else {
                unreadable.push(path);
                continue;
            };
            for Generated { prompt, text } in texts {
                known.insert((widths.clone(), prompt), text);
            }
        }
        Ok(Self { folder, known, unreadable, not_kept: None })
    }

    /// What a submodel generated after a prompt.
    pub fn get(&self, submodel: &Submodel, prompt: &[u32]) -> Option<&str> {
        let place = (submodel.widths().to_vec(), prompt.to_vec());
        self.known.get(&place).map(String::as_str)
    }

    /// Keeps what a submodel generated.
    ///
    /// # Errors
    /// When it is no JSON; what cannot be written is told by [`Texts::not_kept`].
    pub fn keep(&mut self, submodel: &Submodel, texts: Vec<Generated>) -> Result<()> {
        let file = File { widths: submodel.widths().to_vec(), texts };
        let bytes = serde_json::to_vec(&file);
        let bytes = bytes.map_err(|error| Error::Store { message: error.to_string() })?;
        if self.not_kept.is_none() {
            let name = format!("{}.json", &fs::sha256_bytes(&bytes)[..16]);
            let written = fs::create_dir_all(&self.folder)
                .and_then(|()| fs::write_atomic(self.folder.join(name), &bytes));
            self.not_kept = written.err().map(Into::into);
        }
        for Generated { prompt, text } in file.texts {
            self.known.insert((file.widths.clone(), prompt), text);
        }
        Ok(())
    }

    /// Files of the folder that are damaged: what they may have held is generated again.
    pub fn unreadable(&self) -> &[PathBuf] {
        &self.unreadable
    }

    /// Why what was generated now is not in the folder, if it is not.
    pub fn not_kept(&self) -> Option<&Error> {
        self.not_kept.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_for_their_submodel_and_prompt() {
        let folder = tempfile::tempdir().unwrap();
        let key = StoreKey { weights: "w", data: "until .", context: None };
        let (small, large) = (Submodel::uniform(4, 2), Submodel::uniform(8, 2));
        let mut texts = Texts::open(folder.path(), &key).unwrap();
        let generated = |text: &str| Generated { prompt: vec![1, 2], text: text.to_owned() };
        texts.keep(&small, vec![generated("a")]).unwrap();
        texts.keep(&large, vec![generated("b")]).unwrap();

        let texts = Texts::open(folder.path(), &key).unwrap();
        let get = |submodel| texts.get(submodel, &[1, 2]);
        assert_eq!((get(&small), get(&large)), (Some("a"), Some("b")));
        assert_eq!(
            (texts.get(&small, &[1]), texts.get(&Submodel::uniform(6, 2), &[1, 2])),
            (None, None)
        );
        let other = StoreKey { data: "until ,", ..key.clone() };
        assert_eq!(Texts::open(folder.path(), &other).unwrap().get(&small, &[1, 2]), None);

        // A damaged file is passed over.
        for path in fs::read_dir(Store::folder_of(folder.path(), &key)).unwrap() {
            std::fs::write(path, "{\"widths\": [4, 4]").unwrap();
        }
        let texts = Texts::open(folder.path(), &key).unwrap();
        assert_eq!((texts.unreadable().len(), texts.get(&small, &[1, 2])), (2, None));
    }
}
