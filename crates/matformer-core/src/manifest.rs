//! `matformer.json`: the manifest of a model folder.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Draw, Error, Granularities, Measurement, Result, Space, fs};

/// What a model folder says about itself in addition to its weights and configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this file's format: [`Manifest::VERSION`].
    pub format_version: u64,
    /// The kind of model: `matlm`, `matvit`.
    pub kind: String,
    /// Number of layers.
    pub n_layers: usize,
    /// Number of rows of the FFN matrices.
    pub d_ff: usize,
    /// Widths must be multiples of this.
    pub multiple: usize,
    /// The trained widths.
    pub granularities: Granularities,
    /// The objective of its training.
    pub objective: Draw,
    /// The origin of the weights.
    pub provenance: Provenance,
    /// SHA-256 of the weights in lowercase hexadecimal. Measurements refer to it.
    pub weights_sha256: String,
    /// SHA-256 of the `tokenizer.json` that belongs to the weights, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_sha256: Option<String>,
    /// What the model was cut out of another as, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<SliceFacts>,
    /// How the weights file holds numbers. It is read from that file, not written here.
    #[serde(skip)]
    pub dtype: Dtype,
}

/// Describes a slice in terms of its parent model. The hash of the parent's weights is [`parent`](Provenance::parent).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceFacts {
    /// The submodel's label there.
    pub submodel: String,
    /// Its widths, one per layer. A padded slice has wider layers.
    pub widths: Vec<usize>,
    /// The widths `w`, ascending, for which the slice with every layer limited to at most `w` was a trained submodel.
    /// Empty for a narrow slice of an imported model, which was trained at full width only. Absent in slices written by
    /// older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<Vec<usize>>,
    /// Measurements of this submodel in the parent: the latest for each metric and data set. Absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Vec<Measurement>>,
}

/// Data type of the numbers in a weights file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits each.
    #[default]
    F32,
    /// bfloat16: the upper 16 bits of an f32.
    Bf16,
    /// 16 bits as IEEE 754 has them.
    F16,
}

impl Dtype {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// What `config.json` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }
}

/// The origin of weights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of the program that wrote them.
    pub version: String,
    /// Random seed of the run.
    pub seed: u64,
    /// Number of optimizer steps.
    pub steps: u64,
    /// Number of training tokens (images for a vision model).
    pub tokens: u64,
    /// Hash of the training data.
    pub data_hash: String,
    /// Hash of the weights that these were made from, if there are any.
    #[serde(default)]
    pub parent: Option<String>,
}

impl Manifest {
    /// The file's name in a model folder.
    pub const FILE: &str = "matformer.json";
    /// The format version that this program reads and writes.
    pub const VERSION: u64 = 1;

    /// A manifest whose weights are not written yet. Saving a model folder sets their hash.
    pub fn new(kind: &str, space: &Space, objective: Draw, provenance: Provenance) -> Self {
        Self {
            format_version: Self::VERSION,
            kind: kind.to_owned(),
            n_layers: space.n_layers,
            d_ff: space.d_ff,
            multiple: space.multiple,
            granularities: space.granularities.clone(),
            objective,
            provenance,
            weights_sha256: String::new(),
            tokenizer_sha256: None,
            slice: None,
            dtype: Dtype::F32,
        }
    }

    /// Sets the hash of the `tokenizer.json` that belongs to the weights.
    pub fn with_tokenizer(self, sha256: impl Into<String>) -> Self {
        Self { tokenizer_sha256: Some(sha256.into()), ..self }
    }

    /// Reads the manifest of a model folder.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Json`], [`Error::FormatVersion`], or [`Error::Contents`] if the numbers
    /// are not consistent.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let path = folder.as_ref().join(Self::FILE);
        let bytes = fs::read(&path)?;
        let json = |source| Error::Json { path: path.clone(), what: "a model's manifest", source };
        // The version is read first: a newer format may have other keys.
        let Version { format_version } = serde_json::from_slice(&bytes).map_err(json)?;
        if format_version != Self::VERSION {
            let (found, expected) = (format_version, Self::VERSION);
            return Err(Error::FormatVersion { path, found, expected });
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(json)?;
        match manifest.validate() {
            Ok(()) => Ok(manifest),
            Err(error) => Err(Error::Contents { path, source: Box::new(error) }),
        }
    }

    /// Writes the manifest into a model folder, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`], or the error that [`load`](Manifest::load) would return.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let path = folder.as_ref().join(Self::FILE);
        self.validate()?;
        let what = "a model's manifest";
        let mut text = serde_json::to_string_pretty(self).map_err(|source| Error::Json {
            path: path.clone(),
            what,
            source,
        })?;
        text.push('\n');
        fs::write_atomic(&path, text.as_bytes())
    }

    /// The space of submodels that the model can run.
    ///
    /// # Errors
    /// [`Error::Space`].
    pub fn space(&self) -> Result<Space> {
        Space::new(self.n_layers, self.d_ff, self.multiple, self.granularities.clone())
    }

    fn validate(&self) -> Result<()> {
        // The objective is not checked: a slice keeps the objective of its parent, whose
        // granularities it may not have.
        self.space()?;
        check_hash("weights_sha256", &self.weights_sha256)?;
        match &self.tokenizer_sha256 {
            Some(hash) => check_hash("tokenizer_sha256", hash),
            None => Ok(()),
        }
    }
}

fn check_hash(what: &'static str, found: &str) -> Result<()> {
    if fs::is_sha256(found) {
        return Ok(());
    }
    let expected = "64 lowercase hexadecimal digits".into();
    Err(Error::Parse { what, found: found.to_owned(), expected })
}

/// The part of a manifest that every version has.
#[derive(Deserialize)]
struct Version {
    format_version: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn demo() -> Value {
        json!({
            "format_version": 1, "kind": "matlm", "n_layers": 5, "d_ff": 512, "multiple": 32,
            "granularities": [{"name": "S", "width": 64}, {"name": "XL", "width": 512}],
            "objective": "sampled",
            "provenance": {
                "version": "0.1.0", "seed": 1, "steps": 400, "tokens": 819200, "data_hash": "ab",
                "parent": null
            },
            "weights_sha256": "0".repeat(64)
        })
    }

    /// Loads a folder that has this manifest.
    fn load(text: &str) -> Result<Manifest> {
        let dir = tempfile::tempdir().unwrap();
        fs::write_atomic(dir.path().join(Manifest::FILE), text.as_bytes()).unwrap();
        Manifest::load(dir.path())
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let manifest = load(&demo().to_string()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        manifest.save(dir.path()).unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap(), manifest);
        let file = fs::read(dir.path().join(Manifest::FILE)).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&file).unwrap(), demo());
        assert_eq!(manifest.space().unwrap().largest().to_string(), "512x5");
        let named = manifest.with_tokenizer("1".repeat(64));
        named.save(dir.path()).unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap(), named);
    }

    #[test]
    fn a_newer_version_is_refused_whatever_its_other_keys_are() {
        let error = load(r#"{"format_version": 2, "heads": []}"#).unwrap_err();
        assert!(matches!(error, Error::FormatVersion { found: 2, expected: 1, .. }));
        assert!(error.to_string().ends_with("matformer.json`: 2, expected 1"), "{error}");
        assert!(error.hint().unwrap().contains("newer"));
        assert!(matches!(load(r#"{"format_version": 0}"#), Err(Error::FormatVersion { .. })));
    }

    #[test]
    fn every_malformation_is_refused() {
        for text in ["", "{}", "[]", "{\"format_version\":\"1\"}", &demo().to_string()[..80]] {
            assert!(matches!(load(text), Err(Error::Json { .. })), "{text}");
        }
        for key in demo().as_object().unwrap().keys() {
            let mut without = demo();
            without.as_object_mut().unwrap().remove(key);
            assert!(matches!(load(&without.to_string()), Err(Error::Json { .. })), "{key}");
        }
        for (key, value) in [
            ("n_layers", json!(0)),
            ("n_layers", json!(-1)),
            ("d_ff", json!(511)),
            ("multiple", json!(0)),
            ("granularities", json!([])),
            ("granularities", json!([{"name": "S", "width": 0}])),
            ("objective", json!("guess")),
            ("provenance", json!({})),
            ("weights_sha256", json!("ab")),
            ("weights_sha256", json!("Z".repeat(64))),
            ("tokenizer_sha256", json!("ab")),
            ("extra", json!(1)),
        ] {
            let mut changed = demo();
            changed[key] = value.clone();
            let error = load(&changed.to_string()).unwrap_err();
            let expected = matches!(error, Error::Json { .. } | Error::Contents { .. });
            assert!(expected, "{key} {value}: {error}");
        }
        assert!(matches!(Manifest::load("no/such"), Err(Error::Io { .. })));
    }

    #[test]
    fn a_slice_keeps_the_objective_of_what_it_was_cut_from() {
        let mut slice = demo();
        slice["d_ff"] = json!(64);
        slice["granularities"] = json!([{"name": "S", "width": 64}]);
        for objective in ["baseline:XL", "sandwich", "sampled-xl-heavy"] {
            slice["objective"] = json!(objective);
            load(&slice.to_string()).unwrap();
        }
    }

    #[test]
    fn nothing_is_saved_that_would_not_load() {
        let mut manifest = load(&demo().to_string()).unwrap();
        manifest.n_layers = 0;
        let dir = tempfile::tempdir().unwrap();
        assert!(manifest.save(dir.path()).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().len(), 0);
    }
}
