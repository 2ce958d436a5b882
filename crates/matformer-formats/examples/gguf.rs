//! A GGUF file as a folder of Hugging Face, and the folder as a GGUF file again:
//! `cargo run -p matformer-formats --example gguf MODEL.gguf FOLDER AGAIN.gguf q8_0`.

use std::{error::Error, fs, io::Write, path::Path, time::Instant};

use matformer_formats::gguf::{self, Gguf, GgufModel};
use matformer_lm::MatLm;
use matformer_nn::{
    ConfigFile, Folder, ModelConfig,
    weights::{self, Cut, StoredTensor, WeightFiles},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, folder, again @ ..] = &arguments[..] else {
        return Err("gguf MODEL.gguf FOLDER [AGAIN.gguf DTYPE]".into());
    };
    let start = Instant::now();
    if Path::new(file).exists() {
        read(Path::new(file), Path::new(folder))?;
        println!("read in {:.1} s", start.elapsed().as_secs_f64());
    }
    if let [again, dtype] = again {
        let start = Instant::now();
        let written = write(Path::new(folder), Path::new(again), dtype.parse()?)?;
        println!("{written:?} in {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Writes a file as a folder.
fn read(file: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let gguf = Gguf::open(file)?;
    fs::create_dir_all(folder)?;
    fs::write(folder.join("config.json"), serde_json::to_string_pretty(gguf.config())?)?;
    for (name, bytes) in gguf.files()? {
        fs::write(folder.join(name), bytes)?;
    }
    let tensors = gguf.tensors().iter().map(|info| {
        let (gguf, name) = (&gguf, &info.name);
        let write = move |out: &mut dyn Write| gguf.write_tensor(name, out);
        StoredTensor::new(name.clone(), info.dtype, info.shape.clone(), write)
    });
    weights::write_folder(folder, tensors.collect(), weights::SHARD_BYTES)?;
    Ok(())
}

/// Writes a folder as a file.
fn write(
    folder: &Path,
    file: &Path,
    dtype: gguf::GgufDtype,
) -> Result<gguf::Written, Box<dyn Error>> {
    let config = MatLm::read_config(&ConfigFile::read(folder)?)?;
    let model = <MatLm as Folder>::unset(&config, config.space()?, &Default::default())?;
    let files = WeightFiles::open(folder)?;
    let tensors = files.tensors()?;
    let mut list = Vec::new();
    for name in tensors.names() {
        let view = tensors.view(name)?;
        let write = move |out: &mut dyn Write| view.write(&Cut::whole(&view), out);
        list.push(StoredTensor::new(name, view.dtype, view.shape.to_vec(), write));
    }
    let model = GgufModel {
        model: &model,
        name: "again",
        tokenizer_dir: folder,
        tokenizer_config: None,
        facts: None,
    };
    Ok(gguf::write(file, &model, dtype, list)?)
}
