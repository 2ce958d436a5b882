//! Images and labels as IDX, and a prepared file of images, damaged: read to the end, or refused.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use matformer_data::{ImageConfig, ImageSet, ImageShape, prepare_images};
use matformer_fuzz::{Edit, apply, folder};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

const SHAPE: ImageShape = ImageShape { size: 2, channels: 1 };
const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

fn idx(magic: u8, sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, magic];
    sizes.iter().for_each(|size| file.extend(size.to_be_bytes()));
    file.extend(values);
    file
}

/// Three images, of which two are of one class, twice; and a prepared file.
static WHOLE: LazyLock<[Vec<u8>; 5]> = LazyLock::new(|| {
    let images = idx(3, &[3, 2, 2], &[7; 12]);
    let labels = idx(1, &[3], &[0, 1, 1]);
    let path = FOLDER.path().join("whole.bin");
    ImageSet::write(&path, SHAPE, 2, [(0, [1; 4]), (1, [2; 4])]).unwrap();
    let set = std::fs::read(path).unwrap();
    [images.clone(), labels.clone(), images, labels, set]
});

fuzz_target!(|edits: Vec<Edit>| {
    let mut files = WHOLE.clone();
    apply(&mut files, &edits);
    let [folder, cache] = ["idx", "cache"].map(|name| FOLDER.path().join(name));
    let _ = std::fs::remove_dir_all(&cache);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, file) in NAMES.iter().zip(&files) {
        std::fs::write(folder.join(name), file).unwrap();
    }
    let config = ImageConfig { path: Some(folder.into()), ..ImageConfig::default() };
    match prepare_images(&config, SHAPE, None, &cache, &mut |_| {}) {
        Ok(prepared) => {
            let set = prepared.train().unwrap();
            assert!((0..set.len()).all(|i| set.label(i) < set.classes().len()));
        }
        Err(error) => drop((error.to_string(), error.hint())),
    }
    let path = FOLDER.path().join("set.bin");
    std::fs::write(&path, &files[4]).unwrap();
    match ImageSet::open(&path, vec!["a".into(), "b".into()]) {
        Ok(set) => assert!((0..set.len()).all(|i| set.label(i) < 2 && !set.pixels(i).is_empty())),
        Err(error) => drop((error.to_string(), error.hint())),
    }
});
