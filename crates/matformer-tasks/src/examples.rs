//! From rows to what a model is asked.

use std::borrow::Cow;

use serde::Serialize;

use crate::{
    Error, OutputType, Result, Task,
    matching::words,
    render::{Asked, Renderer, Target},
    rows::Row,
    shots::Sampler,
};

/// A row as a model is asked about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// File and row: `data/test.jsonl:3`.
    pub at: String,
    /// What is asked.
    pub question: Question,
}

/// A context and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Description, few-shot examples, question.
    pub context: String,
    /// What is scored: delimiter and answer.
    pub continuation: String,
}

/// What is asked of a model, and what is right.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// The log-likelihood of the continuation of each choice.
    Choice {
        /// One per choice.
        prompts: Vec<Prompt>,
        /// The choices, without delimiter.
        choices: Vec<String>,
        /// Indices of the correct choices; empty if the row's label is none of them, which counts as a wrong answer.
        gold: Vec<usize>,
        /// What is compared instead of indices, where the task compares words.
        named: Option<Named>,
    },
    /// The log-likelihood of one continuation.
    Continuation(Prompt),
    /// The log-likelihood of a text without a context.
    Text {
        /// The text.
        text: String,
        /// Its words, as they are counted for perplexity.
        words: usize,
    },
    /// The text that is generated after a context.
    Generation {
        /// Description, few-shot examples, question.
        context: String,
        /// The answers that are right.
        answers: Vec<String>,
    },
}

/// Choices by name, of which several may be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Of each choice.
    pub choices: Vec<String>,
    /// Those that are right.
    pub answers: Vec<String>,
}

impl Question {
    /// What is scored of it after a context.
    pub fn prompts(&self) -> &[Prompt] {
        match self {
            Self::Choice { prompts, .. } => prompts,
            Self::Continuation(prompt) => std::slice::from_ref(prompt),
            Self::Text { .. } | Self::Generation { .. } => &[],
        }
    }
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
    /// Rows that were looked at.
    pub rows: usize,
    /// Few-shot examples in front of each.
    pub shots: usize,
    /// Examples that have themselves among their few-shot examples, as in lm-evaluation-harness where these are from
    /// the rows that are scored and the task does not say so.
    pub own_shots: usize,
}

impl Task {
    /// The first `limit` examples, or all, with `shots` few-shot examples each if the task leaves that open.
    ///
    /// # Errors
    /// [`Error::Missing`] for a split without files, [`Error::Row`] or [`Error::Data`] for a file that cannot be
    /// read, [`Error::NotFetched`], [`Error::TooFewShots`], and [`Error::NoExamples`].
    pub fn examples(&self, shots: Option<usize>, limit: Option<usize>) -> Result<Examples> {
        let shots = self.shots_of(shots);
        let rows = self.rows(self.scored())?;
        let from = match self.shot_split() {
            _ if shots == 0 => Cow::Owned(Vec::new()),
            split if split == self.scored() => Cow::Borrowed(&rows[..]),
            split => Cow::Owned(self.rows(split)?),
        };
        let mut sampler = Sampler::new(self, from, shots);
        let renderer = Renderer::new(&rows)?;
        let scored = &rows[..limit.map_or(rows.len(), |limit| limit.min(rows.len()))];
        let mut found = Examples {
            examples: Vec::new(),
            problems: Vec::new(),
            rows: scored.len(),
            shots,
            own_shots: 0,
        };
        for row in scored {
            // Also for a row that cannot be scored: the draws of the rows after it do not depend on it.
            let drawn = sampler.draw(self, row)?;
            let own = drawn.iter().any(|shot| shot.at == row.at);
            let problem = |reason, counts| Problem { row: row.at.clone(), reason, counts };
            let before = self.shots_text(&renderer, &drawn);
            match before.and_then(|before| self.example(&renderer, row, &before)) {
                Err(reason) => found.problems.push(problem(reason, false)),
                Ok((question, bad_label)) => {
                    found.own_shots += usize::from(own);
                    found.examples.push(Example { at: row.at.clone(), question });
                    found.problems.extend(bad_label.map(|reason| problem(reason, true)));
                }
            }
        }
        found.check(self)?;
        Ok(found)
    }

    /// What a row asks, and what is wrong with its label.
    fn example(
        &self,
        renderer: &Renderer,
        row: &Row,
        shots: &str,
    ) -> Result<(Question, Option<String>), String> {
        let description = match &self.description {
            empty if empty.is_empty() => String::new(),
            template => renderer.text(template, row)?,
        };
        let before = format!("{description}{shots}");
        let context = || match renderer.asked(&self.text, row, self.choice.is_some())? {
            Asked::Text(text) => Ok(format!("{before}{text}")),
            Asked::Index(_) => Err("`doc_to_text` is a number, expected text".to_owned()),
        };
        match self.output {
            OutputType::MultipleChoice => self.choice(renderer, row, &before),
            OutputType::Loglikelihood => {
                let continuation = self.one_text(renderer, row)?;
                Ok((Question::Continuation(Prompt { context: context()?, continuation }), None))
            }
            OutputType::LoglikelihoodRolling => {
                let text = self.one_text(renderer, row)?;
                Ok((Question::Text { words: words(&text), text }, None))
            }
            OutputType::GenerateUntil => {
                let answers = self.answers(renderer, row)?;
                Ok((Question::Generation { context: context()?, answers }, None))
            }
        }
    }

    fn choice(
        &self,
        renderer: &Renderer,
        row: &Row,
        before: &str,
    ) -> Result<(Question, Option<String>), String> {
        let choices = self.choices(renderer, row)?;
        if choices.is_empty() {
            return Err("the list of choices is empty".to_owned());
        }
        if let Some(index) = choices.iter().position(String::is_empty) {
            return Err(format!("choice {index} is empty"));
        }
        let target = renderer.target(&self.target, row, true)?;
        let delimiter = &self.target_delimiter;
        let (prompts, label) = match renderer.asked(&self.text, row, true)? {
            Asked::Text(text) => {
                let prompt = |choice: &String| Prompt {
                    context: format!("{before}{text}"),
                    continuation: format!("{delimiter}{choice}"),
                };
                (choices.iter().map(prompt).collect(), target)
            }
            // The choices are contexts of the target.
            Asked::Index(index) => {
                let target = match target {
                    Target::Text(text) => text,
                    Target::Index(index) => index.to_string(),
                    _ => return Err("several targets, expected the text behind the choices".into()),
                };
                let prompt = |choice: &String| Prompt {
                    context: format!("{before}{choice}"),
                    continuation: format!("{delimiter}{target}"),
                };
                (choices.iter().map(prompt).collect(), Target::Index(index))
            }
        };
        let (gold, bad_label) = match gold(&label, &choices) {
            Ok(gold) => (gold, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let named = self.compares_words().then(|| named(row, &choices)).transpose()?;
        Ok((Question::Choice { prompts, choices, gold, named }, bad_label))
    }

    /// The target of a task that has one text as such.
    fn one_text(&self, renderer: &Renderer, row: &Row) -> Result<String, String> {
        match renderer.target(&self.target, row, self.choice.is_some())? {
            Target::Text(text) => Ok(text),
            _ => Err("`doc_to_target` is a number or a list, expected text".to_owned()),
        }
    }

    fn answers(&self, renderer: &Renderer, row: &Row) -> Result<Vec<String>, String> {
        let target = renderer.target(&self.target, row, self.choice.is_some())?;
        let answers = match (target, &self.choice) {
            (Target::Index(index), Some(_)) => {
                vec![nth(&self.choices(renderer, row)?, index)?.clone()]
            }
            (_, Some(_)) => return Err("the target is no index of the choices".to_owned()),
            (Target::Text(text), None) => vec![text],
            (Target::Index(number), None) => vec![number.to_string()],
            (Target::Texts(texts), None) => texts,
            (Target::Indices(numbers), None) => numbers.iter().map(i64::to_string).collect(),
        };
        if answers.is_empty() {
            Err("the list of answers is empty".to_owned())
        } else {
            Ok(answers)
        }
    }

    fn choices(&self, renderer: &Renderer, row: &Row) -> Result<Vec<String>, String> {
        self.choice.as_ref().map_or_else(|| Ok(Vec::new()), |field| renderer.choices(field, row))
    }

    fn shots_text(&self, renderer: &Renderer, rows: &[&Row]) -> Result<String, String> {
        let shot = |row: &&Row| {
            self.shot(renderer, row)
                .map_err(|reason| format!("few-shot example {}: {reason}", row.at))
        };
        rows.iter().map(shot).collect()
    }

    fn shot(&self, renderer: &Renderer, row: &Row) -> Result<String, String> {
        let choices = self.choices(renderer, row)?;
        let has_choices = self.choice.is_some();
        let target = renderer.target(&self.target, row, has_choices)?;
        let asked = renderer.asked(&self.text, row, has_choices)?;
        let answer = match (target, &asked) {
            (Target::Text(text), _) => text,
            (Target::Index(index), Asked::Text(_)) if has_choices => nth(&choices, index)?.clone(),
            (Target::Texts(texts), _) => texts.into_iter().next().unwrap_or_default(),
            // lm-evaluation-harness fails here.
            (Target::Indices(all), Asked::Text(_)) if has_choices && !all.is_empty() => {
                nth(&choices, all[0])?.clone()
            }
            _ => return Err("the target is no text, and no index of a choice".to_owned()),
        };
        if answer.is_empty() {
            return Err("the answer is empty".to_owned());
        }
        let question = match asked {
            Asked::Text(text) => text,
            Asked::Index(index) => nth(&choices, index)?.clone(),
        };
        Ok(format!("{question}{}{answer}{}", self.target_delimiter, self.fewshot_delimiter))
    }
}

impl Examples {
    /// Refuses to go on without an example.
    ///
    /// # Errors
    /// [`Error::NoExamples`].
    pub fn check(&self, task: &Task) -> Result<()> {
        if !self.examples.is_empty() {
            return Ok(());
        }
        let first = self.problems.first().map(|p| format!("{}: {}", p.row, p.reason));
        Err(Error::NoExamples { task: task.name.clone(), rows: self.rows, first })
    }
}

/// The columns of ReCoRD.
fn named(row: &Row, choices: &[String]) -> Result<Named, String> {
    let texts = |column: &str| -> Option<Vec<String>> {
        let items = row.columns.get(column)?.as_array()?.iter();
        items.map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let found = texts("entities").zip(texts("answers"));
    let found =
        found.filter(|(names, answers)| names.len() == choices.len() && !answers.is_empty());
    let (choices, answers) = found.ok_or("`entities` and `answers` are no lists of texts")?;
    Ok(Named { choices, answers })
}

fn nth(choices: &[String], index: i64) -> Result<&String, String> {
    let at = usize::try_from(index).ok().and_then(|at| choices.get(at));
    at.ok_or_else(|| format!("label {index} of {} choices", choices.len()))
}

/// Indices of the correct choices.
fn gold(target: &Target, choices: &[String]) -> Result<Vec<usize>, String> {
    let index = |index: &i64| {
        let at = usize::try_from(*index).ok().filter(|at| *at < choices.len());
        at.ok_or_else(|| format!("label {index}, expected 0 to {}", choices.len() - 1))
    };
    match target {
        Target::Index(at) => Ok(vec![index(at)?]),
        Target::Indices(all) => all.iter().map(index).collect(),
        Target::Text(text) => {
            let at = choices.iter().position(|choice| choice == text);
            at.map(|at| vec![at]).ok_or_else(|| format!("label {text:?} is none of the choices"))
        }
        Target::Texts(_) => Err("the label is a list of texts, expected indices".to_owned()),
    }
}
