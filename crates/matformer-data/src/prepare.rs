//! Converts text to a folder with a tokenizer and token shards, which is created once and reused.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;

use matformer_core::fs;

use crate::census::Census;
use crate::encode::{self, Encoded, Encoder, SHARDS};
use crate::hash::Hasher;
use crate::hub::Hub;
use crate::prepared::{BYTE_COUNTS, FORMAT_VERSION, SUMMARY};
use crate::progress::{Progress, Stage};
use crate::record::{self, Place, Record};
use crate::special::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::{
    CHAT_TEMPLATE_FILE, ChatTemplate, DataConfig, Error, Hash, Prepared, Result, Summary,
    Tokenizer, cache, tokenizer_source,
};

/// Files in every prepared folder.
const FILES: [&str; 8] = [
    SUMMARY,
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    SHARDS[0],
    "train.docs.jsonl",
    BYTE_COUNTS,
    SHARDS[1],
    "held_out.docs.jsonl",
];

/// Reads the text that `config` names, downloading what has a hub name, trains or copies the
/// tokenizer, and writes the token shards into a folder of `cache_dir` that is named by a hash of
/// the documents and of what `config` makes of them. What is there already is reused, without reading the
/// text where paths, sizes and times of the files are those of before, and also where the text is gone;
/// what is not appears by one rename, in place of a folder that lacks a file. Of several processes that
/// prepare the same, one does, and the others wait for it.
///
/// The text is read twice, and only some of it is held in memory at a time; of each document about 32
/// bytes are.
///
/// # Errors
/// A file that cannot be read, unpacked or downloaded, or changes on the way; more bad rows than `config`
/// allows, a field that no row has, two files of one name, an empty split; [`Error::Unresolved`]; as
/// [`Tokenizer::train`] and [`Tokenizer::load`]; [`Error::NoTokenizer`]; [`Error::Lossy`] for a given
/// tokenizer that loses more of the text than `config` allows; [`Error::File`] for files that cannot be
/// written.
pub fn prepare(
    config: &DataConfig,
    cache_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared> {
    let given = given(config, progress)?;
    Wanted::new(config, given.as_ref(), cache_dir)?.prepare(progress)
}

/// What [`prepare`] would reuse without reading the text, if it is there; nothing is written.
///
/// # Errors
/// As [`prepare`].
pub fn find_prepared(
    config: &DataConfig,
    cache_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Prepared>> {
    let given = given(config, progress)?;
    Wanted::new(config, given.as_ref(), cache_dir)?.find()
}

/// What [`prepare_for`] would reuse without reading the text, if it is there; nothing is written.
///
/// # Errors
/// As [`prepare`].
pub fn find_prepared_for(
    config: &DataConfig,
    own: &Path,
    cache_dir: &Path,
) -> Result<Option<Prepared>> {
    config.validate()?;
    let tokenizer = Tokenizer::load(own)?;
    Wanted { or_trained: true, ..Wanted::new(config, Some(&tokenizer), cache_dir)? }.find()
}

/// Like [`prepare`], but uses the model's tokenizer at `own` instead of the one in `config`. A cached folder whose
/// tokenizer was trained on the data is reused if that tokenizer is identical.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_for(
    config: &DataConfig,
    own: &Path,
    cache_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared> {
    config.validate()?;
    let tokenizer = Tokenizer::load(own)?;
    Wanted { or_trained: true, ..Wanted::new(config, Some(&tokenizer), cache_dir)? }
        .prepare(progress)
}

/// The tokenizer that a configuration names, if it names one.
///
/// # Errors
/// As [`tokenizer_source::locate`] and [`Tokenizer::load`].
pub(crate) fn given(
    config: &DataConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Tokenizer>> {
    config.validate()?;
    let Some(source) = &config.tokenizer else { return Ok(None) };
    Tokenizer::load(&tokenizer_source::locate(source, &Hub::from_env, progress)?).map(Some)
}

/// The chat template beside a tokenizer.
///
/// # Errors
/// [`Error::NoChatTemplate`]; as [`ChatTemplate::from_folder`].
fn template_of(tokenizer: Option<&Tokenizer>) -> Result<Arc<ChatTemplate>> {
    let trained = Error::Config {
        key: "chat",
        found: "true".into(),
        expected: "a tokenizer with a chat template in `data.tokenizer`, or false",
    };
    let path = tokenizer.ok_or(trained)?.path();
    let template = ChatTemplate::from_folder(path.parent().unwrap_or(path))?;
    template.map(Arc::new).ok_or_else(|| Error::NoChatTemplate { path: path.into() })
}

/// What is to be prepared, and where.
struct Wanted<'a> {
    config: &'a DataConfig,
    given: Option<&'a Tokenizer>,
    /// Whether what a trained tokenizer has made is as good, if it is the given one.
    or_trained: bool,
    /// Lays out conversations, where rows are such.
    template: Option<Arc<ChatTemplate>>,
    cache: &'a Path,
}

impl<'a> Wanted<'a> {
    fn new(config: &'a DataConfig, given: Option<&'a Tokenizer>, cache: &'a Path) -> Result<Self> {
        let template = if config.chat { Some(template_of(given)?) } else { None };
        Ok(Self { config, given, or_trained: false, template, cache })
    }

    fn prepare(&self, progress: &mut dyn FnMut(Progress)) -> Result<Prepared> {
        match self.find()? {
            Some(prepared) => Ok(prepared),
            None => self.make(progress),
        }
    }

    /// The tokenizers whose folders will do: the trained one first.
    fn tokenizers(&self) -> impl Iterator<Item = Option<&'a Tokenizer>> {
        let trained = self.or_trained && self.given.is_some();
        trained.then_some(None).into_iter().chain([self.given])
    }

    fn place(&self, tokenizer: Option<&Tokenizer>) -> Place {
        Place::of(self.config, (tokenizer, self.template.as_deref()), self.cache)
    }

    /// What the records of the cache lead to. Where the text is gone, the newest is of what was there last.
    fn find(&self) -> Result<Option<Prepared>> {
        let mut now = None;
        let place = |tokenizer| self.place(tokenizer);
        let mut places: Vec<Place> = self.tokenizers().map(place).collect();
        places.sort_by_key(|place| Reverse(place.written()));
        for place in places {
            let Some(Record { read, folder, notes }) = place.read() else { continue };
            let Some(found) = self.open(&folder)? else { continue };
            let gone = match now.get_or_insert_with(|| record::fingerprint(self.config, self.cache))
            {
                Ok(now) if *now == read => None,
                Ok(_) => continue,
                Err(error) if record::is_gone(error) => Some(error.to_string()),
                Err(_) => break,
            };
            return Ok(Some(Prepared { notes, gone, ..found }));
        }
        match now {
            Some(Err(error)) if !record::is_gone(&error) => Err(error),
            _ => Ok(None),
        }
    }

    /// A folder of the cache, if it is whole and of the right tokenizer.
    fn open(&self, folder: &str) -> Result<Option<Prepared>> {
        let dir = self.cache.join(folder);
        if !cache::is_whole(&dir, &FILES) {
            return Ok(None);
        }
        let prepared = Prepared::open(&dir)?;
        let other = |given: &&Tokenizer| given.hash() != prepared.summary.tokenizer_hash;
        if self.given.as_ref().is_some_and(other) {
            return Ok(None);
        }
        let own = prepared.tokenizer_path();
        let path = self.given.map_or(own.as_path(), Tokenizer::path);
        check_lost(&prepared.summary, path, self.config)?;
        Ok(Some(prepared))
    }

    /// Reads the text, and encodes it unless that was done under another name.
    fn make(&self, progress: &mut dyn FnMut(Progress)) -> Result<Prepared> {
        let place = self.place(self.given);
        let read = record::fingerprint(self.config, self.cache);
        let census = Census::take(self.config, self.template.clone(), progress)?;
        let made = |notes: Vec<String>, folder: String| -> Result<()> {
            let now = record::fingerprint(self.config, self.cache);
            match (read, now) {
                (Ok(read), Ok(now)) if read == now => place.write(&Record { read, folder, notes }),
                (Ok(_), Ok(_)) => Err(Error::Changed { file: "data.paths".into() }),
                // Of a hub that cannot be reached now, the text is read again the next time.
                _ => Ok(()),
            }
        };
        let key = |tokenizer| key(self.config, &census, tokenizer).short();
        for tokenizer in self.tokenizers() {
            let folder = key(tokenizer);
            if let Some(found) = self.open(&folder)? {
                made(census.notes.clone(), folder)?;
                return Ok(Prepared { notes: census.notes, ..found });
            }
        }
        // Only now: what is refused by then has written nothing.
        fs::enter_cache(self.cache)?;
        let _turn = place.turn(progress)?;
        // Another process may have had its turn meanwhile.
        if let Some(prepared) = self.find()? {
            return Ok(prepared);
        }
        let folder = key(self.given);
        let dir = self.cache.join(&folder);
        let scratch = fs::scratch_dir(&dir)?;
        self.encode(&census, &dir, scratch.path(), progress)?;
        made(census.notes.clone(), folder)?;
        cache::publish(scratch.path(), &dir, &FILES)?;
        Ok(Prepared { reused: false, notes: census.notes, ..Prepared::open(&dir)? })
    }

    /// Writes everything into the folder `scratch`, which will be `dir`.
    fn encode(
        &self,
        census: &Census,
        dir: &Path,
        scratch: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let tokenizer = match self.given {
            Some(tokenizer) => {
                copy(tokenizer, scratch)?;
                tokenizer.clone()
            }
            None => {
                progress(Progress { stage: Stage::Tokenizer, done: 0, total: 0 });
                let texts = encode::sample(census, self.config.seed)?;
                let trained = Tokenizer::train(&texts, self.config.vocab_size, scratch)?;
                trained.at(dir.join(TOKENIZER_FILE))
            }
        };
        let given = self.given.is_some();
        let Encoded { sizes: [train, held_out], sources, data_hash, counts, lost } =
            encode::encode(census, Encoder { tokenizer: &tokenizer, given }, scratch, progress)?;
        fs::write_json(scratch.join(BYTE_COUNTS), "counts of bytes", &counts)?;
        let summary = Summary {
            format_version: FORMAT_VERSION,
            data_hash,
            tokenizer_hash: tokenizer.hash(),
            vocab_size: tokenizer.vocab_size(),
            train,
            held_out,
            sources,
            dropped: census.dropped,
            lost,
        };
        check_lost(&summary, tokenizer.path(), self.config)?;
        Ok(fs::write_json(scratch.join(SUMMARY), "summary", &summary)?)
    }
}

/// Names the folder: everything that its contents depend on.
fn key(config: &DataConfig, census: &Census, tokenizer: Option<&Tokenizer>) -> Hash {
    let mut hasher = Hasher::default();
    hasher.part("documents").part(FORMAT_VERSION.to_le_bytes());
    match tokenizer {
        Some(tokenizer) => hasher.part(tokenizer.hash().as_bytes()).part(tokenizer.config()),
        None => hasher.part(config.vocab_size.to_le_bytes()).part(config.seed.to_le_bytes()),
    };
    if let Some(template) = census.template() {
        hasher.part("chat").part(template.source());
    }
    census.fingerprint(&mut hasher);
    hasher.finish()
}

/// Whether the tokenizer at `path` loses no more text than `config` allows: the same for documents in
/// either split.
fn check_lost(summary: &Summary, path: &Path, config: &DataConfig) -> Result<()> {
    let Summary { train, held_out, lost, .. } = summary;
    let allowed = if config.strict { 0.0 } else { config.max_lost_bytes };
    let bytes = train.bytes + held_out.bytes;
    // What comes back in another normal form of Unicode says the same: it is reported.
    let really = lost.bytes - lost.normalised.min(lost.bytes);
    if really as f64 <= allowed * bytes as f64 && (allowed > 0.0 || lost.documents == 0) {
        return Ok(());
    }
    let documents = train.documents + held_out.documents;
    Err(Error::Lossy { path: path.into(), lost: lost.clone(), documents, bytes, allowed })
}

/// Takes over a given tokenizer, with its configuration and its chat template.
fn copy(tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    let template = tokenizer.path().with_file_name(CHAT_TEMPLATE_FILE);
    if template.is_file() {
        fs::write_atomic(folder.join(CHAT_TEMPLATE_FILE), &fs::read(&template)?)?;
    }
    fs::write_atomic(folder.join(TOKENIZER_FILE), &fs::read(tokenizer.path())?)?;
    fs::write_atomic(folder.join(TOKENIZER_CONFIG_FILE), tokenizer.config().as_bytes())?;
    Ok(())
}
