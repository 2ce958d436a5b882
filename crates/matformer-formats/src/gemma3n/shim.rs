//! Until the writer of weights is there.
use std::{collections::BTreeMap, io, path::Path};

use matformer_nn::{Error, Result};
use safetensors::{Dtype, SafeTensors};

pub struct TensorRef<'a> {
    pub dtype: Dtype,
    pub shape: &'a [usize],
    pub data: &'a [u8],
}
pub struct WeightFiles(Vec<(std::path::PathBuf, Vec<u8>)>);
impl WeightFiles {
    pub fn open(dir: &Path) -> Result<Self> {
        let mut files: Vec<_> = matformer_core::fs::read_dir(dir)?;
        files.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
        let read = |p: std::path::PathBuf| Ok((p.clone(), matformer_core::fs::read(p)?));
        Ok(Self(files.into_iter().map(read).collect::<Result<_>>()?))
    }
    pub fn tensors(&self) -> Result<Tensors<'_>> {
        let mut found = BTreeMap::new();
        for (_, bytes) in &self.0 {
            for (name, view) in
                SafeTensors::deserialize(bytes).unwrap().iter().map(|(n, v)| (n.to_owned(), v))
            {
                found.insert(name, (view.dtype(), view.shape().to_vec(), view.data()));
            }
        }
        Ok(Tensors { first: &self.0[0].0, found })
    }
}
pub struct Tensors<'a> {
    first: &'a Path,
    found: BTreeMap<String, (Dtype, Vec<usize>, &'a [u8])>,
}
impl Tensors<'_> {
    pub fn first(&self) -> &Path {
        self.first
    }
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.found.keys().map(String::as_str)
    }
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.found.get(name)?.1)
    }
    pub fn view(&self, name: &str) -> Option<TensorRef<'_>> {
        let (dtype, shape, data) = self.found.get(name)?;
        Some(TensorRef { dtype: *dtype, shape, data })
    }
}
type Write<'a> = Box<dyn Fn(&mut dyn io::Write) -> io::Result<()> + 'a>;
pub struct StoredTensor<'a>(String, Dtype, Vec<usize>, Write<'a>);
impl<'a> StoredTensor<'a> {
    pub fn new(
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        write: impl Fn(&mut dyn io::Write) -> io::Result<()> + 'a,
    ) -> Self {
        Self(name, dtype, shape, Box::new(write))
    }
}
pub fn write_folder(dir: &Path, tensors: Vec<StoredTensor<'_>>, _: u64) -> Result<String> {
    let mut all = Vec::new();
    for StoredTensor(name, dtype, shape, write) in tensors {
        let mut bytes = Vec::new();
        write(&mut bytes).map_err(|e| Error::read(&name, e))?;
        all.push((name, dtype, shape, bytes));
    }
    let views = all.iter().map(|(n, d, s, b)| {
        (n.clone(), safetensors::tensor::TensorView::new(*d, s.clone(), b).unwrap())
    });
    let meta = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let bytes = safetensors::serialize(views, Some(meta)).unwrap();
    std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
    Ok(String::new())
}
