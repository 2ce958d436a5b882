//! Splits images into train and held-out if the data set has no split of its own.

use std::collections::HashMap;
use std::hash::Hash as Key;

use crate::Hash;
use crate::hash::Hasher;

/// An image to be put into a split.
pub(super) struct Member<'a> {
    pub label: u32,
    pub name: &'a str,
    /// What it shows.
    pub content: Hash,
}

/// The places of the images to train on and of those that are held out, both ascending.
///
/// Images of one name or one content stay together, also over classes: they are a group. Of each class
/// a share of the groups is held out, to the nearest number: those with the smallest hashes of a name.
/// An image stays where it is when others come or go, but for one beside the limit.
pub(super) fn split(images: &[Member<'_>], share: f64) -> [Vec<usize>; 2] {
    let groups = groups(images);
    let mut hashes: HashMap<usize, Hash> = HashMap::new();
    for (image, group) in images.iter().zip(&groups) {
        let new = hash(image.name);
        let of = hashes.entry(*group).or_insert(new);
        if new.as_bytes() < of.as_bytes() {
            *of = new;
        }
    }
    let mut order: Vec<(u32, Hash, usize)> = images
        .iter()
        .zip(&groups)
        .map(|(image, group)| (image.label, hashes[group], *group))
        .collect();
    order.sort_unstable_by_key(|(label, hash, group)| (*label, *hash.as_bytes(), *group));
    order.dedup();
    let mut is_held_out: HashMap<usize, bool> = HashMap::new();
    for class in order.chunk_by(|(a, ..), (b, ..)| a == b) {
        // Some of its groups may have been put somewhere with another class.
        let known =
            class.iter().filter(|(.., group)| is_held_out.get(group) == Some(&true)).count();
        let count = (share * class.len() as f64).round() as usize;
        let mut left = count.saturating_sub(known);
        for (.., group) in class {
            is_held_out.entry(*group).or_insert_with(|| {
                let chosen = left > 0;
                left -= usize::from(chosen);
                chosen
            });
        }
    }
    let (held_out, train) = (0..images.len()).partition(|place| is_held_out[&groups[*place]]);
    [train, held_out]
}

/// The group of each image, as the place of one of its members.
fn groups(images: &[Member<'_>]) -> Vec<usize> {
    let mut above: Vec<usize> = (0..images.len()).collect();
    join(&mut above, images.iter().map(|image| image.name));
    join(&mut above, images.iter().map(|image| image.content));
    (0..images.len()).map(|place| root(&mut above, place)).collect()
}

/// Joins the groups of all places with equal keys.
fn join<K: Key + Eq>(above: &mut [usize], keys: impl Iterator<Item = K>) {
    let mut first = HashMap::new();
    for (place, key) in keys.enumerate() {
        let of = *first.entry(key).or_insert(place);
        let [a, b] = [of, place].map(|place| root(above, place));
        above[a.max(b)] = a.min(b);
    }
}

/// The place that stands for the group of `place`.
fn root(above: &mut [usize], mut place: usize) -> usize {
    while above[place] != place {
        above[place] = above[above[place]];
        place = above[place];
    }
    place
}

fn hash(name: &str) -> Hash {
    Hasher::default().part("held_out").part(name).finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Splits images that have a label and a content each.
    fn split_of(images: &[(u32, u32)], share: f64) -> [Vec<usize>; 2] {
        let names: Vec<String> = (0..images.len()).map(|i| format!("class/{i}.png")).collect();
        let member = |((label, content), name): (&(u32, u32), &'_ String)| {
            (*label, Hash::of(&content.to_le_bytes()), name.clone())
        };
        let owned: Vec<_> = images.iter().zip(&names).map(member).collect();
        let members: Vec<Member<'_>> = owned
            .iter()
            .map(|(label, content, name)| Member { label: *label, name, content: *content })
            .collect();
        split(&members, share)
    }

    #[test]
    fn an_image_that_comes_moves_one_at_most() {
        let held_out = |count: u32| -> HashSet<usize> {
            let images: Vec<(u32, u32)> = (0..count).map(|content| (0, content)).collect();
            let [_, held_out] = split_of(&images, 0.1);
            held_out.into_iter().collect()
        };
        let mut before = held_out(200);
        for count in 201..230 {
            let after = held_out(count);
            let left = before.difference(&after).count();
            assert!(left <= 1, "{left} images left at {count}");
            before = after;
        }
    }

    proptest! {
        #[test]
        fn every_class_gives_its_share(
            labels in prop::collection::vec(0_u32..4, 0..200),
            share in 0.01..0.99,
        ) {
            let images: Vec<(u32, u32)> = labels.iter().copied().zip(0..).collect();
            let [train, held_out] = split_of(&images, share);
            let mut all: Vec<usize> = train.iter().chain(&held_out).copied().collect();
            prop_assert!(train.is_sorted() && held_out.is_sorted());
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..labels.len()));
            for class in 0..4 {
                let of_class = |list: &[usize]| {
                    list.iter().filter(|&&index| labels[index] == class).count()
                };
                let whole = of_class(&train) + of_class(&held_out);
                let expected = share * whole as f64;
                prop_assert!((of_class(&held_out) as f64 - expected).abs() <= 0.5 + 1e-9);
            }
        }

        #[test]
        fn copies_stay_in_one_split(
            images in prop::collection::vec((0_u32..3, 0_u32..30), 0..100),
            share in 0.01..0.99,
        ) {
            let [train, held_out] = split_of(&images, share);
            prop_assert_eq!(train.len() + held_out.len(), images.len());
            let of = |places: &[usize]| -> HashSet<u32> {
                places.iter().map(|place| images[*place].1).collect()
            };
            prop_assert!(of(&train).is_disjoint(&of(&held_out)));
        }
    }
}
