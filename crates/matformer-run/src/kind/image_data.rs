//! What there is to say of images, and whose classes they have.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use matformer_data::{Copies, ImageSet, ImageSummary, PreparedImages, composed};
use matformer_runfile::Vit;
use matformer_vit::MatVitConfig;

use crate::{error::Hinted, folder::ModelFolder};
use matformer_core::units::count;
use matformer_train::say;

/// Tells a person what was read, and what became of it.
pub fn say(prepared: &PreparedImages) {
    let s = &prepared.summary;
    let mut left = String::new();
    if s.skipped.images > 0 {
        left +=
            &format!("; skipped: {} that could not be decoded or have no label", s.skipped.images);
    }
    if s.ignored > 0 {
        left += &format!("; passed over: {}", counted(s.ignored, "other file"));
    }
    say!(
        "data {}: {} training images of {} classes, {} held out{}{left}{}",
        prepared.data_hash().short(),
        count(s.train.images as f64),
        s.classes.len(),
        count(s.held_out.images as f64),
        s.held_out_folder.as_ref().map_or_else(String::new, |f| format!(" (`{f}`)")),
        if prepared.reused { " (prepared before)" } else { "" },
    );
    prepared.notes.iter().for_each(|note| say!("{note}"));
    say!("{}", pixels(s));
    if !s.unread.is_empty() {
        let folders: Vec<String> = s.unread.iter().map(ToString::to_string).collect();
        say!("not read: {}", folders.join(", "));
    }
    if let Some(first) = &s.unended.first {
        let n = counted(s.unended.images, "image");
        say!("note: {n} used whose file lacks its end, but no pixel (first `{first}`)");
    }
    say_copies(&s.copies);
    for (split, images) in [("training", &s.train), ("held-out", &s.held_out)] {
        if !images.empty_classes.is_empty() {
            say!("note: no {split} images of {}", images.empty_classes.join(", "));
        }
    }
}

/// Says something once, however often it is found.
pub fn say_once(message: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(message.to_owned()) {
        say!("{message}");
    }
}

/// The place of each class of data among those of a model: by name, or in the same order where the model's
/// have none. `None` where one is not among them.
pub fn places_of(model: &MatVitConfig, data: &[String]) -> Option<Vec<usize>> {
    let Some(names) = &model.class_names else {
        return (model.classes == data.len()).then(|| (0..data.len()).collect());
    };
    // A name may be there twice, as in ImageNet: then the order tells them apart.
    let names: Vec<String> = names.iter().map(|name| composed(name)).collect();
    if names == data {
        return Some((0..data.len()).collect());
    }
    data.iter().map(|class| names.iter().position(|name| name == class)).collect()
}

/// The images with the model's classes, among which theirs must be.
pub fn of_model(folder: &ModelFolder<Vit>, set: ImageSet) -> Result<ImageSet, Hinted> {
    let config = folder.model.config();
    let (dir, found) = (folder.dir.display(), set.classes().to_vec());
    let Some(places) = places_of(config, &found) else {
        let own = match &config.class_names {
            Some(names) => listed(names),
            None => format!("{} classes", config.classes),
        };
        return Err(Hinted {
            message: format!("{dir}: a model of {own}; the data has {}", listed(&found)),
            hint:
                "give data of the model's classes; `matformer train --init` makes a model of others"
                    .to_owned(),
        });
    };
    let Some(names) = &config.class_names else {
        say_once(&format!(
            "note: the classes of {dir} have no names; they are taken in the order of the data's: {}",
            listed(&found)
        ));
        return Ok(set);
    };
    if found.len() < names.len() {
        say_once(&format!(
            "note: the data has {} of the {} classes of {dir}",
            found.len(),
            names.len()
        ));
    } else if !places.is_sorted() {
        say_once(&format!(
            "note: the classes of {dir} are in another order; they are matched by name"
        ));
    }
    Ok(set.among(names.clone(), &places))
}

/// The number of classes, and the names of the first.
fn listed(names: &[String]) -> String {
    match names.len() {
        n @ 0..=6 => format!("{n} classes ({})", names.join(", ")),
        n => format!("{n} classes ({}, …)", names[..6].join(", ")),
    }
}

/// `1 image`, `2 images`.
fn counted(n: usize, what: &str) -> String {
    format!("{} {what}{}", count(n as f64), if n == 1 { "" } else { "s" })
}

/// What became of the pixels of the images that are kept.
fn pixels(s: &ImageSummary) -> String {
    let (size, p) = (s.size, &s.pixels);
    if p.resized == 0 {
        return format!("pixels: all images are {size}×{size} and kept as they are");
    }
    let named: usize = p.most.iter().map(|size| size.images).sum();
    let mut from: Vec<String> = p.most.iter().map(ToString::to_string).collect();
    if named < p.resized {
        from.push(format!("{} of other sizes", p.resized - named));
    }
    format!(
        "pixels: {} of {size}×{size} kept as they are; of {} the short side becomes {size} and the \
         middle is kept: {}",
        counted(p.as_they_are, "image"),
        count(p.resized as f64),
        from.join(", ")
    )
}

/// What there is to say of copies.
fn say_copies(copies: &Copies) {
    let Copies { images, dropped, in_both, first, in_two_classes, of_two_classes } = copies;
    let of_both = |said: &str, n: usize| {
        let pair = first.as_ref().map_or_else(String::new, |pair| format!(" ({pair})"));
        let n = counted(n, "held-out image");
        say!("note: {n} also among the training images{pair}; {said}");
    };
    if *dropped > 0 {
        of_both("not used", *dropped);
    }
    if *in_both > 0 {
        of_both("the set is published like this and kept whole", *in_both);
    }
    let others = images - dropped - in_both;
    if others > 0 {
        let n = counted(others, "image");
        say!("copies: {n} with the same pixels as another; all copies of one are in one split");
    }
    if *in_two_classes > 0 {
        let pairs: Vec<String> = of_two_classes.iter().map(ToString::to_string).collect();
        let more = in_two_classes - pairs.len();
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        say!("note: the same image is in two classes: {}{more}", pairs.join(", "));
    }
}
