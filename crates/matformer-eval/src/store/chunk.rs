//! A file of the store: losses of some submodels on some documents.

use std::collections::HashMap;

use matformer_core::Submodel;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::Unit;
use crate::{Beside, DocumentLoss, Error, Evaluation, Hits, Result};

/// Form of the files.
const FORMAT: &str = "1";

/// Losses as they are kept.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Places of documents in a row.
    units: HashMap<Unit, usize>,
    /// Rows of submodels.
    rows: HashMap<Submodel, usize>,
    /// `[submodels, units]`.
    nats: Vec<f64>,
    /// The same, of targets that are classes.
    hits: Option<[Vec<u8>; 2]>,
    /// The same, beside a reference.
    beside: Option<Vec<Beside>>,
}

impl Chunk {
    /// What was measured of a submodel; nothing if it is not in this chunk.
    pub(super) fn row(&self, submodel: &Submodel) -> Option<Row<'_>> {
        Some(Row { chunk: self, first: self.rows.get(submodel)? * self.units.len() })
    }

    pub(super) fn submodels(&self) -> impl Iterator<Item = &Submodel> {
        self.rows.keys()
    }

    /// The bytes of a file with what was measured on these units.
    pub(super) fn to_file(units: &[Unit], found: &Evaluation) -> Result<Vec<u8>> {
        let unfit = |message: String| Error::Store { message };
        let losses = || found.submodels.iter().flat_map(|of| &of.documents);
        let widths = found.submodels.iter().flat_map(|of| of.submodel.widths());
        let widths: Vec<u8> = widths.flat_map(|width| (*width as u64).to_le_bytes()).collect();
        let places: Vec<u8> = units.iter().flat_map(|unit| unit.to_bytes()).collect();
        let nats: Vec<u8> = losses().flat_map(|loss| loss.nats.to_le_bytes()).collect();
        let hits = |of: fn(&Hits) -> usize| -> Result<Vec<u8>> {
            let found = losses().filter_map(|loss| loss.hits.as_ref()).map(of);
            let bytes = found.map(|hits| {
                u8::try_from(hits).map_err(|_| unfit(format!("{hits} hits, expected at most 255")))
            });
            bytes.collect()
        };
        let (n, m) = (found.submodels.len(), units.len());
        let n_layers = found.submodels.first().map_or(0, |of| of.submodel.widths().len());
        let mut tensors = vec![
            ("widths", Dtype::U64, vec![n, n_layers], widths),
            ("documents", Dtype::U64, vec![m, 2], places),
            ("nats", Dtype::F64, vec![n, m], nats),
        ];
        if losses().any(|loss| loss.hits.is_some()) {
            tensors.push(("top1", Dtype::U8, vec![n, m], hits(|hits| hits.top1)?));
            tensors.push(("top5", Dtype::U8, vec![n, m], hits(|hits| hits.top5)?));
        }
        let beside: Vec<Beside> = losses().filter_map(|loss| loss.beside).collect();
        if !beside.is_empty() {
            let equal = beside.iter().flat_map(|of| (of.equal as u64).to_le_bytes()).collect();
            let nats = beside.iter().flat_map(|of| of.reverse_nats.to_le_bytes()).collect();
            tensors.push(("equal", Dtype::U64, vec![n, m], equal));
            tensors.push(("reverse_nats", Dtype::F64, vec![n, m], nats));
            let own = beside.iter().map(|of| of.own).collect::<Option<Vec<_>>>();
            if let Some(own) = own {
                let own = own.into_iter().flat_map(|equal| (equal as u64).to_le_bytes()).collect();
                tensors.push(("own", Dtype::U64, vec![n, m], own));
            }
        }
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| {
                Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let about = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
        let file = views.and_then(|views| safetensors::serialize(views, Some(about)));
        file.map_err(|error| unfit(error.to_string()))
    }

    /// Reads a file; nothing if it is not one of the store's.
    pub(super) fn from_file(bytes: &[u8]) -> Option<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
        if header.metadata().as_ref()?.get("format")? != FORMAT {
            return None;
        }
        let file = SafeTensors::deserialize(bytes).ok()?;
        let (widths, n_layers) = numbers(&file, "widths")?;
        let (places, 2) = numbers(&file, "documents")? else { return None };
        let (nats, [n, m]) = reals(&file, "nats")?;
        let submodels = widths.chunks(n_layers.max(1)).map(|widths| Submodel::new(widths.to_vec()));
        let rows: HashMap<_, _> = submodels.zip(0..).collect();
        let units = places.chunks(2).map(|unit| Unit { start: unit[0], targets: unit[1] });
        let units: HashMap<_, _> = units.zip(0..).collect();
        let bytes = |name: &str| file.tensor(name).ok().map(|tensor| tensor.data().to_vec());
        let hits = bytes("top1").zip(bytes("top5")).map(|(top1, top5)| [top1, top5]);
        let own = numbers(&file, "own").map(|(own, _)| own);
        let beside = numbers(&file, "equal").zip(reals(&file, "reverse_nats"));
        let beside: Option<Vec<Beside>> = beside.map(|((equal, _), (nats, _))| {
            let of = |(at, (equal, reverse_nats))| {
                let own = own.as_ref().and_then(|own| own.get(at).copied());
                Beside { equal, reverse_nats, own }
            };
            equal.into_iter().zip(nats).enumerate().map(of).collect()
        });
        let fits = rows.len() == n
            && units.len() == m
            && nats.iter().all(|nats| nats.is_finite())
            && hits.iter().flatten().all(|hits| hits.len() == n * m)
            && beside.iter().all(|beside| beside.len() == n * m)
            && own.iter().all(|own| own.len() == n * m);
        fits.then_some(Self { units, rows, nats, hits, beside })
    }
}

/// The result for one document.
pub(super) struct Loss {
    nats: f64,
    hits: Option<Hits>,
    beside: Option<Beside>,
}

/// Losses of a submodel in a chunk.
pub(super) struct Row<'a> {
    chunk: &'a Chunk,
    first: usize,
}

impl Row<'_> {
    /// That of a document; nothing if it is not in the chunk.
    pub(super) fn get(&self, unit: &Unit) -> Option<Loss> {
        let Chunk { units, nats, hits, beside, .. } = self.chunk;
        let at = self.first + units.get(unit)?;
        let hits = hits.as_ref();
        let hits = hits.map(|[top1, top5]| Hits { top1: top1[at].into(), top5: top5[at].into() });
        let beside = beside.as_ref().map(|beside| beside[at]);
        Some(Loss { nats: nats[at], hits, beside })
    }
}

/// A matrix of numbers, and its shape.
fn reals(file: &SafeTensors<'_>, name: &str) -> Option<(Vec<f64>, [usize; 2])> {
    let tensor = file.tensor(name).ok()?;
    let (&[n, m], Dtype::F64) = (tensor.shape(), tensor.dtype()) else { return None };
    let values = tensor.data().as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
    Some((values.collect(), [n, m]))
}

/// A matrix of whole numbers, and how long its rows are.
fn numbers(file: &SafeTensors<'_>, name: &str) -> Option<(Vec<usize>, usize)> {
    let tensor = file.tensor(name).ok()?;
    let (&[_, row], Dtype::U64) = (tensor.shape(), tensor.dtype()) else { return None };
    let values = tensor.data().as_chunks::<8>().0.iter();
    let values = values.map(|bytes| usize::try_from(u64::from_le_bytes(*bytes)).ok());
    Some((values.collect::<Option<_>>()?, row))
}

impl Unit {
    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(self.start as u64).to_le_bytes());
        bytes[8..].copy_from_slice(&(self.targets as u64).to_le_bytes());
        bytes
    }
}

/// A document as it was measured.
pub(super) fn of_unit(unread: &DocumentLoss, targets: usize, found: Loss) -> DocumentLoss {
    let Loss { nats, hits, beside } = found;
    DocumentLoss { nats, tokens: targets, hits, beside, ..*unread }
}
