//! The `[data]` table of a vision run.

use serde::{Deserialize, Serialize};

use crate::config::{check_part, check_share};
use crate::{AugmentConfig, Error, Result, Source, source};

/// Which images are read, and how they are split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// A folder of images, `hf:owner/name` or `fetch:NAME`. Its layout is what
    /// [`images`](crate::images) says. Default: none, which a run cannot do without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Source>,
    /// Further folders of the same kind, a folder per class each, whose images join those of the
    /// classes of the same names. Images of one name are held out together. Default: none.
    #[serde(deserialize_with = "source::list", skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Source>,
    /// The share of each class that is held out, by a hash of the image's name, where the data has
    /// no held-out images of its own. Default 0.1.
    pub held_out: f64,
    /// The share of the images that may be impossible to decode; they are named, skipped and counted.
    /// Default 0.01.
    pub max_bad_images: f64,
    /// Whether a single image that cannot be decoded is an error. Default false.
    pub strict: bool,
    /// How training images are varied. Default: not at all.
    pub augment: AugmentConfig,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            path: None,
            also: Vec::new(),
            held_out: 0.1,
            max_bad_images: 0.01,
            strict: false,
            augment: AugmentConfig::default(),
        }
    }
}

impl ImageConfig {
    /// Checks every value that can be judged without reading a file.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key, what was found and what is possible.
    pub fn validate(&self) -> Result<()> {
        self.sources()?;
        check_part("held_out", self.held_out)?;
        check_share("max_bad_images", self.max_bad_images)
    }

    /// The share of the images that may be bad, if any may.
    pub(super) fn allowed(&self) -> Option<f64> {
        (!self.strict).then_some(self.max_bad_images)
    }

    /// Where the images are: at least one place.
    pub(super) fn sources(&self) -> Result<Vec<&Source>> {
        let Some(first) = &self.path else {
            return Err(Error::Config {
                key: "path",
                found: "not given".into(),
                expected: "a folder of images, `hf:owner/name`, or `fetch:NAME`",
            });
        };
        Ok([first].into_iter().chain(&self.also).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ImageConfig, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn reads_a_table_and_refuses_unknown_keys() {
        let config = read("path = \"fetch:digits\"").unwrap();
        assert_eq!(config.path, Some(Source::Fetched("digits".into())));
        assert_eq!((config.held_out, config.strict), (0.1, false));
        config.validate().unwrap();
        assert!(read("paths = \"a\"").unwrap_err().contains("paths"));
        let whole = ImageConfig { held_out: 0.25, strict: true, ..config };
        assert_eq!(read(&toml::to_string(&whole).unwrap()).unwrap(), whole);
    }

    #[test]
    fn names_the_key_that_is_wrong() {
        let message = |text: &str| read(text).unwrap().validate().unwrap_err().to_string();
        assert_eq!(
            message(""),
            "`data.path` is not given, expected: a folder of images, `hf:owner/name`, or `fetch:NAME`"
        );
        read("path = \"hf:owner/name\"").unwrap().validate().unwrap();
        for share in ["0.0", "1.0", "-0.1", "nan"] {
            let message = message(&format!("path = \"a\"\nheld_out = {share}"));
            assert!(message.starts_with("`data.held_out` is "), "{message}");
        }
        assert_eq!(
            message("path = \"a\"\nmax_bad_images = 1.5"),
            "`data.max_bad_images` is 1.5, expected: a share from 0 to 1"
        );
    }
}
