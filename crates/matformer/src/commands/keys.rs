//! `matformer keys`: the keys of run files.

use std::process::ExitCode;

use anyhow::Result;
use matformer::run_file::keys::{KEYS, Key};
use serde::Serialize;

use super::print_json;
use crate::{
    args::KeysArgs,
    failure::{Hinted, OrBadInput},
    output::out,
};

/// An entry of `keys --json`: stable.
#[derive(Serialize)]
struct Listed {
    key: &'static str,
    /// `text` or `images`; `null` for a key of both.
    kind: Option<&'static str>,
    value: String,
    /// As TOML; `null` where the key is absent by default.
    default: Option<String>,
    example: Option<&'static str>,
    about: &'static str,
}

impl From<&Key> for Listed {
    fn from(key: &Key) -> Self {
        Self {
            key: key.path,
            kind: key.kind.map(|kind| kind.called().data),
            value: key.value.name(),
            default: key.default(),
            example: key.example,
            about: key.about,
        }
    }
}

pub fn run(args: &KeysArgs, json: bool) -> Result<ExitCode> {
    let part = args.key.as_deref().unwrap_or_default();
    let kind = args.kind;
    let asked = |key: &&Key| key.path.contains(part) && kind.is_none_or(|kind| key.is_of(kind));
    let keys: Vec<&Key> = KEYS.iter().filter(asked).collect();
    if keys.is_empty() {
        return Err(Hinted {
            message: format!("no key has `{part}` in its name"),
            hint: "`matformer keys` lists all".to_owned(),
        })
        .bad_input();
    }
    if json {
        return print_json(&keys.into_iter().map(Listed::from).collect::<Vec<_>>());
    }
    let mut above = "";
    for key in keys {
        let (table, own) = key.parts();
        if table != above {
            let gap = if above.is_empty() { "" } else { "\n" };
            out!("{gap}[{table}]")?;
            above = table;
        }
        let of = key.kind.map_or(String::new(), |kind| format!(" ({} only)", kind.called().data));
        let line = match (key.default(), key.example) {
            (Some(default), _) => format!("{own} = {default}"),
            (None, Some(example)) => format!("# {own} = {example}"),
            (None, None) => format!("# {own}"),
        };
        out!("{line}\n    {}: {}{of}", key.value.name(), key.about)?;
    }
    Ok(ExitCode::SUCCESS)
}
