//! Two damaged weights files and the index over them: each tensor is viewed and copied, or something is
//! refused.

#![no_main]

use std::{io, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use matformer_core::{Dtype, fs};
use matformer_fuzz::{Edit, apply, folder};
use matformer_nn::weights::{Cut, INDEX, StoredTensor, WEIGHTS, WeightFiles, write_folder};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

const FILES: [&str; 3] =
    [INDEX, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

static WHOLE: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let tensor = |name: &str, dtype: Dtype, shape: [usize; 2]| {
        let bytes = vec![0x3d; shape[0] * shape[1] * dtype.size()];
        StoredTensor::new(name, dtype, shape.to_vec(), move |out| out.write_all(&bytes))
    };
    let tensors = vec![
        tensor("a", Dtype::F32, [4, 3]),
        tensor("b", Dtype::Bf16, [5, 2]),
        tensor("c", Dtype::F16, [1, 7]),
    ];
    write_folder(FOLDER.path(), tensors, 50).unwrap();
    FILES.map(|name| fs::read(FOLDER.path().join(name)).unwrap())
});

fuzz_target!(|input: (bool, Vec<Edit>)| {
    let (one, edits) = input;
    let mut files = WHOLE.clone();
    apply(&mut files, &edits);
    for (name, bytes) in FILES.iter().zip(&files) {
        std::fs::write(FOLDER.path().join(name), bytes).unwrap();
    }
    if one {
        // Without the index, the first file alone.
        std::fs::remove_file(FOLDER.path().join(INDEX)).unwrap();
        std::fs::write(FOLDER.path().join(WEIGHTS), &files[1]).unwrap();
    }
    if let Err(error) = look() {
        let _ = (error.to_string(), error.hint());
    }
});

/// Opens the folder and copies all tensors, whole and in part.
fn look() -> matformer_nn::Result<()> {
    let files = WeightFiles::open(FOLDER.path())?;
    files.hash();
    let tensors = files.tensors()?;
    tensors.dtype();
    for name in tensors.unread() {
        let view = tensors.view(name)?;
        let whole = Cut::whole(&view);
        let mut copied = Vec::new();
        if view.write(&whole, &mut copied).is_ok() {
            assert_eq!(copied, view.data);
        }
        let half: Vec<usize> =
            whole.kept.iter().enumerate().map(|(i, n)| if i < 2 { n / 2 } else { *n }).collect();
        for dtype in [Dtype::F32, Dtype::F16] {
            // What is written for a shape of nearly nothing but zeros is as large as the shape.
            let cut = Cut { kept: half.clone(), shape: half.clone(), dtype };
            let _ = view.write(&cut, &mut io::sink());
        }
    }
    Ok(())
}
