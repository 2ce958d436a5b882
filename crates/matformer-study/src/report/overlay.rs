//! Several runs on one page.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use matformer_core::fs;
use matformer_eval::{
    Estimate,
    report::{HeldOutPoint, OverlayData, OverlayRun, render_overlay},
    stats,
};
use matformer_run::{
    Hinted, Kind, ModelFolder, OrBadInput, Result, Session, folder::check_is_model,
};
use matformer_train::{MetricsLine, say};
use serde_json::{Map, Value, json};

use super::{
    Question,
    page::{facts, granularities, metrics},
};
use crate::{Measured, measured};

/// What a page of several runs says.
pub struct Overlay {
    /// The page.
    pub page: PathBuf,
    /// The runs.
    pub data: OverlayData,
}

/// Writes a page of several runs, compared with the first of them; what was measured before is not measured again.
///
/// # Errors
/// When a run is named twice, a model, its log or its data cannot be read, or the page cannot be written.
pub fn overlay<K: Kind>(
    dirs: &[PathBuf],
    question: &Question,
    session: &Session,
) -> Result<Overlay> {
    let names = names(dirs)?;
    for dir in dirs {
        // All are there before any is measured.
        check_is_model(dir).bad_input()?;
    }
    let page = question.page(dirs[0].join("report").join(page_name(&names)))?;
    let mut first = None;
    let mut runs = Vec::new();
    for (dir, name) in dirs.iter().zip(&names) {
        // One after the other: models need not fit into memory together.
        let folder = question.load::<K>(dir, session)?;
        let ours = measured(&folder, question.tokens, question.keep())?.measured;
        runs.push(overlay_run(name, &folder, &ours, first.as_ref())?);
        first.get_or_insert(ours);
    }
    let data = OverlayData { title: format!("{}: accuracy against cost", names.join(", ")), runs };
    fs::write_atomic(&page, render_overlay(&data)?.as_bytes())?;
    if !data.same_data() {
        say!(
            "note: measured on different held-out data, in other tokens or in windows of other \
             lengths: these numbers cannot be compared"
        );
    }
    Ok(Overlay { page, data })
}

impl Overlay {
    /// What `report RUN RUN --json` prints.
    pub fn to_json(&self) -> Value {
        let differences = |run: &OverlayRun| -> Value {
            let of = |(label, Estimate { value, stderr }): &(String, Estimate)| {
                (label.clone(), json!({ "diff": value, "stderr": stderr }))
            };
            run.differences.iter().map(of).collect::<Map<_, _>>().into()
        };
        let run = |run: &OverlayRun| json!({ "name": run.name, "results": run.results, "above_first": differences(run) });
        json!({
            "report": self.page.display().to_string(),
            "same_data": self.data.same_data(),
            "runs": self.data.runs.iter().map(run).collect::<Vec<_>>(),
        })
    }
}

/// A run among others on one page, compared with the first of them.
fn overlay_run<K: Kind>(
    name: &str,
    folder: &ModelFolder<K>,
    ours: &Measured<K>,
    first: Option<&Measured<K>>,
) -> Result<OverlayRun> {
    let mut differences = Vec::new();
    let comparable = first.filter(|first| first.results.data == ours.results.data);
    for result in &ours.results.results {
        // Names are each run's own; equal are equal widths.
        let theirs = comparable.and_then(|first| {
            let same = first.results.results.iter().find(|r| r.widths == result.widths)?;
            first.documents.get(&same.submodel)
        });
        if let (Some(own), Some(theirs)) = (ours.documents.get(&result.submodel), theirs) {
            let difference = stats::judged_difference(own, theirs)?;
            differences.push((result.submodel.clone(), difference));
        }
    }
    let mut tokens = 0;
    let mut held_out = Vec::new();
    for line in metrics(folder)? {
        match line {
            MetricsLine::Train(line) => tokens = line.tokens,
            MetricsLine::HeldOut(line) => {
                held_out.extend(line.held_out.into_iter().map(|(name, loss)| HeldOutPoint {
                    step: tokens,
                    name,
                    loss,
                }))
            }
            MetricsLine::Skipped(_) => {}
        }
    }
    Ok(OverlayRun {
        name: name.to_owned(),
        facts: facts(folder),
        results: ours.results.clone(),
        granularities: granularities(folder),
        held_out,
        differences,
    })
}

/// What tells the runs apart: the last parts of their paths, as many as it takes.
fn names(runs: &[PathBuf]) -> Result<Vec<String>> {
    let full: Vec<PathBuf> =
        runs.iter().map(|run| run.canonicalize().unwrap_or_else(|_| run.clone())).collect();
    if let Some(run) = (1..full.len()).find(|i| full[..*i].contains(&full[*i])) {
        let message = format!("{}: named twice", runs[run].display());
        let hint = "expected different runs; the first is what the others are compared with";
        return Err(Hinted { message, hint: hint.to_owned() }).bad_input();
    }
    let longest = full.iter().map(|run| run.components().count()).max().unwrap_or(0);
    for parts in 1..=longest {
        let names: Vec<String> = full.iter().map(|run| last_parts(run, parts)).collect();
        if names.iter().collect::<BTreeSet<_>>().len() == names.len() {
            return Ok(names);
        }
    }
    Ok(full.iter().map(|run| last_parts(run, longest)).collect())
}

/// The page's file: the names of the runs, or as many of them as a file's name has room for.
fn page_name(names: &[String]) -> String {
    /// Systems allow 255 bytes, of which a temporary file's name takes some.
    const LONGEST: usize = 200;
    let all = names.join("+");
    if all.len() <= LONGEST {
        return format!("{all}.html");
    }
    let cut = (0..=LONGEST - 40).rev().find(|at| all.is_char_boundary(*at)).unwrap_or(0);
    let hash = fs::sha256_bytes(all.as_bytes());
    format!("{}…-{}-runs-{}.html", &all[..cut], names.len(), &hash[..16])
}

fn last_parts(path: &Path, n: usize) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let kept = &parts[parts.len().saturating_sub(n)..];
    kept.iter().map(|part| part.trim_matches('/')).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::page_name;

    #[test]
    fn a_page_of_many_runs_has_a_name_that_a_file_can_have() {
        let names =
            |n: usize| -> Vec<String> { (0..n).map(|i| format!("läufe-{i:030}")).collect() };
        assert_eq!(page_name(&names(2)), format!("{}.html", names(2).join("+")));
        let [some, more] = [page_name(&names(40)), page_name(&names(41))];
        assert!(some.len() <= 220 && some != more, "{some}");
    }
}
