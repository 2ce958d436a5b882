//! Which images are held out where the data does not say it.

use crate::Hash;
use crate::hash::Hasher;

/// The places of the images to train on and of those that are held out, both ascending.
///
/// Of each class a share is held out, to the nearest name: those with the smallest hashes. Images of one
/// name stay together. An image stays where it is when others come or go, but for one beside the limit.
pub(super) fn split(labels: &[u32], share: f64, name: impl Fn(usize) -> String) -> [Vec<usize>; 2] {
    let mut order: Vec<(u32, Hash, usize)> = labels
        .iter()
        .enumerate()
        .map(|(index, &label)| (label, hash(&name(index)), index))
        .collect();
    order.sort_unstable_by_key(|(label, hash, index)| (*label, *hash.as_bytes(), *index));
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for class in order.chunk_by(|(a, ..), (b, ..)| a == b) {
        let names: Vec<_> = class.chunk_by(|(_, a, _), (_, b, _)| a == b).collect();
        let count = (share * names.len() as f64).round() as usize;
        for (place, images) in names.into_iter().enumerate() {
            let part = if place < count { &mut held_out } else { &mut train };
            part.extend(images.iter().map(|(.., index)| *index));
        }
    }
    train.sort_unstable();
    held_out.sort_unstable();
    [train, held_out]
}

fn hash(name: &str) -> Hash {
    Hasher::default().part("held_out").part(name).finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn name(index: usize) -> String {
        format!("class/{index}.png")
    }

    #[test]
    fn an_image_that_comes_moves_one_at_most() {
        let held_out = |count| -> HashSet<usize> {
            let [_, held_out] = split(&vec![0; count], 0.1, name);
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
            let [train, held_out] = split(&labels, share, name);
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
    }
}
