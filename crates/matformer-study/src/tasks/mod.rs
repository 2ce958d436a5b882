//! Tasks of lm-evaluation-harness, for many submodels in one forward pass.

mod encode;
mod find;
mod generated;
mod result;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use matformer_core::{Submodel, fs::sha256_bytes, units::counted};
use matformer_data::Tokenizer;
use matformer_eval::{Continuations, Generated, Store, StoreKey, SubmodelLosses, Texts};
use matformer_exchange::{Exchange, Fact};
use matformer_run::{Error, Hinted, ModelFolder, OrBadInput, Result, Session, chain};
use matformer_runfile::Lm;
use matformer_tasks::{Generation, Loglik, OutputType, Reply, Task};
use matformer_train::say;

use self::{
    encode::{Ask, Encoded, Encoder},
    generated::{Generator, Start},
};
pub use self::{
    find::find,
    result::{Sample, Score, SubmodelScores, TaskResult},
};
use crate::say_not_kept;

/// Which examples are asked, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// Few-shot examples of each, where the task leaves that open.
    pub shots: Option<usize>,
    /// Only the first so many.
    pub limit: Option<usize>,
}

/// Takes the data of a task from a folder, or fetches it from the hub, where it is not in the cache, under a
/// progress bar.
///
/// # Errors
/// When it cannot be had.
pub fn fetch(
    task: &mut Task,
    shots: Option<usize>,
    folder: Option<&Path>,
    session: &Session,
) -> Result<()> {
    if let Some(folder) = folder {
        for note in task.read_from(folder, shots).map_err(Error::refused)? {
            say!("note: {}: {note}", task.name);
        }
        return Ok(());
    }
    let mut bar = session.bar("fetching");
    let fetched = task.fetch(shots, &mut |p| bar.at(p.done as u64, p.total as u64));
    drop(bar);
    fetched.map_err(Error::refused)
}

/// A model whose submodels are asked.
pub struct Scorer<'a> {
    folder: &'a ModelFolder<Lm>,
    tokenizer: Tokenizer,
    submodels: &'a [Submodel],
}

/// Texts that are generated before they are kept.
const KEPT_AT_ONCE: usize = 64;

/// Problems of a task that are shown one by one.
const SHOWN: usize = 5;

impl<'a> Scorer<'a> {
    /// Asks these submodels of a folder.
    ///
    /// # Errors
    /// When the folder has not its tokenizer.
    pub fn new(folder: &'a ModelFolder<Lm>, submodels: &'a [Submodel]) -> Result<Self> {
        Ok(Self { folder, tokenizer: folder.tokenizer()?, submodels })
    }

    /// Scores of all submodels on a task. What their folder has of it is not measured again. Says which rows cannot be
    /// scored. The other ranks of a [helped](Session::helped) session make the same call, and get nothing.
    ///
    /// # Errors
    /// When no row can be scored, the device fails, or ranks have different tasks.
    pub fn score(&self, task: &Task, asked: Asked) -> Result<Option<TaskResult>> {
        let ranks = self.ranks();
        let mut encoded = ranks.agree(self.encode(task, asked), |error| chain(error))?;
        if !ranks.is_alone() {
            ranks.check_equal(&self.facts(task, &encoded))?;
        }
        encoded.rows.share_among(ranks.clone());
        say_problems(task, &encoded);
        let replies = match task.output {
            OutputType::GenerateUntil => self.texts(task, &encoded)?,
            _ => self.logliks(&encoded)?,
        };
        if !ranks.is_first() {
            return Ok(None);
        }
        TaskResult::new(task, self.folder.space(), self.submodels, encoded, &replies).map(Some)
    }

    /// Those that measure together.
    fn ranks(&self) -> Exchange {
        self.folder.session.helpers().cloned().unwrap_or_default()
    }

    /// What must be the same on all ranks.
    fn facts(&self, task: &Task, encoded: &Encoded) -> [Fact; 2] {
        let asked = format!("{:?}{}", encoded.asks, encoded.rows.sha256());
        let asked = sha256_bytes(asked.as_bytes());
        let weights = &self.folder.manifest.weights_sha256;
        [
            Fact::new("the hash of the weights", weights),
            Fact::new(format!("the hash of task {}", task.name), asked),
        ]
    }

    /// The examples of a task as tokens.
    fn encode(&self, task: &Task, asked: Asked) -> Result<Encoded> {
        let context = self.folder.model.config().context;
        let generation = &task.generation;
        if task.output == OutputType::GenerateUntil && generation.max_tokens >= context {
            return Err(Hinted {
                message: format!(
                    "{}: `generation_kwargs.max_gen_toks`: found {}, expected less than {context}, the \
                     model's context",
                    task.path.display(),
                    generation.max_tokens
                ),
                hint: "a prompt has the rest of the context".to_owned(),
            })
            .bad_input();
        }
        let found = task.examples(asked.shots, asked.limit).map_err(Error::refused)?;
        let encoder = Encoder { tokenizer: &self.tokenizer, context, generation };
        let encoded = encoder.encode(found, task.needs_greedy());
        encoded.found.check(task).map_err(Error::refused)?;
        Ok(encoded)
    }

    /// Of each submodel, the log-likelihoods that each example asks for.
    fn logliks(&self, encoded: &Encoded) -> Result<Vec<Vec<Reply>>> {
        let losses = self.losses(&encoded.rows)?;
        let of_submodel = |at: usize| {
            let sum = |places: &Vec<usize>| {
                let rows =
                    || places.iter().filter_map(|place| Some(&losses.get(at)?.documents[*place]));
                let greedy = rows().map(|row| Some(row.hits?.top1 == 1));
                Loglik {
                    sum: -rows().map(|row| row.nats).sum::<f64>(),
                    greedy: greedy.reduce(|a, b| Some(a? && b?)).flatten(),
                }
            };
            let reply = |ask: &Ask| match ask {
                Ask::Sums(sums) => Reply::Logliks(sums.iter().map(sum).collect()),
                Ask::Prompt(_) => Reply::Logliks(Vec::new()),
            };
            encoded.asks.iter().map(reply).collect()
        };
        Ok((0..self.submodels.len()).map(of_submodel).collect())
    }

    /// Losses of all rows, from the folder or measured now, under a progress bar.
    fn losses(&self, rows: &Continuations) -> Result<Vec<SubmodelLosses>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let weights = &self.folder.manifest.weights_sha256;
        let key = StoreKey { weights, data: rows.data(), context: None };
        let ranks = self.ranks();
        let mut store = if ranks.is_first() {
            let mut store = Store::open(&self.folder.dir, &key)?;
            say_unreadable(store.unreadable());
            store.share_among(ranks);
            store
        } else {
            Store::helping(ranks)
        };
        let mut bar = self.folder.session.bar("scoring");
        let found = store.evaluate(&self.folder.model, rows, self.submodels, &mut |done, total| {
            bar.at(done as u64, total as u64);
        });
        drop(bar);
        let found = found?;
        say_not_kept(&store);
        Ok(found.evaluation.submodels)
    }

    /// Of each submodel, the text that each example asks for: from the folder, or generated now under a progress bar.
    fn texts(&self, task: &Task, encoded: &Encoded) -> Result<Vec<Vec<Reply>>> {
        let Generation { until, max_tokens } = &task.generation;
        let data = format!("generated until {until:?}, at most {max_tokens} tokens");
        let weights = &self.folder.manifest.weights_sha256;
        let key = StoreKey { weights, data: &data, context: None };
        let mut texts = Texts::open(&self.folder.dir, &key)?;
        say_unreadable(texts.unreadable());
        let asks = encoded.found.examples.iter().zip(&encoded.asks);
        let starts = asks.filter_map(|(example, ask)| match ask {
            Ask::Prompt(tokens) => Some(Start { name: &example.at, tokens }),
            Ask::Sums(_) => None,
        });
        let starts: Vec<Start<'_>> = starts.collect();
        self.generate(task, &starts, &mut texts)?;
        if let Some(error) = texts.not_kept() {
            say!("note: not kept: {}", chain(error));
        }
        let of_submodel = |submodel: &Submodel| {
            let text = |start: &Start<'_>| {
                let text = texts.get(submodel, start.tokens).unwrap_or_default();
                Reply::Text(text.to_owned())
            };
            starts.iter().map(text).collect()
        };
        Ok(self.submodels.iter().map(of_submodel).collect())
    }

    /// Generates what is not known, some at a time, which are kept at once: each rank some of them.
    fn generate(&self, task: &Task, starts: &[Start<'_>], texts: &mut Texts) -> Result<()> {
        let ranks = self.ranks();
        let missing: Vec<Vec<usize>> =
            self.submodels.iter().map(|submodel| missing(submodel, starts, texts)).collect();
        // What the first has not.
        let missing = ranks.broadcast(serde_json::to_vec(&missing)?);
        let missing: Vec<Vec<usize>> = serde_json::from_slice(&missing)?;
        let total = missing.iter().map(|starts| starts.len() as u64).sum();
        if total == 0 {
            return Ok(());
        }
        let generator = Generator::new(self.folder, &self.tokenizer, &task.generation)?;
        let (mut done, mut bar) = (0, self.folder.session.bar("generating"));
        for (submodel, missing) in self.submodels.iter().zip(missing) {
            for at_once in missing.chunks(KEPT_AT_ONCE * ranks.world()) {
                let own = at_once.iter().skip(ranks.rank()).step_by(ranks.world());
                let own: Vec<Start<'_>> = own.map(|at| starts[*at].clone()).collect();
                let found = generator.texts(submodel, &own, &mut || {
                    done += ranks.world() as u64;
                    bar.at(done.min(total), total);
                });
                let found = gathered(&ranks, found)?.into_iter().zip(at_once);
                let found =
                    found.map(|(text, at)| Generated { prompt: starts[*at].tokens.to_vec(), text });
                if ranks.is_first() {
                    texts.keep(submodel, found.collect())?;
                }
            }
        }
        Ok(())
    }
}

/// Places of the starts whose texts are not known.
fn missing(submodel: &Submodel, starts: &[Start<'_>], texts: &Texts) -> Vec<usize> {
    let mut seen = HashSet::new();
    let is_new = |at: &usize| {
        let tokens = starts[*at].tokens;
        texts.get(submodel, tokens).is_none() && seen.insert(tokens)
    };
    (0..starts.len()).filter(is_new).collect()
}

/// Texts of all ranks, which were dealt out one by one.
fn gathered(ranks: &Exchange, own: Result<Vec<String>>) -> Result<Vec<String>> {
    let own = ranks.agree(own, |error| chain(error))?;
    let of_rank = |bytes: Vec<u8>| serde_json::from_slice::<Vec<String>>(&bytes);
    let all = ranks.gather(serde_json::to_vec(&own)?).into_iter().map(of_rank);
    let all: Vec<Vec<String>> = all.collect::<Result<_, _>>()?;
    let longest = all.first().map_or(0, Vec::len);
    let rounds = (0..longest).flat_map(|at| all.iter().filter_map(move |texts| texts.get(at)));
    Ok(rounds.cloned().collect())
}

fn say_unreadable(files: &[PathBuf]) {
    for path in files {
        say!("note: {} is damaged, or of another version: passed over", path.display());
    }
}

fn say_problems(task: &Task, encoded: &Encoded) {
    let (name, problems) = (&task.name, &encoded.found.problems);
    for problem in problems.iter().take(SHOWN) {
        let what = if problem.counts { "counted as wrong" } else { "not scored" };
        say!("warning: {name}: {}: {}: {what}", problem.row, problem.reason);
    }
    let more = problems.len().saturating_sub(SHOWN);
    if more > 0 {
        say!("warning: {name}: problems in {} more", counted(more, "row"));
    }
    if encoded.truncated > 0 {
        let examples = counted(encoded.truncated, "example");
        say!("warning: {name}: {examples} cut at the beginning to fit the context");
    }
    if encoded.found.own_shots > 0 {
        let examples = counted(encoded.found.own_shots, "example");
        say!(
            "warning: {name}: {examples} among their own few-shot examples, as in lm-evaluation-harness: \
             `fewshot_split` names other rows"
        );
    }
}
