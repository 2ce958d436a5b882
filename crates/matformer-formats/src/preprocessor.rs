//! How images become a model's input, as a folder of transformers or timm says it.

use std::path::Path;

use matformer_core::fs;
use matformer_nn::{ConfigFile, Error, Result};
use serde_json::{Map, Value, json};

use crate::Normalization;

/// The file of a folder's image processor.
pub const PREPROCESSOR_FILE: &str = "preprocessor_config.json";
/// Where transformers 5 may write it, below `image_processor`.
const PROCESSOR_FILE: &str = "processor_config.json";

/// PIL's numbers of interpolations.
const BILINEAR: u64 = 2;
/// timm's defaults.
const IMAGENET: [[f64; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
/// The defaults of CLIP's and BiT's image processors.
const CLIP: [[f64; 3]; 2] =
    [[0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]];
/// The defaults of ViT's and DeiT's.
const HALF: [[f64; 3]; 2] = [[0.5; 3]; 2];

/// How images become a model's input: their short side is resized bilinearly, the middle is cut out, and
/// pixels are normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessor {
    /// What is done to the numbers of a pixel.
    pub normalization: Normalization,
    /// What the short side of an image becomes; `None` where that is not said, or images are not resized.
    pub short_side: Option<usize>,
    /// What the program whose folder it is does otherwise, in words.
    pub differs: Vec<String>,
}

impl Preprocessor {
    /// One that resizes to `short_side`.
    pub fn new(normalization: Normalization, short_side: Option<usize>) -> Self {
        Self { normalization, short_side, differs: Vec::new() }
    }

    /// What the image processor in the folder `dir` does, for a model of images of `size` by `size`
    /// pixels; `None` where there is none.
    ///
    /// # Errors
    /// When a file cannot be read, or a key holds what it cannot hold.
    pub fn read(dir: &Path, size: usize, channels: usize) -> Result<Option<Self>> {
        let own = dir.join(PREPROCESSOR_FILE);
        let path = if own.exists() { own } else { dir.join(PROCESSOR_FILE) };
        if !path.exists() {
            return Ok(None);
        }
        let malformed = |found: String| Error::File {
            path: path.clone(),
            found,
            expected: "a JSON object".into(),
        };
        let text = fs::read_to_string(&path)?;
        let value: Value = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
        let Value::Object(whole) = value else { return Err(malformed(value.to_string())) };
        let keys = match whole.get("image_processor") {
            Some(Value::Object(inner)) => inner.clone(),
            _ if path.ends_with(PROCESSOR_FILE) => return Ok(None),
            _ => whole,
        };
        Keys { path: &path, keys: &keys }.of_transformers(size, channels).map(Some)
    }

    /// What timm does with a model whose `config.json` this is. Old ones have all keys at the top, newer
    /// ones in `pretrained_cfg`.
    pub(crate) fn of_timm(file: &ConfigFile, size: usize, channels: usize) -> Result<Option<Self>> {
        let names = ["mean", "std", "crop_pct", "crop_mode", "interpolation"];
        let found = names.map(|name| Some((name.to_owned(), timm_key(file, name)?.clone())));
        let keys: Map<String, Value> = found.into_iter().flatten().collect();
        if keys.is_empty() {
            return Ok(None);
        }
        Keys { path: file.path(), keys: &keys }.of_timm(size, channels).map(Some)
    }

    /// The file that makes transformers' stock image processor do the same, for a model of images of
    /// `size` by `size` pixels.
    pub fn to_file(&self, size: usize) -> Vec<u8> {
        let Normalization { mean, std } = &self.normalization;
        let config = json!({
            // Not ViT's, which squashes an image into the square.
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": mean.len() == 3,
            "do_resize": true,
            "size": { "shortest_edge": self.short_side.unwrap_or(size) },
            "resample": BILINEAR,
            "do_center_crop": true,
            "crop_size": { "height": size, "width": size },
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": mean,
            "image_std": std,
        });
        format!("{config:#}\n").into_bytes()
    }

    /// The share of the resized short side that timm is to cut out: it resizes to
    /// `floor(size / crop_pct)`.
    pub(crate) fn crop_pct(&self, size: usize) -> f64 {
        let side = self.short_side.unwrap_or(size);
        let share = size as f64 / side as f64;
        if (size as f64 / share).floor() == side as f64 {
            share
        } else {
            size as f64 / (side as f64 + 0.5)
        }
    }
}

/// A key of timm's `config.json`, wherever its version has it.
pub(crate) fn timm_key<'a>(file: &'a ConfigFile, key: &str) -> Option<&'a Value> {
    let preset = file.get("pretrained_cfg").and_then(|preset| preset.get(key));
    preset.filter(|value| !value.is_null()).or_else(|| file.get(key))
}

/// The keys of a file.
struct Keys<'a> {
    path: &'a Path,
    keys: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn of_transformers(&self, size: usize, channels: usize) -> Result<Preprocessor> {
        let kind = ["image_processor_type", "feature_extractor_type"]
            .into_iter()
            .find_map(|key| self.get(key)?.as_str())
            .unwrap_or("ViTImageProcessor");
        let is = |names: &[&str]| names.iter().any(|name| kind.starts_with(name));
        let defaults = if is(&["CLIP", "Bit"]) { CLIP } else { HALF };
        let mut std = vec![1.0; channels];
        let mut mean = vec![0.0; channels];
        if self.flag("do_normalize", true)? {
            let known = is(&["CLIP", "Bit", "ViT", "DeiT", "ConvNext"]);
            let [m, s] = if known { defaults.map(Some) } else { [None; 2] };
            mean = self.numbers("image_mean", channels, m)?;
            std = self.numbers("image_std", channels, s)?;
        }
        // Ours are of values from 0 to 1, whatever theirs are of.
        let mut factor = 1.0;
        if self.flag("do_rescale", true)? {
            factor = self.number("rescale_factor")?.unwrap_or(1.0 / 255.0);
            if self.flag("offset", false)? || self.flag("rescale_offset", false)? {
                mean.iter_mut().for_each(|mean| *mean += 1.0);
            }
        }
        let ours = |values: Vec<f64>| values.into_iter().map(|v| rounded(v / (255.0 * factor)));
        let normalization = Normalization { mean: ours(mean).collect(), std: ours(std).collect() };
        self.check(&normalization, "image_mean`, `image_std` and `rescale_factor")?;

        let mut differs = Vec::new();
        let mut short_side = None;
        if self.flag("do_resize", true)? {
            let default = if is(&["CLIP", "Bit", "DeiT"]) { 3 } else { BILINEAR };
            match self.get("resample").map_or(Some(default), Value::as_u64) {
                Some(BILINEAR) => {}
                _ => differs.push("it resizes by another filter, here it is bilinear".to_owned()),
            }
            let shortest = is(&["CLIP", "Bit", "ConvNext"]);
            let (side, square) = self.side(shortest)?.unwrap_or((size, !shortest));
            let crops = self.flag("do_center_crop", is(&["CLIP", "Bit", "DeiT"]))?;
            if square {
                let said = "it squeezes images into a square, here the middle square is cut out";
                differs.push(said.to_owned());
            }
            short_side = Some(if kind.starts_with("ConvNext") && side < 384 {
                let share = self.number("crop_pct")?.unwrap_or(0.875);
                (side as f64 / share) as usize
            } else if crops {
                let crop = self.crop()?.unwrap_or(size).max(1);
                // For another size than the model's, the same share.
                (side * size).div_ceil(crop)
            } else {
                size
            });
        } else {
            differs.push("it does not resize images, here they are resized".to_owned());
        }
        let short_side = short_side.map(|side| side.max(size));
        Ok(Preprocessor { normalization, short_side, differs })
    }

    fn of_timm(&self, size: usize, channels: usize) -> Result<Preprocessor> {
        let [m, s] = IMAGENET.map(Some);
        let mean = self.numbers("mean", channels, m)?;
        let std = self.numbers("std", channels, s)?;
        let normalization = Normalization { mean, std };
        self.check(&normalization, "mean` and `std")?;
        let share = self.number("crop_pct")?.unwrap_or(0.875);
        if !(share > 0.0 && share <= 1.0) {
            return Err(self.wrong("crop_pct", "a share above 0 and up to 1"));
        }
        let mut differs = Vec::new();
        let text = |key: &str| self.get(key).and_then(Value::as_str);
        if text("interpolation").unwrap_or("bicubic") != "bilinear" {
            differs.push("it resizes by another filter, here it is bilinear".to_owned());
        }
        if text("crop_mode").unwrap_or("center") != "center" {
            differs.push("it keeps whole images, here the middle square is cut out".to_owned());
        }
        let short_side = Some((size as f64 / share).floor() as usize);
        Ok(Preprocessor { normalization, short_side, differs })
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = format!("`{key}`: {}", self.keys.get(key).unwrap_or(&Value::Null));
        Error::File { path: self.path.into(), found, expected: expected.to_owned() }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "`true` or `false`")),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        let number = |value: &Value| value.as_f64().filter(|n| *n > 0.0);
        let read = |value| number(value).ok_or_else(|| self.wrong(key, "a number above 0"));
        self.get(key).map(read).transpose()
    }

    /// One number for each channel; a single one stands for all.
    fn numbers(&self, key: &str, channels: usize, default: Option<[f64; 3]>) -> Result<Vec<f64>> {
        let list = match self.get(key) {
            Some(Value::Array(list)) => list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>(),
            Some(other) => other.as_f64().map(|one| vec![one]),
            None => default.map(|default| default.to_vec()),
        };
        match list {
            Some(one) if one.len() == 1 => Ok(vec![one[0]; channels]),
            Some(list) if list.len() == channels => Ok(list),
            // A default of the same number for all.
            Some(list) if self.get(key).is_none() && list.iter().all(|n| *n == list[0]) => {
                Ok(vec![list[0]; channels])
            }
            _ => {
                let expected = format!("a number, or one for each of {channels} channels");
                Err(self.wrong(key, &expected))
            }
        }
    }

    /// Checks that ours can be such numbers.
    fn check(&self, normalization: &Normalization, keys: &str) -> Result<()> {
        let Normalization { mean, std } = normalization;
        let good = mean.iter().all(|m| (0.0..=1.0).contains(m))
            && std.iter().all(|s| (1e-6..=1.0).contains(s));
        if good {
            return Ok(());
        }
        let found = format!(
            "`{keys}` mean {mean:?} and deviation {std:?} of pixels from black, 0, to white, 1"
        );
        let expected = "a mean from 0 to 1 and a deviation from 1e-6 to 1".to_owned();
        Err(Error::File { path: self.path.into(), found, expected })
    }

    /// What images are resized to, and whether they are squeezed into that square.
    fn side(&self, shortest: bool) -> Result<Option<(usize, bool)>> {
        let Some(value) = self.get("size") else { return Ok(None) };
        let expected = "a number of pixels, `shortest_edge`, or `height` and `width`";
        let number = |value: Option<&Value>| Some(value?.as_u64()? as usize).filter(|n| *n > 0);
        let key = |key: &str| number(value.get(key));
        let side = match (number(Some(value)), key("shortest_edge"), key("height"), key("width")) {
            (Some(side), ..) => (side, !shortest),
            (_, Some(side), ..) => (side, false),
            (_, _, Some(height), Some(width)) if height == width => (height, true),
            _ => return Err(self.wrong("size", expected)),
        };
        Ok(Some(side))
    }

    /// The side of the square that is cut out.
    fn crop(&self) -> Result<Option<usize>> {
        let Some(value) = self.get("crop_size") else { return Ok(None) };
        let side = value.as_u64().or_else(|| {
            let [height, width] = ["height", "width"].map(|key| value.get(key)?.as_u64());
            height.filter(|_| height == width)
        });
        match side.filter(|side| *side > 0) {
            Some(side) => Ok(Some(side as usize)),
            None => {
                Err(self.wrong("crop_size", "a number of pixels, or equal `height` and `width`"))
            }
        }
    }
}

/// Without the last digits, which are noise of the division: 0.5 stays 0.5.
fn rounded(value: f64) -> f64 {
    format!("{value:.12e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a `preprocessor_config.json` means for a model of 224 pixels and 3 channels.
    fn read(config: &Value) -> Result<Preprocessor, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(PREPROCESSOR_FILE), config.to_string()).unwrap();
        match Preprocessor::read(dir.path(), 224, 3) {
            Ok(found) => Ok(found.unwrap()),
            Err(error) => Err(error.to_string().split_once(".json: ").unwrap().1.to_owned()),
        }
    }

    fn scale(config: &Value) -> (f64, f64) {
        let Normalization { mean, std } = read(config).unwrap().normalization;
        assert!(mean.len() == 3 && std.len() == 3);
        (mean[0], std[0])
    }

    #[test]
    fn pixels_are_scaled_as_the_processor_says() {
        let third = 1.0 / 127.5;
        for (config, expected) in [
            (json!({}), (0.5, 0.5)),
            (
                json!({ "image_processor_type": "ViTFeatureExtractor", "image_mean": null }),
                (0.5, 0.5),
            ),
            (json!({ "image_processor_type": "BitImageProcessor" }), (0.48145466, 0.26862954)),
            (json!({ "image_mean": 0.25, "image_std": [0.2, 0.2, 0.2] }), (0.25, 0.2)),
            (json!({ "do_normalize": false, "image_mean": [0.1, 0.1, 0.1] }), (0.0, 1.0)),
            // x / 127.5 - 1 is (x / 255 - 0.5) / 0.5.
            (json!({ "rescale_factor": third, "image_mean": 1.0, "image_std": 1.0 }), (0.5, 0.5)),
            (json!({ "rescale_factor": third, "offset": true, "do_normalize": false }), (0.5, 0.5)),
            (json!({ "do_rescale": false, "image_mean": 127.5, "image_std": 51.0 }), (0.5, 0.2)),
        ] {
            assert_eq!(scale(&config), expected, "{config}");
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let refused = |config: Value| read(&config).unwrap_err();
        assert_eq!(
            refused(json!({ "image_mean": [0.5, 0.5] })),
            "`image_mean`: [0.5,0.5]; expected a number, or one for each of 3 channels"
        );
        assert_eq!(
            refused(json!({ "do_rescale": "no" })),
            "`do_rescale`: \"no\"; expected `true` or `false`"
        );
        let unknown = json!({ "image_processor_type": "SwinImageProcessor" });
        assert!(refused(unknown).starts_with("`image_mean`: null; expected"));
        let bytes = json!({ "do_rescale": false, "image_mean": 300 });
        assert!(refused(bytes).contains("expected a mean from 0 to 1"));
        assert!(refused(json!({ "size": { "height": 2, "width": 3 } })).starts_with("`size`: "));
    }

    #[test]
    fn the_short_side_is_the_processors() {
        let clip = json!({
            "image_processor_type": "CLIPImageProcessor", "resample": 2,
            "size": { "shortest_edge": 256 }, "crop_size": { "height": 224, "width": 224 },
        });
        let found = read(&clip).unwrap();
        assert_eq!((found.short_side, found.differs.len()), (Some(256), 0));
        let squashed = read(&json!({ "size": 224 })).unwrap();
        assert_eq!((squashed.short_side, squashed.differs.len()), (Some(224), 1));
        let next = json!({
            "image_processor_type": "ConvNextImageProcessor", "resample": 3, "crop_pct": 0.875,
            "size": { "shortest_edge": 224 },
        });
        let next = read(&next).unwrap();
        assert_eq!((next.short_side, next.differs.len()), (Some(256), 1));
        assert_eq!(read(&json!({ "do_resize": false })).unwrap().short_side, None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for side in [224, 256, 300] {
            let normalization = Normalization { mean: vec![0.4; 3], std: vec![0.3; 3] };
            let ours = Preprocessor::new(normalization, Some(side));
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(PREPROCESSOR_FILE), ours.to_file(224)).unwrap();
            assert_eq!(Preprocessor::read(dir.path(), 224, 3).unwrap(), Some(ours));
        }
    }

    #[test]
    fn timm_resizes_to_the_short_side() {
        for size in 1..400 {
            for side in size..2 * size {
                let ours = Preprocessor::new(
                    Normalization { mean: vec![0.5], std: vec![0.5] },
                    Some(side),
                );
                let share = ours.crop_pct(size);
                assert!(share > 0.0 && share <= 1.0);
                assert_eq!((size as f64 / share).floor() as usize, side, "{size}");
            }
        }
    }
}
