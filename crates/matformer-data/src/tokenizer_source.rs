//! Where the tokenizer that `data.tokenizer` names is.

use std::path::{Path, PathBuf};

use crate::hub::{self, Hub};
use crate::progress::Progress;
use crate::source::{HubName, Source};
use crate::special::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::{CHAT_TEMPLATE_FILE, Error, Result};

/// The `tokenizer.json` that `source` names: the file, the one in the folder, or that of a model on
/// the hub, which is downloaded with its configuration beside it.
///
/// # Errors
/// [`Error::NoTokenizer`] says what was tried; for a hub name, as [`Hub::files`].
pub(crate) fn locate(
    source: &Source,
    hub: &dyn Fn() -> Result<Hub>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf> {
    let path = match source {
        Source::Path(path) => path,
        Source::Hub(name) => return of_hub(&hub()?, name, progress),
        Source::Folder(_) | Source::Fetched(_) => {
            let tried = vec!["sources hold text alone".into()];
            return Err(Error::NoTokenizer { found: source.to_string(), tried });
        }
    };
    let inside = path.join(TOKENIZER_FILE);
    if path.is_file() {
        return Ok(path.clone());
    }
    if inside.is_file() {
        return Ok(inside);
    }
    let quoted = |path: &Path| format!("`{}`", path.display());
    let mut tried = Vec::new();
    if !path.is_dir() {
        tried.push(quoted(path));
    }
    if path.extension().is_none_or(|suffix| suffix != "json") {
        tried.push(quoted(&inside));
    }
    if let Some(name) = HubName::from_path(path).filter(|_| !path.exists()) {
        match hub().and_then(|hub| of_hub(&hub, &name, progress)) {
            Ok(path) => return Ok(path),
            Err(error) => tried.push(format!("the hub ({error})")),
        }
    }
    Err(Error::NoTokenizer { found: source.to_string(), tried })
}

/// The tokenizer of a model on the hub, or the one that `name` says lies at a path in it.
fn of_hub(hub: &Hub, name: &HubName, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    let folder = match name.path.as_deref() {
        Some(path) => path.strip_suffix(TOKENIZER_FILE).unwrap_or(path).trim_end_matches('/'),
        None => "",
    };
    let at = |file: &str| match folder {
        "" => file.to_owned(),
        folder => format!("{folder}/{file}"),
    };
    let tokenizer = at(TOKENIZER_FILE);
    let wanted = [tokenizer.clone(), at(TOKENIZER_CONFIG_FILE), at(CHAT_TEMPLATE_FILE)];
    let whole = HubName { path: None, ..name.clone() };
    let mut keep = |files: &mut Vec<String>| files.retain(|file| wanted.contains(file));
    let none = || Error::NoTokenizer {
        found: Source::Hub(name.clone()).to_string(),
        tried: vec![format!("`{tokenizer}` in the repository")],
    };
    let files = match hub.files(hub::Kind::Model, &whole, &mut keep, progress) {
        Err(Error::NoHubFile { .. }) => return Err(none()),
        files => files?,
    };
    let found = files.into_iter().find(|file| file.inside == tokenizer);
    found.map(|file| file.path).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks up what `text` names; the hub is offline, its cache empty.
    fn found(text: &str) -> Result<PathBuf> {
        let cache = tempfile::tempdir().unwrap();
        let (cache_dir, patience) = (cache.path().into(), hub::PATIENCE);
        let hub = Hub { cache: cache_dir, endpoint: None, token: None, offline: true, patience };
        locate(&text.parse().unwrap(), &|| Ok(hub.clone()), &mut |_| {})
    }

    #[test]
    fn a_file_or_the_folder_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(TOKENIZER_FILE);
        std::fs::write(&file, "{}").unwrap();
        let other = folder.path().join("other.json");
        std::fs::write(&other, "{}").unwrap();
        assert_eq!(found(&folder.path().display().to_string()).unwrap(), file);
        assert_eq!(found(&file.display().to_string()).unwrap(), file);
        assert_eq!(found(&other.display().to_string()).unwrap(), other);
    }

    #[test]
    fn what_is_not_there_says_what_was_tried() {
        assert_eq!(
            found("no/such/folder").unwrap_err().to_string(),
            "no tokenizer at `no/such/folder`; tried: `no/such/folder`, \
             `no/such/folder/tokenizer.json`"
        );
        let said = found("owner/name").unwrap_err().to_string();
        assert!(
            said.contains("`owner/name/tokenizer.json`, the hub (`hf:owner/name` is not"),
            "{said}"
        );
        let folder = tempfile::tempdir().unwrap();
        let said = found(&folder.path().display().to_string()).unwrap_err().to_string();
        assert_eq!(said.matches("tried: ").count(), 1);
        assert!(said.ends_with("/tokenizer.json`"), "{said}");
        assert!(matches!(found("hf:owner/name"), Err(Error::Offline { .. })));
    }

    #[test]
    fn a_model_on_the_hub() {
        let tokenizer = br#"{"model": {}}"#;
        let files: [(&str, &[u8]); 4] = [
            ("model.safetensors", b"x"),
            ("tokenizer.json", tokenizer),
            ("tokenizer_config.json", b"{}"),
            ("sub/tokenizer.json", b"{}"),
        ];
        let server = crate::hub::tests::server::HubServer::start("owner/name", &files);
        let cache = tempfile::tempdir().unwrap();
        let endpoint = Some(server.endpoint.clone());
        let (cache_dir, patience) = (cache.path().into(), hub::PATIENCE);
        let hub = Hub { cache: cache_dir, endpoint, token: None, offline: false, patience };
        let found = |text: &str| locate(&text.parse().unwrap(), &|| Ok(hub.clone()), &mut |_| {});
        for text in ["hf:owner/name", "owner/name", "hf:owner/name:tokenizer.json"] {
            let path = found(text).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), tokenizer, "{text}");
            assert!(path.with_file_name(TOKENIZER_CONFIG_FILE).is_file());
            assert!(!path.with_file_name("model.safetensors").exists());
        }
        for text in ["hf:owner/name:sub", "hf:owner/name:sub/tokenizer.json"] {
            assert_eq!(std::fs::read(found(text).unwrap()).unwrap(), b"{}", "{text}");
        }
        let said = found("hf:owner/name:more").unwrap_err().to_string();
        assert_eq!(
            said,
            "no tokenizer at `hf:owner/name:more`; tried: `more/tokenizer.json` in the repository"
        );
    }
}
