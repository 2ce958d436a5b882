//! YAML with the line of every value.

use std::path::{Path, PathBuf};

use matformer_core::fs;
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use crate::{Error, Result};

/// A value and where it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// The file it is in: with `include`, not always the task's own.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Map),
    /// `!function module.name`.
    Function(String),
}

pub(crate) type Map = Vec<(String, Node)>;

/// The mapping in a file, with those of the files that it includes below it.
pub(crate) fn read(path: &Path) -> Result<Map> {
    let (mut map, mut include) = own(path)?;
    let mut files = vec![path.to_owned()];
    while let Some(node) = include {
        let folder = node.path.parent().unwrap_or(Path::new(""));
        let file = folder.join(node.text("include")?);
        let canonical = |file: &Path| file.canonicalize().unwrap_or_else(|_| file.to_owned());
        // Also a file that includes one that includes it.
        if files.iter().any(|read| canonical(read) == canonical(&file)) {
            return Err(node.wrong("include", "a file that does not include this one"));
        }
        let (below, next) = own(&file)?;
        for (key, node) in below {
            if map.iter().all(|(other, _)| *other != key) {
                map.push((key, node));
            }
        }
        files.push(file);
        include = next;
    }
    Ok(map)
}

/// The mapping in a file without what it includes, and what that is.
fn own(path: &Path) -> Result<(Map, Option<Node>)> {
    let mut map = parse(path, &fs::read_to_string(path)?)?;
    let at = map.iter().position(|(key, _)| key == "include");
    let include = at.map(|at| map.remove(at).1);
    Ok((map, include))
}

/// The mapping in a text, which is in a file.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Map> {
    let wrong = |line, reason: String| Error::Yaml { path: path.to_owned(), line, reason };
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|error| wrong(error.marker().line(), error.info().to_owned()))?;
    let [document] = &documents[..] else {
        return Err(wrong(1, format!("{} documents, expected one", documents.len())));
    };
    match node(path, document)?.value {
        Value::Map(map) => Ok(map),
        _ => Err(wrong(document.span.start.line(), "expected keys with values".to_owned())),
    }
}

fn node(path: &Path, yaml: &MarkedYaml<'_>) -> Result<Node> {
    let line = yaml.span.start.line();
    let wrong =
        |reason: &str| Error::Yaml { path: path.to_owned(), line, reason: reason.to_owned() };
    let value = match &yaml.data {
        YamlData::Value(scalar) => self::scalar(scalar),
        YamlData::Sequence(items) => {
            Value::List(items.iter().map(|item| node(path, item)).collect::<Result<_>>()?)
        }
        YamlData::Mapping(pairs) => {
            let pair = |(key, value): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
                let YamlData::Value(key) = &key.data else {
                    return Err(wrong("a key that is no text"));
                };
                Ok((self::scalar(key).text(), node(path, value)?))
            };
            Value::Map(pairs.iter().map(pair).collect::<Result<_>>()?)
        }
        YamlData::Tagged(tag, inner) if tag.suffix == "function" => {
            Value::Function(node(path, inner)?.value.text())
        }
        YamlData::Tagged(tag, _) => return Err(wrong(&format!("unknown tag `!{}`", tag.suffix))),
        _ => return Err(wrong("a value that cannot be read")),
    };
    Ok(Node { path: path.to_owned(), line, value })
}

fn scalar(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::Bool(*value),
        Scalar::Integer(value) => Value::Int(*value),
        Scalar::FloatingPoint(value) => Value::Float(value.into_inner()),
        Scalar::String(text) => Value::Text(text.clone().into_owned()),
    }
}

impl Value {
    /// As an error shows it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Map(pairs) => format!("a mapping of {} keys", pairs.len()),
            Self::Function(name) => format!("!function {name}"),
        }
    }
}

impl Node {
    /// The error of this value under `key`.
    pub(crate) fn wrong(&self, key: &str, expected: &str) -> Error {
        Error::Key {
            path: self.path.clone(),
            line: self.line,
            key: key.to_owned(),
            found: format!("`{}`", self.value.text()),
            expected: expected.to_owned(),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<String> {
        match &self.value {
            Value::Text(text) => Ok(text.clone()),
            Value::Function(_) => {
                Err(self.wrong(key, "a value or a template: Python functions are not run"))
            }
            _ => Err(self.wrong(key, "text")),
        }
    }

    pub(crate) fn map(&self, key: &str) -> Result<&Map> {
        match &self.value {
            Value::Map(map) => Ok(map),
            _ => Err(self.wrong(key, "keys with values")),
        }
    }

    pub(crate) fn list(&self, key: &str) -> Result<&[Node]> {
        match &self.value {
            Value::List(items) => Ok(items),
            _ => Err(self.wrong(key, "a list")),
        }
    }

    pub(crate) fn count(&self, key: &str) -> Result<usize> {
        match self.value {
            Value::Int(value) => value.try_into().map_err(|_| self.wrong(key, "0 or more")),
            _ => Err(self.wrong(key, "a number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_include_each_other_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        write("a.yaml", "task: a\ninclude: b.yaml\n").unwrap();
        write("b.yaml", "include: c.yaml\n").unwrap();
        write("c.yaml", "description: c\n").unwrap();
        assert_eq!(read(&folder.path().join("a.yaml")).unwrap().len(), 2);

        write("c.yaml", "\ninclude: ./a.yaml\n").unwrap();
        let error = read(&folder.path().join("a.yaml")).unwrap_err().to_string();
        assert!(error.contains("c.yaml:2: `include`: found `./a.yaml`"), "{error}");
    }
}
