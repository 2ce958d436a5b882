//! Finds the images of one folder, or of several that belong together.

use std::path::{Path, PathBuf};

use super::found::{Found, ImageLayout, Images};
use super::listing::Listing;
use super::{ImageError, UnreadFolder, cifar, folders, idx, tables};
use crate::{PassedOver, Result};

/// Finds the images below all of `roots`; what is passed over is counted in `passed`. Those of the classes of one
/// name are of one class.
///
/// # Errors
/// As [`find_in`] of each; [`ImageError::Joined`] for more than one, of which one has no folder per class,
/// or has held-out images where another has none.
pub(super) fn find(roots: &[PathBuf], passed: &mut PassedOver) -> Result<Found> {
    if let [root] = roots {
        return find_in(root, passed);
    }
    let mut parts = Vec::new();
    for (index, root) in roots.iter().enumerate() {
        let part = find_in(root, passed)?;
        let own = parts.first().is_some_and(|(first, _): &(Found, String)| {
            first.held_out.is_some() != part.held_out.is_some()
        });
        if part.layout != ImageLayout::Folders || own {
            let expected = match own {
                true => "held-out images of its own or none, as in `data.path`",
                false => "a folder per class",
            };
            return Err(ImageError::Joined { path: root.clone(), expected }.into());
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
    let layout = ImageLayout::Folders;
    Ok(Found { layout, classes, train, held_out, held_out_folder, unread, ignored, folders })
}

/// Finds the images below `root`.
///
/// # Errors
/// As [`Listing::of`]; what is wrong with the files of the layout; [`ImageError::NoImages`];
/// [`ImageError::OneClass`].
fn find_in(root: &Path, passed: &mut PassedOver) -> Result<Found> {
    let listing = Listing::of(root, passed)?;
    let packed = match idx::find(&listing)? {
        None => cifar::find(&listing)?,
        found => found,
    };
    let packed = match packed {
        None => tables::find(&listing)?,
        found => found,
    };
    let found = match packed {
        Some(found) => found,
        None => folders::find(&listing)?,
    };
    match found.classes.as_slice() {
        [] => Err(ImageError::NoImages { path: root.into() }.into()),
        [class] => Err(ImageError::OneClass { path: root.into(), class: class.clone() }.into()),
        _ => Ok(found),
    }
}
