//! Another search, of another model on the same data, that this one is compared with.

use std::{collections::BTreeMap, path::Path};

use matformer_core::fs;
use matformer_eval::{DocumentLoss, Estimate, Evaluation, Found, stats};
use matformer_run::{Hinted, OrBadInput, Result};
use serde::Deserialize;

/// What of its output is compared.
#[derive(Deserialize)]
struct Printed {
    found: Vec<Winner>,
    per_document: BTreeMap<String, Vec<(f64, usize)>>,
    clusters: Option<Vec<Option<usize>>>,
}

#[derive(Deserialize)]
struct Winner {
    method: String,
    winner: String,
}

/// The losses of another search's Mix'n'Match submodel on the half that judges.
pub struct Other(Vec<DocumentLoss>);

impl Other {
    /// Reads what `search --json --per-document` printed.
    ///
    /// # Errors
    /// When the file is something else, or lacks Mix'n'Match.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |found: String| Hinted {
            message: format!("{}: {found}", path.display()),
            hint: "expected what `matformer search --json --per-document --method mix,…` prints"
                .to_owned(),
        };
        let bytes = fs::read(path).bad_input()?;
        let mut printed: Printed =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let mix = printed.found.iter().find(|found| found.method == "mix");
        let documents = mix.and_then(|mix| printed.per_document.remove(&mix.winner));
        let documents = documents.ok_or_else(|| wrong("no losses of `mix`".to_owned()))?;
        let clusters = printed.clusters.unwrap_or_else(|| vec![None; documents.len()]);
        let of = |((nats, tokens), cluster)| DocumentLoss {
            nats,
            tokens,
            cluster,
            ..DocumentLoss::default()
        };
        Ok(Self(documents.into_iter().zip(clusters).map(of).collect()))
    }

    /// How far each method's winner is above it, paired by document.
    ///
    /// # Errors
    /// When the documents are not the same.
    pub fn above(
        &self,
        found: &[Found],
        losses: &Evaluation,
    ) -> Result<BTreeMap<String, Estimate>> {
        let of = |found: &Found| {
            let ours = losses.losses(&found.outcome.widths)?;
            Ok((found.outcome.method.clone(), stats::difference(ours, &self.0).bad_input()?))
        };
        found.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_losses_of_mix_are_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("other.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Other::read(&path)
        };
        let found = r#""found": [{ "method": "mix", "winner": "S", "a": 1.0 }]"#;
        let losses = r#""per_document": { "S": [[2.0, 1], [3.0, 2]] }, "clusters": [1, null]"#;
        let other = read(&format!("{{ {found}, {losses} }}")).unwrap();
        assert_eq!((other.0[1].nats, other.0[1].tokens, other.0[0].cluster), (3.0, 2, Some(1)));
        let without = read(&format!("{{ {found} }}")).err().unwrap().to_string();
        assert!(without.contains("per_document"), "{without}");
        let other = read(r#"{ "found": [], "per_document": {} }"#).err().unwrap().to_string();
        assert!(other.ends_with("no losses of `mix`"), "{other}");
    }
}
