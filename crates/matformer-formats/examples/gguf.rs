//! A GGUF file as a folder of Hugging Face:
//! `cargo run --example gguf -- model.gguf folder`

use std::{error::Error, fs, path::Path};

use matformer_formats::gguf::Gguf;
use safetensors::{Dtype, View, serialize_to_file};

/// The values of a tensor, which are read when they are written.
struct Lazy<'a> {
    gguf: &'a Gguf,
    name: &'a str,
    shape: &'a [usize],
    dtype: Dtype,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        let mut data = Vec::new();
        self.gguf.write_tensor(self.name, &mut data).expect("a tensor of finite values");
        data.into()
    }
    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, folder] = &arguments[..] else { return Err("gguf FILE FOLDER".into()) };
    let gguf = Gguf::open(Path::new(file))?;
    let folder = Path::new(folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("config.json"), serde_json::to_string_pretty(gguf.config())?)?;
    for (name, bytes) in gguf.files()? {
        fs::write(folder.join(name), bytes)?;
    }
    let tensors = gguf.tensors().iter().map(|info| {
        let dtype = match info.dtype {
            matformer_core::Dtype::F32 => Dtype::F32,
            matformer_core::Dtype::F16 => Dtype::F16,
            matformer_core::Dtype::Bf16 => Dtype::BF16,
        };
        (&info.name, Lazy { gguf: &gguf, name: &info.name, shape: &info.shape, dtype })
    });
    let format = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    serialize_to_file(tensors, Some(format), &folder.join("model.safetensors"))?;
    Ok(())
}
