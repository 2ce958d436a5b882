//! From rows to texts whose log-likelihoods are compared.

use serde::Serialize;

use crate::{
    Error, Result, Task,
    random::PythonRandom,
    render::{Renderer, Target},
    rows::{self, Row},
    task::Field,
};

/// The seed of lm-evaluation-harness for few-shot examples.
const SHOT_SEED: u32 = 1234;

/// A question with its choices.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// File and row: `data/test.jsonl:3`.
    pub at: String,
    /// What each choice continues: description, few-shot examples, question.
    pub context: String,
    /// The choices, without delimiter.
    pub choices: Vec<String>,
    /// What is scored of each: delimiter and choice.
    pub continuations: Vec<String>,
    /// Indices of the correct choices; empty if the row's label is none of them, which counts as a wrong answer.
    pub gold: Vec<usize>,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// File and row.
    pub row: String,
    /// What is wrong.
    pub reason: String,
    /// Whether the row counts nevertheless, as a wrong answer.
    pub counts: bool,
}

/// The examples of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// Those that can be scored, in the order of the rows.
    pub examples: Vec<Example>,
    /// What is wrong with other rows, and with labels.
    pub problems: Vec<Problem>,
    /// Few-shot examples in front of each.
    pub shots: usize,
}

impl Task {
    /// The first `limit` examples, or all, with `shots` few-shot examples each if the task leaves that open.
    ///
    /// # Errors
    /// [`Error::Missing`] for a split without files, [`Error::Row`] for a file that is not JSON,
    /// [`Error::TooFewShots`], [`Error::Shot`], and [`Error::NoExamples`].
    pub fn examples(&self, shots: Option<usize>, limit: Option<usize>) -> Result<Examples> {
        // As in lm-evaluation-harness: a task that says 0 gets 0.
        let shots = match self.num_fewshot {
            Some(0) => 0,
            own => shots.or(own).unwrap_or(0),
        };
        let mut rows = self.rows(self.scored())?;
        rows.truncate(limit.unwrap_or(usize::MAX));
        let mut sampler = Sampler::new(self, shots)?;
        let renderer = Renderer::new(&rows)?;
        let (mut examples, mut problems) = (Vec::new(), Vec::new());
        for row in &rows {
            // Also for a row that cannot be scored: the draws of the rows after it do not depend on it.
            let drawn = sampler.draw(self, row)?;
            let mut problem = |reason: String, counts| {
                problems.push(Problem { row: row.at.clone(), reason, counts });
            };
            let before = self.shots_text(&renderer, &drawn)?;
            match self.example(&renderer, row, &before) {
                Err(reason) => problem(reason, false),
                Ok((example, bad_label)) => {
                    examples.push(example);
                    bad_label.into_iter().for_each(|reason| problem(reason, true));
                }
            }
        }
        if examples.is_empty() {
            let first = problems.first().map(|p: &Problem| format!("{}: {}", p.row, p.reason));
            return Err(Error::NoExamples { task: self.name.clone(), rows: rows.len(), first });
        }
        Ok(Examples { examples, problems, shots })
    }

    fn rows(&self, split: &str) -> Result<Vec<Row>> {
        let found = self.splits.iter().find(|other| other.name == split);
        let missing = || Error::Missing {
            path: self.path.clone(),
            key: format!("dataset_kwargs.data_files.{split}"),
        };
        rows::read(&found.ok_or_else(missing)?.files)
    }

    /// The example of a row, and what is wrong with its label.
    fn example(
        &self,
        renderer: &Renderer,
        row: &Row,
        shots: &str,
    ) -> Result<(Example, Option<String>), String> {
        let description = match &self.description {
            empty if empty.is_empty() => String::new(),
            template => renderer.text(template, row)?,
        };
        let question = self.question(renderer, row)?;
        let choices = renderer.choices(&self.choice, row)?;
        if choices.is_empty() {
            return Err("the list of choices is empty".to_owned());
        }
        if let Some(index) = choices.iter().position(String::is_empty) {
            return Err(format!("choice {index} is empty"));
        }
        let (gold, bad_label) = match gold(&renderer.target(&self.target, row)?, &choices) {
            Ok(gold) => (gold, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let delimited = |choice: &String| format!("{}{choice}", self.target_delimiter);
        let example = Example {
            at: row.at.clone(),
            context: format!("{description}{shots}{question}"),
            continuations: choices.iter().map(delimited).collect(),
            choices,
            gold,
        };
        Ok((example, bad_label))
    }

    fn question(&self, renderer: &Renderer, row: &Row) -> Result<String, String> {
        let several =
            "gives a number: tasks whose choices precede one continuation are not supported yet";
        match &self.text {
            Field::Text(template) => {
                let text = renderer.text(template, row)?;
                let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                if is_number && !row.columns.contains_key(template) {
                    return Err(format!("`doc_to_text` {several}"));
                }
                Ok(text)
            }
            _ => Err(format!("`doc_to_text` {several}")),
        }
    }

    fn shots_text(&self, renderer: &Renderer, rows: &[&Row]) -> Result<String> {
        let shot = |row: &&Row| {
            self.shot(renderer, row).map_err(|reason| Error::Shot { at: row.at.clone(), reason })
        };
        rows.iter().map(shot).collect()
    }

    fn shot(&self, renderer: &Renderer, row: &Row) -> Result<String, String> {
        let question = self.question(renderer, row)?;
        let choices = renderer.choices(&self.choice, row)?;
        let out_of_range = |index: i64| format!("label {index} of {} choices", choices.len());
        let choice = |index: i64| {
            let at = usize::try_from(index).ok().and_then(|at| choices.get(at));
            at.cloned().ok_or_else(|| out_of_range(index))
        };
        let answer = match renderer.target(&self.target, row)? {
            Target::Index(index) => choice(index)?,
            Target::Text(text) => text,
            Target::Several(_) => return Err("several targets, expected one".to_owned()),
        };
        if answer.is_empty() {
            return Err("the answer is empty".to_owned());
        }
        Ok(format!("{question}{}{answer}{}", self.target_delimiter, self.fewshot_delimiter))
    }
}

/// Indices of the correct choices.
fn gold(target: &Target, choices: &[String]) -> Result<Vec<usize>, String> {
    let index = |index: &i64| {
        let at = usize::try_from(*index).ok().filter(|at| *at < choices.len());
        at.ok_or_else(|| format!("label {index}, expected 0 to {}", choices.len() - 1))
    };
    match target {
        Target::Index(at) => Ok(vec![index(at)?]),
        Target::Several(all) => all.iter().map(index).collect(),
        Target::Text(text) => {
            let at = choices.iter().position(|choice| choice == text);
            at.map(|at| vec![at]).ok_or_else(|| format!("label {text:?} is none of the choices"))
        }
    }
}

/// Draws few-shot examples, for one row after the other.
struct Sampler {
    rows: Vec<Row>,
    shots: usize,
    random: PythonRandom,
    /// Rows are drawn from those that are scored, so a row must not be its own example.
    is_own: bool,
}

impl Sampler {
    fn new(task: &Task, shots: usize) -> Result<Self> {
        let rows = if shots == 0 { Vec::new() } else { task.rows(task.shot_split())? };
        // The comparison of lm-evaluation-harness, where both may be missing.
        let is_own = task.shots.split == task.test;
        Ok(Self { rows, shots, random: PythonRandom::new(SHOT_SEED), is_own })
    }

    fn draw(&mut self, task: &Task, row: &Row) -> Result<Vec<&Row>> {
        if self.shots == 0 {
            return Ok(Vec::new());
        }
        let drawn = if task.shots.first {
            let other = |at: &usize| !self.is_own || self.rows[*at].columns != row.columns;
            Some((0..self.rows.len()).filter(other).take(self.shots).collect())
        } else {
            self.sample(row)
        };
        let few = Error::TooFewShots {
            task: task.name.clone(),
            asked: self.shots + usize::from(self.is_own),
            found: self.rows.len(),
            split: task.shot_split().to_owned(),
        };
        let drawn: Vec<usize> =
            drawn.filter(|drawn: &Vec<usize>| drawn.len() == self.shots).ok_or(few)?;
        Ok(drawn.into_iter().map(|at| &self.rows[at]).collect())
    }

    /// One more than needed where the row may be drawn itself; again without the row if it stands there twice.
    fn sample(&mut self, row: &Row) -> Option<Vec<usize>> {
        if !self.is_own {
            return self.random.sample(self.rows.len(), self.shots);
        }
        let is_other = |rows: &[Row], at: usize| rows[at].columns != row.columns;
        let mut drawn = self.random.sample(self.rows.len(), self.shots + 1)?;
        drawn.retain(|at| is_other(&self.rows, *at));
        drawn.truncate(self.shots);
        if drawn.len() == self.shots {
            return Some(drawn);
        }
        let pool: Vec<usize> =
            (0..self.rows.len()).filter(|at| is_other(&self.rows, *at)).collect();
        let places = self.random.sample(pool.len(), self.shots)?;
        Some(places.into_iter().map(|place| pool[place]).collect())
    }
}
