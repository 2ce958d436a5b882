//! What must hold of an image from bytes to values, and of a batch.

use matformer_core::fs;
use proptest::prelude::*;

use super::*;

/// Everything on.
fn full() -> AugmentConfig {
    AugmentConfig {
        crop_scale: Some([0.3, 1.0]),
        pad: 1,
        flip: 0.5,
        rand_augment: Some(RandAugment { n: 3, magnitude: 9.0 }),
        erase: 0.5,
        mixup: 0.8,
        cutmix: 1.0,
        smoothing: 0.1,
        mean: Some(vec![0.1, 0.2, 0.3]),
        std: Some(vec![0.3, 0.2, 0.1]),
        ..AugmentConfig::default()
    }
}

/// An image without symmetry or constant parts, and without 0.
fn pixels(size: usize, channels: usize) -> Vec<u8> {
    (0..channels * size * size).map(|i| (i * i * 7 % 241 + i % 14 + 1) as u8).collect()
}

fn train(augment: &Augment, index: u64) -> Vec<f32> {
    let mut out = vec![f32::NAN; augment.out_len()];
    augment.train(&pixels(augment.from, augment.channels), &mut out, (7, index)).unwrap();
    out
}

fn eval(augment: &Augment) -> Vec<f32> {
    let mut out = vec![f32::NAN; augment.out_len()];
    augment.eval(&pixels(augment.from, augment.channels), &mut out).unwrap();
    out
}

/// With a mean of 0 and a deviation of 1 the bytes can be read off.
fn plain(channels: usize) -> AugmentConfig {
    AugmentConfig {
        mean: Some(vec![0.0; channels]),
        std: Some(vec![1.0; channels]),
        ..AugmentConfig::default()
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().map(|value| (value * 255.0).round() as u8).collect()
}

#[test]
fn a_recipe_of_nothing_normalises() {
    for (size, channels) in [(1, 1), (1, 3), (7, 3), (28, 1)] {
        let augment = Augment::new(&AugmentConfig::default(), size, channels, size).unwrap();
        let expected: Vec<f32> = pixels(size, channels)
            .iter()
            .map(|value| ((f64::from(*value) / 255.0 - 0.5) / 0.5) as f32)
            .collect();
        assert_eq!(train(&augment, 0), expected);
        assert_eq!(eval(&augment), expected);
    }
}

#[test]
fn each_channel_is_normalised_by_its_own_numbers() {
    let config = AugmentConfig {
        mean: Some(vec![0.0, 0.2, 1.0]),
        std: Some(vec![1.0, 0.4, 0.5]),
        ..AugmentConfig::default()
    };
    let mut out = [0.0; 3];
    Augment::new(&config, 1, 3, 1).unwrap().eval(&[51, 255, 0], &mut out).unwrap();
    assert_eq!(out, [0.2, 2.0, -2.0]);
}

#[test]
fn evaluation_takes_the_centre_or_resizes() {
    let centre = |from: usize, to: usize| {
        let augment = Augment::new(&plain(1), from, 1, to).unwrap();
        assert_eq!(train(&augment, 3), eval(&augment), "nothing else is asked for");
        bytes(&eval(&augment))
    };
    let all = pixels(5, 1);
    let middle: Vec<u8> = all[5..20].chunks(5).flat_map(|line| line[1..4].to_vec()).collect();
    assert_eq!(centre(5, 3), middle);
    let upper: Vec<u8> = all.chunks(5).take(4).flat_map(|line| line[..4].to_vec()).collect();
    assert_eq!(centre(5, 4), upper);
    assert_eq!(centre(5, 1), [all[12]]);
    assert_eq!(centre(1, 3), [pixels(1, 1)[0]; 9]);
    assert_eq!(centre(5, 9), resample::resize(&all, 5, Rect::whole(5), 9).unwrap());
}

#[test]
fn shifts_go_everywhere_and_bring_in_black() {
    let config = AugmentConfig { pad: 2, ..plain(3) };
    let all = pixels(6, 3);
    for (from, starts) in [(6, 5), (4, 5)] {
        let augment = Augment::new(&config, from, 3, 6).unwrap();
        let source = if from == 6 {
            all.clone()
        } else {
            resample::resize(&pixels(4, 3), 4, Rect::whole(4), 6).unwrap()
        };
        let windows: Vec<Vec<u8>> = (0..starts * starts)
            .map(|i| Planes::window(&source, 6, [i / starts - 2, i % starts - 2], 6).pixels)
            .collect();
        let mut seen = vec![0; windows.len()];
        for index in 0..500 {
            let out = bytes(&train(&augment, index));
            seen[windows.iter().position(|window| *window == out).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| *count > 3), "{seen:?}");
    }
    // From a larger image: any window of the padded one.
    let augment = Augment::new(&AugmentConfig { pad: 1, ..plain(1) }, 5, 1, 3).unwrap();
    let outs: std::collections::HashSet<_> =
        (0..500).map(|index| bytes(&train(&augment, index))).collect();
    assert_eq!(outs.len(), 25);
}

#[test]
fn flips_are_as_frequent_as_asked() {
    for (flip, range) in [(0.0, 0..1), (0.3, 230..370), (1.0, 1000..1001)] {
        let augment = Augment::new(&AugmentConfig { flip, ..plain(1) }, 5, 1, 5).unwrap();
        let mut flipped = Planes { pixels: pixels(5, 1), size: 5 };
        flipped.flip();
        let count = (0..1000).filter(|i| bytes(&train(&augment, *i)) == flipped.pixels).count();
        assert!(range.contains(&count), "{flip}: {count}");
    }
}

#[test]
fn erasing_leaves_zeros_of_the_right_area() {
    let augment = Augment::new(&AugmentConfig { erase: 1.0, ..plain(3) }, 32, 3, 32).unwrap();
    let mut sum = 0;
    for index in 0..200 {
        let out = train(&augment, index);
        let zeros: Vec<usize> = out
            .chunks(32 * 32)
            .map(|plane| plane.iter().filter(|value| **value == 0.0).count())
            .collect();
        assert!(zeros.iter().all(|count| *count == zeros[0]), "all channels: {zeros:?}");
        assert!((10..400).contains(&zeros[0]), "{zeros:?}");
        sum += zeros[0];
    }
    let share = sum as f64 / (200.0 * 1024.0);
    assert!((0.15..0.2).contains(&share), "{share}");
    let tiny = Augment::new(&AugmentConfig { erase: 1.0, ..plain(1) }, 1, 1, 1).unwrap();
    assert!((0..100).all(|index| train(&tiny, index)[0] > 0.0));
}

#[test]
fn the_key_alone_decides() {
    let augment = Augment::new(&full(), 36, 3, 32).unwrap();
    let first: Vec<_> = (0..40).map(|index| train(&augment, index)).collect();
    let again = std::thread::spawn({
        let augment = augment.clone();
        move || (0..40).rev().map(|index| train(&augment, index)).collect::<Vec<_>>()
    });
    assert_eq!(again.join().unwrap().into_iter().rev().collect::<Vec<_>>(), first);
    for (i, one) in first.iter().enumerate() {
        assert!(!first[..i].contains(one), "index {i} is like another");
    }
    let mut other = vec![0.0; augment.out_len()];
    augment.train(&pixels(36, 3), &mut other, (8, 0)).unwrap();
    assert_ne!(other, first[0], "another seed");
}

#[test]
fn the_bits_are_pinned() {
    // One hash over images and a mixed batch: it may change with no compiler and on no machine.
    let augment = Augment::new(&full(), 36, 3, 32).unwrap();
    let mut batch: Vec<f32> = (0..64).flat_map(|index| train(&augment, index)).collect();
    let labels: Vec<usize> = (0..64).map(|row| row % 10).collect();
    let mut weights = augment.weights(&labels, 10).unwrap();
    for index in 0..4 {
        augment.mix(&mut batch, &mut weights, 64, 10, (7, index)).unwrap();
    }
    let all: Vec<u8> = batch.iter().chain(&weights).flat_map(|v| v.to_le_bytes()).collect();
    let hash = "4aa6848a7fb7b8772d00df5f2732df6267ee1c9363c778acf410487724344e80";
    assert_eq!(fs::sha256_bytes(&all), hash);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let message = |from, channels, to, pad| {
        let config = AugmentConfig { pad, ..AugmentConfig::default() };
        Augment::new(&config, from, channels, to).unwrap_err().to_string()
    };
    assert_eq!(message(0, 1, 1, 0), "`from` is 0, expected: from 1 to 16384");
    assert_eq!(message(1, 0, 1, 0), "`channels` is 0, expected: from 1 to 256");
    assert_eq!(message(1, 1, 1 << 20, 0), "`to` is 1048576, expected: from 1 to 16384");
    assert_eq!(
        message(8, 1, 4, 4),
        "`data.augment.pad` is 4, expected: less than the 4 pixels of an image"
    );
    let augment = Augment::new(&full(), 4, 3, 2).unwrap();
    let wrong = |result: Result<()>| result.unwrap_err().to_string();
    let out = &mut [0.0; 12];
    assert_eq!(wrong(augment.train(&[0; 47], out, (0, 0))), "`pixels` has 47 values, expected: 48");
    assert_eq!(wrong(augment.eval(&[0; 48], &mut out[1..])), "`out` has 11 values, expected: 12");
    assert_eq!(
        wrong(augment.mix(out, &mut [], 2, 5, (0, 0))),
        "`pixels` has 12 values, expected: 24"
    );
    assert_eq!(
        wrong(augment.mix(out, &mut [], 1, 5, (0, 0))),
        "`weights` has 0 values, expected: 5"
    );
    let huge = wrong(augment.mix(out, &mut [], usize::MAX, 5, (0, 0)));
    assert_eq!(huge, format!("`pixels` has 12 values, expected: {}", usize::MAX));
    augment.mix(&mut [], &mut [], 0, usize::MAX, (0, 0)).unwrap();
    let label = augment.weights(&[0, 5], 5).unwrap_err().to_string();
    assert_eq!(label, "row 1 has label 5, expected: below 5");
}

#[test]
fn labels_are_smoothed() {
    let config = AugmentConfig { smoothing: 0.1, ..AugmentConfig::default() };
    let smooth = Augment::new(&config, 1, 1, 1).unwrap().weights(&[1, 0], 4).unwrap();
    assert_eq!(smooth, [0.025, 0.925, 0.025, 0.025, 0.925, 0.025, 0.025, 0.025]);
    let hard = Augment::new(&AugmentConfig::default(), 1, 1, 1).unwrap();
    assert_eq!(hard.weights(&[1], 2).unwrap(), [0.0, 1.0]);
    assert!(hard.weights(&[], 0).unwrap().is_empty());
    assert!(hard.weights(&[0], 0).is_err());
}

#[test]
fn both_ways_of_mixing_are_drawn_if_both_are_on() {
    let config = AugmentConfig { mixup: 1.0, cutmix: 1.0, ..AugmentConfig::default() };
    let augment = Augment::new(&config, 8, 1, 8).unwrap();
    let cut = |index| {
        let mut batch = [vec![0.0; 64], vec![1.0; 64]].concat();
        augment.mix(&mut batch, &mut [1.0, 0.0, 0.0, 1.0], 2, 2, (0, index)).unwrap();
        batch.iter().all(|value| *value == 0.0 || *value == 1.0)
    };
    let cuts = (0..400).filter(|index| cut(*index)).count();
    assert!((150..250).contains(&cuts), "{cuts}");
}

proptest! {
    #[test]
    fn mixed_labels_say_what_the_images_hold(
        rows in 0_usize..6,
        channels in 1_usize..4,
        size in 1_usize..9,
        way in 0..4,
        seed: u64,
    ) {
        let alpha = |on| if on { 1.0 } else { 0.0 };
        let config = AugmentConfig {
            mixup: alpha(way & 1 == 1),
            cutmix: alpha(way & 2 == 2),
            ..AugmentConfig::default()
        };
        let augment = Augment::new(&config, size, channels, size).unwrap();
        // Row r is of class r, and all its values are r: the mean of an image is what its labels
        // weigh.
        let area = channels * size * size;
        let mut batch: Vec<f32> = (0..rows * area).map(|i| (i / area) as f32).collect();
        let labels: Vec<usize> = (0..rows).collect();
        let mut weights = augment.weights(&labels, rows).unwrap();
        let before = (batch.clone(), weights.clone());
        augment.mix(&mut batch, &mut weights, rows, rows, (seed, 0)).unwrap();
        for (row, (image, weights)) in
            batch.chunks(area).zip(weights.chunks(rows.max(1))).enumerate()
        {
            prop_assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            let mean = image.iter().sum::<f32>() / area as f32;
            let weighed: f32 = weights.iter().zip(0..).map(|(w, r): (_, u8)| w * f32::from(r)).sum();
            prop_assert!((mean - weighed).abs() < 1e-4, "row {}: {} and {}", row, mean, weighed);
        }
        if way == 0 || rows < 2 {
            prop_assert_eq!((batch, weights), before);
        }
    }

    #[test]
    fn any_sizes_and_recipe_give_finite_values(
        from in 1_usize..20,
        to in 1_usize..20,
        channels in 1_usize..5,
        n in 1_usize..6,
        magnitude in 0.0..=10.0,
        pad in 0_usize..4,
        index: u64,
    ) {
        let config = AugmentConfig {
            rand_augment: Some(RandAugment { n, magnitude }),
            pad: pad.min(to - 1),
            mean: None,
            std: None,
            ..full()
        };
        let augment = Augment::new(&config, from, channels, to).unwrap();
        prop_assert!(train(&augment, index).iter().all(|value| value.abs() <= 1.0));
        let without_crop = AugmentConfig { crop_scale: None, ..config };
        let augment = Augment::new(&without_crop, from, channels, to).unwrap();
        prop_assert!(train(&augment, index).iter().all(|value| value.abs() <= 1.0));
        prop_assert!(eval(&augment).iter().all(|value| value.abs() <= 1.0));
    }
}
