//! Finds the images of one folder, or of several that belong together.

use super::found::{Found, ImageLayout, Images};
use super::listing::Listing;
use super::{UnreadFolder, cifar, folders, idx, tables};
use crate::{Error, Result};

/// Finds the images in all of some folders. Those of the classes of one name are of one class.
///
/// # Errors
/// As [`find_in`] of each; [`Error::Images`] for more than one, of which one has no folder per class,
/// or has held-out images where another has none.
pub(super) fn find(listings: &[Listing]) -> Result<Found> {
    if let [listing] = listings {
        return find_in(listing);
    }
    let mut parts = Vec::new();
    for (index, listing) in listings.iter().enumerate() {
        let (root, part) = (&listing.root, find_in(listing)?);
        let own = parts.first().is_some_and(|(first, _): &(Found, String)| {
            first.held_out.is_some() != part.held_out.is_some()
        });
        if part.layout != ImageLayout::Folders || own {
            let (root, expected) = (
                root.display(),
                match own {
                    true => "held-out images of its own or none, as in `data.path`",
                    false => "a folder per class",
                },
            );
            let problem = format!("`{root}` cannot be joined with others: expected {expected}");
            return Err(Error::images(problem, "leave it out of `data.also`"));
        }
        let name = root.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let taken = parts.iter().any(|(_, other)| *other == name);
        parts.push((part, if taken { format!("{name}-{index}") } else { name }));
    }
    let mut classes: Vec<String> =
        parts.iter().flat_map(|(part, _)| part.classes.iter().cloned()).collect();
    classes.sort();
    classes.dedup();
    let (mut train, mut held_out) = (Images::none(), None);
    let (mut held_out_folder, mut unread, mut ignored) = (None, Vec::new(), 0);
    let mut folders = Vec::new();
    for (part, name) in parts {
        let prefix = format!("{name}/");
        folders.push(name);
        let own = part.classes;
        let place =
            |label: u32| classes.binary_search(&own[label as usize]).unwrap_or_default() as u32;
        train.join(part.train, &prefix, &place);
        if let Some(images) = part.held_out {
            held_out.get_or_insert_with(Images::none).join(images, &prefix, &place);
        }
        held_out_folder = held_out_folder.or(part.held_out_folder.map(|f| format!("{prefix}{f}")));
        let inside = |f: UnreadFolder| UnreadFolder { name: format!("{prefix}{}", f.name), ..f };
        unread.extend(part.unread.into_iter().map(inside));
        ignored += part.ignored;
    }
    let found = Found::new(ImageLayout::Folders, classes, train, held_out);
    Ok(Found { held_out_folder, unread, ignored, folders, ..found })
}

/// Finds the images in a folder.
///
/// # Errors
/// What is wrong with the files of the layout; [`Error::Images`] for no images, or those of one class.
fn find_in(listing: &Listing) -> Result<Found> {
    let root = &listing.root;
    let mut packed = None;
    for find in [idx::find, cifar::find, tables::find] {
        if packed.is_none() {
            packed = find(listing)?;
        }
    }
    let found = match packed {
        Some(found) => found,
        None => folders::find(listing)?,
    };
    match found.classes.as_slice() {
        [] => Err(Error::images(
            format!("no images in `{}`", root.display()),
            "images lie in a folder per class (PNG, JPEG or WebP; `CLASS/…`, or `train/CLASS/…` and \
             `val/CLASS/…`), in the files of MNIST (`train-images-idx3-ubyte`) or CIFAR \
             (`data_batch_1.bin`), or in `.parquet` files with columns of images and labels",
        )),
        [class] => Err(Error::images(
            format!(
                "`{}` has images of one class, `{class}`, expected: at least two",
                root.display()
            ),
            "images lie in a folder per class: name the folder that holds those",
        )),
        _ => Ok(found),
    }
}
