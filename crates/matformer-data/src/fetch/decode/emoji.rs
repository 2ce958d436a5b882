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

/// Categories and their folders. The one that is missing, "Component", has skin tones alone.
const CATEGORIES: [(&str, &str); 9] = [
    ("Activities", "activities"),
    ("Animals & Nature", "animals-nature"),
    ("Flags", "flags"),
    ("Food & Drink", "food-drink"),
    ("Objects", "objects"),
    ("People & Body", "people-body"),
    ("Smileys & Emotion", "smileys-emotion"),
    ("Symbols", "symbols"),
    ("Travel & Places", "travel-places"),
];

/// An entry of the list, as far as it is read.
#[derive(Deserialize)]
struct Emoji {
    category: String,
    /// A file name.
    image: String,
    has_img_google: bool,
    has_img_twitter: bool,
}

impl Emoji {
    /// The folder of its image; none for one that is left out.
    fn folder(&self) -> Option<&'static str> {
        let (_, folder) = CATEGORIES.iter().find(|(category, _)| *category == self.category)?;
        (self.has_img_google && self.has_img_twitter).then_some(folder)
    }
}

/// The image of each emoji that both styles have, in the folder of its category, so that a file has
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
        let Some(folder) = emoji.folder() else { continue };
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

    fn emoji(category: &str, image: &str) -> Value {
        json!({
            "name": "AN EMOJI",
            "category": category,
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
    fn each_image_lies_in_the_folder_of_its_category() {
        let mut waving = emoji("People & Body", "1f44b.png");
        waving["skin_variations"] = json!({ "1F3FB": { "image": "1f44b-1f3fb.png" } });
        let list = [
            waving,
            emoji("Smileys & Emotion", "1f600.png"),
            emoji("Component", "1f3fb.png"),
            emoji("Flags", "1f3c1.png"),
        ];
        let images = ["1f3c1.png", "1f3fb.png", "1f44b-1f3fb.png", "1f44b.png", "1f600.png"];
        let decoded = decode(package(&list, &images)).unwrap();
        let expected = ["flags/1f3c1.png", "people-body/1f44b.png", "smileys-emotion/1f600.png"];
        assert_eq!(names(&decoded), expected);
        assert_eq!(decoded.get("people-body/1f44b.png").unwrap(), b"1f44b.png");
    }

    #[test]
    fn an_emoji_that_one_style_lacks_is_left_out_of_both() {
        let mut lacking = emoji("Objects", "b.png");
        for style in ["has_img_google", "has_img_twitter"] {
            lacking[style] = false.into();
            let list = [emoji("Objects", "a.png"), lacking.clone()];
            let decoded = decode(package(&list, &["a.png", "b.png"])).unwrap();
            assert_eq!(names(&decoded), ["objects/a.png"], "{style}");
            lacking[style] = true.into();
        }
    }

    #[test]
    fn folders_are_plain_and_differ() {
        let mut seen = std::collections::HashSet::new();
        for (_, folder) in CATEGORIES {
            assert!(folder.bytes().all(|c| c.is_ascii_lowercase() || c == b'-'), "{folder}");
            assert!(seen.insert(folder), "{folder}");
        }
    }

    #[test]
    fn damage_is_told() {
        let reason = |files: Files| decode(files).unwrap_err();
        let one = [emoji("Flags", "a.png")];
        assert_eq!(reason(Files::default()), "no `emoji.json`");
        assert!(reason(package(&one, &["b.png"])).contains("names `a.png`, which is no image"));
        let twice = [emoji("Flags", "a.png"), emoji("Symbols", "a.png")];
        assert!(reason(package(&twice, &["a.png"])).contains("named twice"));
        let outside = [emoji("Flags", "../a.png")];
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
            let category = |i: usize| CATEGORIES.get(i).map_or("Component", |(name, _)| *name);
            let list: Vec<_> = entries
                .iter()
                .enumerate()
                .map(|(i, &(kind, google, twitter))| {
                    let mut emoji = emoji(category(kind), &format!("{i}.png"));
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
            let _ = decode(package(&[emoji("Flags", &image)], &["a.png"]));
        }
    }
}
