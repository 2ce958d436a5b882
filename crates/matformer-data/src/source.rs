//! Where text or a tokenizer comes from, as a person writes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::{Error, Hash, Result};

/// What stands in front of a hub name.
const HUB: &str = "hf:";
/// What stands in front of the name of a source that is fetched.
const FETCHED: &str = "fetch:";

/// An entry of `data.paths`, or `data.tokenizer`: a path, `hf:` and the name of a repository, or
/// `fetch:` and the name of a source.
///
/// `FromStr` and `Display` are inverse to each other for all but [`Source::Folder`], which nobody
/// writes; a path that begins like a name is written `./hf:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or a folder.
    Path(PathBuf),
    /// A repository of the Hugging Face Hub, or a part of one.
    Hub(HubName),
    /// A named source, `NAME` or `NAME/PART`. It is not read: whoever knows the name puts folders in
    /// its place.
    Fetched(String),
    /// A folder that stands for a name.
    Folder(Folder),
}

/// A folder of files that are called otherwise than it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub dir: PathBuf,
    /// What stands in front of the names of its documents.
    pub name: String,
    /// The cluster of its documents, if they are not independent of each other
    /// ([`DocumentSpan`](crate::DocumentSpan)).
    pub cluster: Option<String>,
    /// A hash of what its files hold, where it is known beforehand: what was prepared of them is found
    /// without looking at them.
    pub pinned: Option<Hash>,
}

/// `owner/name`, `owner/name@revision`, `owner/name:path/in/it`: a repository of the Hugging Face
/// Hub, or a file or folder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// `owner/name`.
    pub repository: String,
    /// Branch, tag or commit; the branch `main` where none is given.
    pub revision: Option<String>,
    /// A file or a folder in the repository; all of it where none is given.
    pub path: Option<String>,
}

impl HubName {
    /// The revision that is read.
    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// `path` as the name of a whole repository, if it can be one: `owner/name`.
    pub(crate) fn from_path(path: &Path) -> Option<Self> {
        let text = path.to_str().filter(|text| !text.ends_with(".json"))?;
        let name: Self = text.parse().ok()?;
        (name.revision.is_none() && name.path.is_none()).then_some(name)
    }
}

impl FromStr for HubName {
    type Err = Error;

    /// Reads the name without the `hf:` in front.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::HubName { found: text.into() };
        let (repository, path) = match text.split_once(':') {
            Some((repository, path)) => (repository, Some(path.trim_end_matches('/'))),
            None => (text, None),
        };
        let (repository, revision) = match repository.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (repository, None),
        };
        let (owner, name) = repository.split_once('/').ok_or_else(wrong)?;
        let parts = [owner, name];
        let inside = revision.into_iter().chain(path).flat_map(|text| text.split('/'));
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good = parts.iter().all(|part| part.chars().all(letter))
            && parts.into_iter().chain(inside).all(is_plain);
        if !good {
            return Err(wrong());
        }
        Ok(Self {
            repository: repository.into(),
            revision: revision.map(Into::into),
            path: path.map(Into::into),
        })
    }
}

/// Whether a part of a path is a name that stays inside its folder.
fn is_plain(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0'])
}

/// Whether a path of a repository stays inside it.
pub(crate) fn is_inside(path: &str) -> bool {
    path.split('/').all(is_plain)
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(path) = &self.path {
            write!(f, ":{path}")?;
        }
        Ok(())
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(name) = text.strip_prefix(HUB) {
            return Ok(Self::Hub(name.parse()?));
        }
        match text.strip_prefix(FETCHED) {
            Some(name) if name.split('/').count() > 2 || !is_inside(name) => {
                Err(Error::SourceName { found: name.into() })
            }
            Some(name) => Ok(Self::Fetched(name.into())),
            None if text.is_empty() => Err(Error::EmptySource),
            None => Ok(Self::Path(text.into())),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(name) => write!(f, "{HUB}{name}"),
            Self::Fetched(name) => write!(f, "{FETCHED}{name}"),
            Self::Folder(Folder { dir: path, .. }) | Self::Path(path) => {
                let path = path.display().to_string();
                let named = path.starts_with(HUB) || path.starts_with(FETCHED);
                let here = if named { "./" } else { "" };
                write!(f, "{here}{path}")
            }
        }
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::Path(path.into())
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a list of sources; a single one gets an error that shows a list.
pub(crate) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Source>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<Source>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list, such as [\"my.jsonl\", \"texts\"]")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(entry) = entries.next_element()? {
                list.push(entry);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_any(List)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hub(text: &str) -> HubName {
        match text.parse().unwrap() {
            Source::Hub(name) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_have_a_repository_a_revision_and_a_path() {
        let whole = hub("hf:owner/some.name_2");
        assert_eq!((whole.repository.as_str(), whole.revision()), ("owner/some.name_2", "main"));
        assert_eq!(whole.path, None);
        let part = hub("hf:o/n@refs/convert/parquet:default/train/");
        assert_eq!(part.revision(), "refs/convert/parquet");
        assert_eq!(part.path.as_deref(), Some("default/train"));
        assert_eq!(hub("hf:o/n:a:b.jsonl").path.as_deref(), Some("a:b.jsonl"));
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in [
            "hf:",
            "hf:name",
            "hf:a/b/c",
            "hf:/b",
            "hf:a/",
            "hf:a/..",
            "hf:a b/c",
            "hf:a/b@",
            "hf:a/b:",
            "hf:a/b:../c",
            "hf:a/b:/c",
            "hf:a/b:c//d",
            "hf:a/b:c\\d",
            "hf:a/b@..:c",
            "hf:ä/b",
        ] {
            let error = text.parse::<Source>().unwrap_err();
            assert!(matches!(error, Error::HubName { .. }), "{text}: {error:?}");
        }
        assert!(matches!("".parse::<Source>(), Err(Error::EmptySource)));
        for text in ["fetch:", "fetch:a/b/c", "fetch:a/", "fetch:.."] {
            assert!(matches!(text.parse::<Source>(), Err(Error::SourceName { .. })), "{text}");
        }
        for name in ["prose", "prose/shakespeare"] {
            let found = format!("fetch:{name}").parse::<Source>().unwrap();
            assert_eq!(found, Source::Fetched(name.into()));
        }
    }

    #[test]
    fn a_path_may_be_the_name_of_a_repository() {
        let name = |path: &str| HubName::from_path(Path::new(path)).map(|name| name.repository);
        assert_eq!(name("owner/name").as_deref(), Some("owner/name"));
        for path in
            ["name", "/owner/name", "a/b/c", "./name", "a/b:c", "a/b@c", "run/tokenizer.json"]
        {
            assert_eq!(name(path), None, "{path}");
        }
    }

    #[test]
    fn a_single_source_is_no_list() {
        #[derive(Debug, serde::Deserialize)]
        struct Table {
            #[serde(deserialize_with = "list")]
            paths: Vec<Source>,
        }
        let message = |text: &str| toml::from_str::<Table>(text).unwrap_err().message().to_owned();
        assert_eq!(
            message("paths = \"my.jsonl\""),
            "invalid type: string \"my.jsonl\", expected a list, such as [\"my.jsonl\", \"texts\"]"
        );
        assert!(message("paths = [3]").contains("integer `3`"));
        assert!(message("paths = [\"hf:x\"]").contains("`hf:x`"));
        let table: Table = toml::from_str("paths = [\"a\", \"hf:b/c\"]").unwrap();
        assert_eq!(table.paths, [Source::Path("a".into()), Source::Hub("b/c".parse().unwrap())]);
    }

    proptest! {
        #[test]
        fn text_comes_back(text in "(hf:|fetch:|\\./)?[a-c:@/._-]{0,12}") {
            if let Ok(source) = text.parse::<Source>() {
                prop_assert_eq!(source.to_string().parse::<Source>().unwrap(), source);
            }
        }

        #[test]
        fn paths_come_back(text in "(hf:|fetch:)?[a-c:@/._-]{1,12}") {
            let source = Source::from(Path::new(&text));
            let back: Source = source.to_string().parse().unwrap();
            let Source::Path(path) = back else { panic!("{source}") };
            prop_assert!(path == Path::new(&text) || path == Path::new(".").join(&text));
        }
    }
}
