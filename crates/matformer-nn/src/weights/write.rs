//! Weights files, written.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use burn::{module::Module, tensor::DType};
use matformer_core::{Dtype, fs};
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use super::{INDEX, WEIGHTS, values};
use crate::{
    Error, Result,
    params::{self, Parameter},
};

/// Bytes of a weights file above which several are written, where nothing else is asked for.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor that is to be written. Its bytes are asked for when it is.
pub struct StoredTensor<'a> {
    /// Its name in the file.
    pub name: String,
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// What writes its rows, one part after the other.
    parts: Vec<Part<'a>>,
}

type Part<'a> = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + 'a>;

impl<'a> StoredTensor<'a> {
    /// A tensor whose numbers `write` writes: row-major and little-endian, in this dtype, exactly as
    /// many as the shape says. An [`Error`] inside of the [`io::Error`] that it returns
    /// ([`io::Error::other`]) is what [`write_folder`] returns.
    pub fn new(
        name: impl Into<String>,
        dtype: Dtype,
        shape: Vec<usize>,
        write: impl Fn(&mut dyn Write) -> io::Result<()> + 'a,
    ) -> Self {
        Self { name: name.into(), dtype, shape, parts: vec![Box::new(write)] }
    }

    /// Adds the rows of another tensor behind its own.
    pub fn append(&mut self, other: Self) {
        self.shape[0] += other.shape[0];
        self.parts.extend(other.parts);
    }

    /// Its values, row-major, out of what it would write.
    ///
    /// # Errors
    /// What writing it returns.
    pub fn floats(&self) -> Result<Vec<f32>> {
        let mut bytes = Vec::with_capacity(self.bytes() as usize);
        for part in &self.parts {
            part(&mut bytes).map_err(fs::error(Path::new(&self.name), "read"))?;
        }
        Ok(values::floats(self.dtype, &bytes))
    }

    /// Number of its bytes.
    pub fn bytes(&self) -> u64 {
        let numbers = self.shape.iter().fold(1, |n: u64, size| n.saturating_mul(*size as u64));
        numbers.saturating_mul(self.dtype.size() as u64)
    }
}

/// Every float parameter of a model as `dtype`, under its name on disk.
pub fn stored<M: Module>(
    model: &M,
    dtype: Dtype,
    name: impl Fn(&str) -> String,
) -> Vec<StoredTensor<'static>> {
    let stored = |parameter: Parameter| {
        let (name, shape) = (name(&parameter.path), parameter.shape.clone());
        StoredTensor::new(name, dtype, shape, move |out| write_values(&parameter, dtype, out))
    };
    params::all(model).into_iter().map(stored).collect()
}

/// Writes the values of a parameter in their order.
fn write_values(parameter: &Parameter, dtype: Dtype, out: &mut dyn Write) -> io::Result<()> {
    let data = parameter.read().map_err(io::Error::other)?;
    // Every backend but one of another default gives f32, which is then not copied.
    let data = if data.dtype() == DType::F32 { data } else { data.convert::<f32>() };
    let values = data.as_bytes().as_chunks().0.iter().copied().map(f32::from_ne_bytes);
    values::write(values, dtype, out)
}

/// Writes tensors into a folder, one at a time, and returns the hash that
/// [`WeightFiles::hash`](super::WeightFiles::hash) gives of them: SHA-256 over the files. Up to
/// `shard_bytes` bytes are one file, [`WEIGHTS`]; more are several, none of which is larger unless it
/// holds a single tensor, and their index, under the names that Hugging Face gives them. Each file
/// appears whole or not at all, in place of one that is there.
///
/// # Errors
/// When a file cannot be written, two tensors have one name, or a tensor cannot be read or has
/// another number of bytes than its shape says.
pub fn write_folder(
    dir: &Path,
    mut tensors: Vec<StoredTensor<'_>>,
    shard_bytes: u64,
) -> Result<String> {
    // By size of the numbers, so that each is aligned in the file.
    tensors.sort_by(|a, b| (b.dtype.size(), &a.name).cmp(&(a.dtype.size(), &b.name)));
    check_names(dir, &tensors)?;
    let mut hasher = fs::Hasher::default();
    let files = split(tensors, shard_bytes);
    if let [tensors] = &files[..] {
        write_file(&dir.join(WEIGHTS), tensors, &mut hasher)?;
        return Ok(hasher.finish());
    }
    // The hash is over the files in the order of their names.
    let digits = files.len().to_string().len().max(5);
    let (mut weight_map, mut total) = (Map::new(), 0u64);
    for (i, tensors) in files.iter().enumerate() {
        let name = format!("model-{:0digits$}-of-{:0digits$}.safetensors", i + 1, files.len());
        write_file(&dir.join(&name), tensors, &mut hasher)?;
        total += tensors.iter().map(StoredTensor::bytes).sum::<u64>();
        weight_map.extend(tensors.iter().map(|t| (t.name.clone(), Value::from(name.as_str()))));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    fs::write_json(dir.join(INDEX), "an index of weights", &index)?;
    Ok(hasher.finish())
}

fn check_names(dir: &Path, tensors: &[StoredTensor<'_>]) -> Result<()> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Error::Tensor {
            path: dir.to_owned(),
            tensor: pair[0].to_owned(),
            found: "two tensors of this name".to_owned(),
            expected: "each tensor once".to_owned(),
        }),
    }
}

/// The tensors of each file, in their order; at least one file.
fn split(tensors: Vec<StoredTensor<'_>>, shard_bytes: u64) -> Vec<Vec<StoredTensor<'_>>> {
    let (mut files, mut filled) = (vec![Vec::new()], 0u64);
    for tensor in tensors {
        let bytes = tensor.bytes();
        filled = filled.saturating_add(bytes);
        match files.last_mut() {
            Some(file) if file.is_empty() || filled <= shard_bytes => file.push(tensor),
            _ => {
                filled = bytes;
                files.push(vec![tensor]);
            }
        }
    }
    files
}

/// Writes one weights file, and its bytes into the hash.
fn write_file(path: &Path, tensors: &[StoredTensor<'_>], hasher: &mut fs::Hasher) -> Result<()> {
    let header = header(tensors).map_err(|found| Error::File {
        path: path.to_owned(),
        found,
        expected: "tensors that fit the safetensors format".to_owned(),
    })?;
    let mut write = |out: &mut dyn Write| {
        let mut out = BufWriter::new(Hashed { out, hasher, written: 0 });
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        let mut end = 8 + header.len() as u64;
        for tensor in tensors {
            tensor.parts.iter().try_for_each(|part| part(&mut out))?;
            out.flush()?;
            let found = out.get_ref().written - end;
            end += found;
            if found != tensor.bytes() {
                return Err(io::Error::other(Error::Tensor {
                    path: path.to_owned(),
                    tensor: tensor.name.clone(),
                    found: format!("{found} bytes"),
                    expected: format!("{}, of shape {:?}", tensor.bytes(), tensor.shape),
                }));
            }
        }
        Ok(())
    };
    Ok(fs::write_atomic_with(path, |out| write(out))?)
}

/// Passes bytes on, and hashes and counts them.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hasher: &'a mut fs::Hasher,
    written: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The JSON in front of the values, padded so that they are aligned.
fn header(tensors: &[StoredTensor<'_>]) -> Result<Vec<u8>, String> {
    let mut end = 0;
    let info = |tensor: &StoredTensor<'_>| {
        let (begin, shape) = (end, tensor.shape.clone());
        end += tensor.bytes() as usize;
        let dtype = values::to_stored(tensor.dtype);
        (tensor.name.clone(), TensorInfo { dtype, shape, data_offsets: (begin, end) })
    };
    let tensors = tensors.iter().map(info).collect();
    let format = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let metadata = Metadata::new(Some(format), tensors).map_err(|e| e.to_string())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| e.to_string())?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::WeightFiles;

    /// A tensor of `n` numbers, all of which have the bytes of `value`.
    fn tensor(name: &str, dtype: Dtype, n: usize, value: f32) -> StoredTensor<'static> {
        StoredTensor::new(name, dtype, vec![n], move |out| {
            values::write(vec![value; n], dtype, out)
        })
    }

    /// Names of the files in a folder.
    fn files(dir: &Path) -> Vec<String> {
        let paths = fs::read_dir(dir).unwrap();
        paths.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    fn some() -> Vec<StoredTensor<'static>> {
        vec![
            tensor("b", Dtype::Bf16, 3, 1.5),
            tensor("c", Dtype::F32, 2, 2.5),
            tensor("a", Dtype::F16, 5, 3.5),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_has_the_hash_whatever_the_files() {
        for (limit, expected) in [(u64::MAX, 1), (24, 1), (23, 2), (15, 3), (1, 3)] {
            let dir = tempfile::tempdir().unwrap();
            let hash = write_folder(dir.path(), some(), limit).unwrap();
            let weights = WeightFiles::open(dir.path()).unwrap();
            assert_eq!(hash, weights.hash(), "{limit}");
            let found = files(dir.path());
            match expected {
                1 => assert_eq!(found, [WEIGHTS]),
                n => {
                    let last = format!("model-0000{n}-of-0000{n}.safetensors");
                    assert_eq!((found.len(), &found[n - 1]), (n + 1, &last), "{limit}");
                    assert_eq!(found[n], INDEX);
                }
            }
            let tensors = weights.tensors().unwrap();
            assert_eq!(tensors.len(), 3);
            for (name, dtype, n, value) in [
                ("a", Dtype::F16, 5, 3.5),
                ("b", Dtype::Bf16, 3, 1.5),
                ("c", Dtype::F32, 2, 2.5f32),
            ] {
                let view = tensors.view(name).unwrap();
                assert_eq!((view.dtype, view.shape), (dtype, &[n][..]));
                assert_eq!(view.floats(), vec![value; n]);
                assert_eq!(view.data.as_ptr() as usize % dtype.size(), 0, "aligned");
            }
        }
    }

    #[test]
    fn an_index_has_the_form_that_hugging_face_reads() {
        let dir = tempfile::tempdir().unwrap();
        write_folder(dir.path(), some(), 15).unwrap();
        let index: Value =
            serde_json::from_slice(&fs::read(dir.path().join(INDEX)).unwrap()).unwrap();
        let shard = |n| format!("model-0000{n}-of-00003.safetensors");
        assert_eq!(
            index,
            json!({
                "metadata": { "total_size": 24 },
                "weight_map": { "a": shard(2), "b": shard(3), "c": shard(1) },
            })
        );
    }

    #[test]
    fn what_cannot_be_written_is_named_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = |tensors| write_folder(dir.path(), tensors, u64::MAX).unwrap_err().to_string();
        let twice = vec![tensor("a", Dtype::F32, 1, 0.0), tensor("a", Dtype::F16, 1, 0.0)];
        assert!(
            error(twice)
                .ends_with("tensor `a`: two tensors of this name; expected each tensor once")
        );
        let short = StoredTensor::new("a", Dtype::F32, vec![2, 3], |out| out.write_all(&[0; 23]));
        assert!(error(vec![short]).ends_with("tensor `a`: 23 bytes; expected 24, of shape [2, 3]"));
        let failed = StoredTensor::new("a", Dtype::F32, vec![1], |_| {
            Err(io::Error::other(Error::read("x", "gone")))
        });
        assert_eq!(error(vec![failed]), "reading `x` from the device: gone");
        let failed = StoredTensor::new("a", Dtype::F32, vec![1], |_| Err(io::Error::other("full")));
        assert!(error(vec![failed]).starts_with("cannot write `"));
        assert!(files(dir.path()).is_empty());
    }
}
