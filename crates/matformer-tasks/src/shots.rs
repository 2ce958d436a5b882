//! Few-shot examples, drawn as lm-evaluation-harness draws them.

use std::borrow::Cow;

use crate::{Error, Result, Task, random::PythonRandom, rows::Row};

/// The seed of lm-evaluation-harness for few-shot examples.
const SHOT_SEED: u32 = 1234;

/// Draws few-shot examples, for one row after the other.
pub(crate) struct Sampler<'a> {
    rows: Cow<'a, [Row]>,
    shots: usize,
    random: PythonRandom,
    /// Rows are drawn from those that are scored, so a row must not be its own example.
    is_own: bool,
}

impl<'a> Sampler<'a> {
    /// Draws `shots` of `rows` for each row of a task.
    pub fn new(task: &Task, rows: Cow<'a, [Row]>, shots: usize) -> Self {
        // The comparison of lm-evaluation-harness, where both may be missing.
        let is_own = task.shots.split == task.test;
        Self { rows, shots, random: PythonRandom::new(SHOT_SEED), is_own }
    }

    pub fn draw(&mut self, task: &Task, row: &Row) -> Result<Vec<&Row>> {
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
