//! The packages `emoji-datasource-STYLE` of npm: a folder of images in one drawing style, and a list
//! that says what each shows.
//!
//! The list, `emoji.json`, is the same in all of them: an array of emoji, each with the file name of
//! its image, a category, and for each style whether it has the emoji. Skin tones of an emoji are
//! inside its entry and are not read.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Files;

const LIST: &str = "emoji.json";

/// The category that is left out: it has skin tones alone.
const SKIN_TONES: &str = "Component";

/// An entry of the list, as far as it is read.
#[derive(Deserialize)]
struct Emoji {
    category: String,
    /// What the folder of its image is called after: `face-smiling`, `sky & weather`.
    subcategory: String,
    /// A file name.
    image: String,
    has_img_google: bool,
    has_img_twitter: bool,
}

impl Emoji {
    /// The folder of its image; none for one that is left out.
    ///
    /// # Errors
    /// A subcategory that makes no plain name.
    fn folder(&self) -> Result<Option<String>, String> {
        if self.category == SKIN_TONES || !(self.has_img_google && self.has_img_twitter) {
            return Ok(None);
        }
        let folder = self.subcategory.replace(" & ", "-");
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        match !folder.is_empty() && folder.bytes().all(plain) {
            true => Ok(Some(folder)),
            false => Err(format!(
                "`{LIST}` has the subcategory `{}`, expected: a-z, 0-9, `-` and ` & `",
                self.subcategory
            )),
        }
    }
}

/// The image of each emoji that both styles have, in the folder of its subcategory, so that a file has
/// the same name in both.
///
/// # Errors
/// The reason: a list that is missing or damaged, an image that is missing, two images of one name.
pub(super) fn decode(files: Files) -> Result<Files, String> {
    let (mut list, mut images) = (None, BTreeMap::new());
    for (name, bytes) in files {
        if name == LIST {
            list = Some(bytes);
            continue;
        }
        let file = name.rsplit_once('/').map_or(name.as_str(), |(_, file)| file).to_owned();
        if images.insert(file, bytes).is_some() {
            return Err(format!(
                "`{name}` is not the only image of this name, expected: one style"
            ));
        }
    }
    let list = list.ok_or_else(|| format!("no `{LIST}`"))?;
    let list: Vec<Emoji> =
        serde_json::from_slice(&list).map_err(|error| format!("`{LIST}`: {error}"))?;
    let mut kept = Files::default();
    for emoji in list {
        let Some(folder) = emoji.folder()? else { continue };
        let name = emoji.image;
        let image = images
            .remove(&name)
            .ok_or_else(|| format!("`{LIST}` names `{name}`, which is no image, or named twice"))?;
        kept.add(format!("{folder}/{name}"), image)?;
    }
    match kept.is_empty() {
        false => Ok(kept),
        true => Err(format!("no emoji in `{LIST}` is one of both styles")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn emoji(subcategory: &str, image: &str) -> Value {
        json!({
            "name": "AN EMOJI",
            "category": if subcategory == "skin-tone" { "Component" } else { "Others" },
            "subcategory": subcategory,
            "image": image,
            "has_img_google": true,
            "has_img_twitter": true,
            "has_img_facebook": false,
        })
    }

    /// What is taken out of a package; the content of an image is its name.
    fn package(list: &[Value], images: &[&str]) -> Files {
        let mut files = Files::default();
        files.add(LIST.into(), serde_json::to_vec(list).unwrap()).unwrap();
        for image in images {
            files.add(format!("img/google/64/{image}"), (*image).into()).unwrap();
        }
        files
    }

    fn names(files: &Files) -> Vec<&str> {
        files.iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn each_image_lies_in_the_folder_of_its_subcategory() {
        let mut waving = emoji("hand-fingers-open", "1f44b.png");
        waving["skin_variations"] = json!({ "1F3FB": { "image": "1f44b-1f3fb.png" } });
        let list = [
            waving,
            emoji("sky & weather", "2600.png"),
            emoji("skin-tone", "1f3fb.png"),
            emoji("flag", "1f3c1.png"),
        ];
        let images = ["1f3c1.png", "1f3fb.png", "1f44b-1f3fb.png", "1f44b.png", "2600.png"];
        let decoded = decode(package(&list, &images)).unwrap();
        let expected = ["flag/1f3c1.png", "hand-fingers-open/1f44b.png", "sky-weather/2600.png"];
        assert_eq!(names(&decoded), expected);
        assert_eq!(decoded.get("hand-fingers-open/1f44b.png").unwrap(), b"1f44b.png");
    }

    #[test]
    fn an_emoji_that_one_style_lacks_is_left_out_of_both() {
        let mut lacking = emoji("tool", "b.png");
        for style in ["has_img_google", "has_img_twitter"] {
            lacking[style] = false.into();
            let list = [emoji("tool", "a.png"), lacking.clone()];
            let decoded = decode(package(&list, &["a.png", "b.png"])).unwrap();
            assert_eq!(names(&decoded), ["tool/a.png"], "{style}");
            lacking[style] = true.into();
        }
    }

    #[test]
    fn damage_is_told() {
        let reason = |files: Files| decode(files).unwrap_err();
        let one = [emoji("flag", "a.png")];
        assert_eq!(reason(Files::default()), "no `emoji.json`");
        assert!(reason(package(&one, &["b.png"])).contains("names `a.png`, which is no image"));
        let twice = [emoji("flag", "a.png"), emoji("symbol", "a.png")];
        assert!(reason(package(&twice, &["a.png"])).contains("named twice"));
        for folder in ["", "..", "a/b", "A"] {
            let list = [emoji(folder, "a.png")];
            assert!(reason(package(&list, &["a.png"])).contains("expected: a-z"), "{folder}");
        }
        let outside = [emoji("flag", "../a.png")];
        assert!(reason(package(&outside, &["a.png"])).contains("names `../a.png`"));
        assert!(reason(package(&[], &["a.png"])).contains("no emoji"));
        assert!(reason(package(&[json!({ "image": "a.png" })], &["a.png"])).contains("category"));
        let mut styles = package(&one, &["a.png"]);
        styles.add("img/twitter/64/a.png".into(), Vec::new()).unwrap();
        assert!(reason(styles).contains("expected: one style"));
        let mut cut = Files::default();
        cut.add(LIST.into(), b"[{".to_vec()).unwrap();
        assert!(reason(cut).starts_with("`emoji.json`: "));
    }

    proptest! {
        /// Both styles have the same list, so they give the same names whatever else is in them.
        #[test]
        fn styles_agree_on_names(
            entries in proptest::collection::vec((0..11usize, any::<bool>(), any::<bool>()), 1..20),
        ) {
            let kind = |i: usize| if i < 9 { format!("kind-{i}") } else { "skin-tone".to_owned() };
            let list: Vec<_> = entries
                .iter()
                .enumerate()
                .map(|(i, &(of, google, twitter))| {
                    let mut emoji = emoji(&kind(of), &format!("{i}.png"));
                    emoji["has_img_google"] = google.into();
                    emoji["has_img_twitter"] = twitter.into();
                    emoji
                })
                .collect();
            let has = |style: fn(&(usize, bool, bool)) -> bool| {
                let images: Vec<_> = (0..entries.len())
                    .filter(|&i| style(&entries[i]))
                    .map(|i| format!("{i}.png"))
                    .collect();
                decode(package(&list, &images.iter().map(String::as_str).collect::<Vec<_>>()))
            };
            match (has(|entry| entry.1), has(|entry| entry.2)) {
                (Ok(google), Ok(twitter)) => prop_assert_eq!(names(&google), names(&twitter)),
                (google, twitter) => prop_assert_eq!(google.is_err(), twitter.is_err()),
            }
        }

        #[test]
        fn no_input_panics(noise: Vec<u8>, image in "\\PC{0,12}") {
            let mut files = Files::default();
            files.add(LIST.into(), noise).unwrap();
            let _ = decode(files);
            let _ = decode(package(&[emoji("flag", &image)], &["a.png"]));
        }
    }
}
