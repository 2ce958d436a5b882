//! What was measured of a model, document by document, in its folder: nothing is measured twice.

mod chunk;
mod helping;
mod texts;

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    path::{Path, PathBuf},
};

use matformer_core::{Submodel, fs};
use matformer_exchange::Exchange;

use self::chunk::{Chunk, Loss, Row, of_unit};
pub use self::texts::{Generated, Texts};
use crate::{DocumentLoss, Error, Evaluation, Result, SubmodelLosses, evaluate::MANY};

/// A document, or the beginning of one, in the held-out data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// Where it begins: a token of the shard, the place of an image.
    pub start: usize,
    /// Targets of it that count.
    pub targets: usize,
}

/// Held-out data on which submodels of a model are measured, document by document. What a document comes to
/// does not depend on which others are measured with it.
pub trait HeldOutSet<M> {
    /// Each document, and its loss before it is read.
    fn units(&self) -> Vec<(Unit, DocumentLoss)>;

    /// Whether these are all documents, from beginning to end.
    fn is_whole(&self) -> bool;

    /// Length of the windows that they are cut into, of text.
    fn context(&self) -> Option<usize>;

    /// About how many targets a file is of.
    fn piece(&self) -> usize;

    /// Measures submodels on those of the documents at `places`, ascending. `progress(done, total)` counts targets,
    /// once per forward pass.
    ///
    /// # Errors
    /// As [`measure`](crate::measure).
    fn measure(
        &self,
        model: &M,
        places: &[usize],
        submodels: &[Submodel],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluation>;
}

/// Measurements that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreKey<'a> {
    /// Hash of the model's weights.
    pub weights: &'a str,
    /// Hash of the held-out data, and of the tokenizer where it is text.
    pub data: &'a str,
    /// Length of the windows that text is cut into.
    pub context: Option<usize>,
}

/// Losses of one model's submodels on one set of held-out documents: those that its folder has, and those that are
/// measured now. What each forward pass finds is a file of its own, written at once, so that whatever ends a
/// measurement loses no more than one, and processes that measure at the same time lose nothing.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    chunks: Vec<Chunk>,
    /// Files that were looked at.
    seen: HashSet<OsString>,
    unreadable: Vec<PathBuf>,
    not_kept: Option<Error>,
    /// Those that measure together.
    ranks: Exchange,
}

/// Submodels that have the same documents to be measured on.
type Groups = BTreeMap<Vec<usize>, Vec<Submodel>>;

impl Store {
    /// The folder of stores in a model folder.
    pub const FOLDER: &str = "measured";

    /// What a model folder has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(model: &Path, key: &StoreKey<'_>) -> Result<Self> {
        let mut store = Self::empty(Self::folder_of(model, key));
        store.refresh()?;
        Ok(store)
    }

    fn empty(folder: PathBuf) -> Self {
        Self {
            folder,
            chunks: Vec::new(),
            seen: HashSet::new(),
            unreadable: Vec::new(),
            not_kept: None,
            ranks: Exchange::local(),
        }
    }

    /// Where a model folder has what belongs together.
    fn folder_of(model: &Path, key: &StoreKey<'_>) -> PathBuf {
        let context = key.context.map_or(String::new(), |context| context.to_string());
        let parts = [key.weights, "\n", key.data, "\n", &context];
        let name = fs::sha256_parts(parts.map(str::as_bytes));
        model.join(Self::FOLDER).join(&name[..16])
    }

    /// Reads what others have measured since.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn refresh(&mut self) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        for path in fs::read_dir(&self.folder)? {
            let name = path.file_name().unwrap_or_default().to_owned();
            if path.extension().is_none_or(|e| e != "safetensors") || !self.seen.insert(name) {
                continue;
            }
            let bytes = fs::read(&path)?;
            // A file is called what it holds.
            let is_whole = path.file_name().is_some_and(|name| *name == *name_of(&bytes));
            match is_whole.then(|| Chunk::from_file(&bytes)).flatten() {
                Some(chunk) => self.chunks.push(chunk),
                None => self.unreadable.push(path),
            }
        }
        Ok(())
    }

    /// Losses of `submodels` on all of `data`, in their order; only what is not known is measured.
    /// `progress(done, total)` counts targets, once per forward pass that is to be made.
    ///
    /// # Errors
    /// As [`HeldOutSet::measure`]; [`Error::Nothing`] where there is no document.
    pub fn evaluate<M>(
        &mut self,
        model: &M,
        data: &impl HeldOutSet<M>,
        submodels: &[Submodel],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Studied> {
        let units = data.units();
        if units.is_empty() {
            return Err(Error::Nothing { unit: "documents" });
        }
        let groups = self.of_first(self.missing(&units, submodels))?;
        let targets =
            |places: &[usize]| places.iter().map(|at| units[*at].0.targets).sum::<usize>();
        let total: usize = groups.iter().map(|(places, of)| targets(places) * of.len()).sum();
        let mut done = 0;
        let each = groups.iter().flat_map(|(places, of)| {
            let pieces = pieces(places, &units, data.piece());
            pieces.into_iter().flat_map(|piece| of.chunks(MANY).map(move |chunk| (piece, chunk)))
        });
        for (places, chunk) in each {
            let share = targets(places) * chunk.len();
            let found = data.measure(model, places, chunk, &mut |part, whole| {
                progress(done + (share * part).checked_div(whole).unwrap_or(0), total);
            })?;
            done += share;
            let units: Vec<Unit> = places.iter().map(|at| units[*at].0).collect();
            if self.ranks.is_first() {
                self.take(&units, &found)?;
            }
        }
        let mut measured: Vec<Submodel> = groups.into_values().flatten().collect();
        measured.sort();
        let wanted = if self.ranks.is_first() { submodels } else { &[] };
        let of = |submodel: &Submodel| {
            let missing =
                || Error::NotEvaluated { submodel: submodel.to_string(), evaluated: Vec::new() };
            self.losses(&units, submodel).ok_or_else(missing)
        };
        let evaluation = Evaluation {
            submodels: wanted.iter().map(of).collect::<Result<_>>()?,
            whole: data.is_whole(),
            context: data.context(),
        };
        Ok(Studied { evaluation, measured })
    }

    /// Submodels that are known on all of these documents, with their losses.
    pub fn known(&self, units: &[(Unit, DocumentLoss)]) -> Vec<SubmodelLosses> {
        let mut submodels: Vec<_> = self.chunks.iter().flat_map(Chunk::submodels).collect();
        submodels.sort();
        submodels.dedup();
        submodels.into_iter().filter_map(|submodel| self.losses(units, submodel)).collect()
    }

    /// Files of the folder that are not the store's, or damaged: what they may have held is measured again.
    pub fn unreadable(&self) -> &[PathBuf] {
        &self.unreadable
    }

    /// Why what was measured now is not in the folder, if it is not.
    pub fn not_kept(&self) -> Option<&Error> {
        self.not_kept.as_ref()
    }

    /// Which documents each submodel is to be measured on.
    fn missing(&self, units: &[(Unit, DocumentLoss)], submodels: &[Submodel]) -> Groups {
        let mut distinct = submodels.to_vec();
        distinct.sort();
        distinct.dedup();
        let mut groups = Groups::new();
        for submodel in distinct {
            let rows = self.rows(&submodel);
            let unknown = |at: &usize| get(&rows, &units[*at].0).is_none();
            let places: Vec<usize> = (0..units.len()).filter(unknown).collect();
            if !places.is_empty() {
                groups.entry(places).or_default().push(submodel);
            }
        }
        groups
    }

    /// What there is of a submodel: looked up once, not for each document.
    fn rows(&self, submodel: &Submodel) -> Vec<Row<'_>> {
        self.chunks.iter().filter_map(|chunk| chunk.row(submodel)).collect()
    }

    fn losses(
        &self,
        units: &[(Unit, DocumentLoss)],
        submodel: &Submodel,
    ) -> Option<SubmodelLosses> {
        let rows = self.rows(submodel);
        let of = |(unit, unread): &(Unit, DocumentLoss)| {
            Some(of_unit(unread, unit.targets, get(&rows, unit)?))
        };
        let documents = units.iter().map(of).collect::<Option<_>>()?;
        Some(SubmodelLosses { submodel: submodel.clone(), documents })
    }

    /// Keeps what a forward pass found.
    fn take(&mut self, units: &[Unit], found: &Evaluation) -> Result<()> {
        let bytes = Chunk::to_file(units, found)?;
        let chunk = Chunk::from_file(&bytes).ok_or_else(|| Error::Store {
            message: "documents or submodels that are there twice".to_owned(),
        })?;
        self.chunks.push(chunk);
        if self.not_kept.is_none() {
            let name = name_of(&bytes);
            let written = fs::create_dir_all(&self.folder)
                .and_then(|()| fs::write_atomic(self.folder.join(&name), &bytes));
            match written {
                Ok(()) => drop(self.seen.insert(name.into())),
                Err(error) => self.not_kept = Some(error.into()),
            }
        }
        Ok(())
    }
}

/// What was measured of a document.
fn get(rows: &[Row<'_>], unit: &Unit) -> Option<Loss> {
    rows.iter().find_map(|row| row.get(unit))
}

/// What a file with these bytes is called.
fn name_of(bytes: &[u8]) -> String {
    format!("{}.safetensors", &fs::sha256_bytes(bytes)[..16])
}

/// Documents in a row that have about so many targets.
fn pieces<'a>(
    places: &'a [usize],
    units: &[(Unit, DocumentLoss)],
    targets: usize,
) -> Vec<&'a [usize]> {
    let (mut pieces, mut from, mut sum) = (Vec::new(), 0, 0);
    for (i, at) in places.iter().enumerate() {
        sum += units[*at].0.targets;
        if sum >= targets || i + 1 == places.len() {
            pieces.push(&places[from..=i]);
            (from, sum) = (i + 1, 0);
        }
    }
    pieces
}

/// What an evaluation came to.
#[derive(Debug)]
pub struct Studied {
    /// Losses of all submodels that were asked for.
    pub evaluation: Evaluation,
    /// Those that were measured now, on some of the documents at least.
    pub measured: Vec<Submodel>,
}

#[cfg(test)]
mod tests;
