//! Pages about runs: what is measured for them, and where they are written.

mod overlay;
mod page;

use std::path::{Path, PathBuf};

use matformer_core::fs;
use matformer_eval::{
    Consistency,
    report::{curve as curve_svg, render},
};
use matformer_run::{Hinted, Kind, ModelFolder, OrBadInput, Result, Session};
use serde_json::{Value, json};

pub use self::overlay::{Overlay, overlay};
use self::page::{made, metrics, report_data};
use crate::{
    Keep, Measured,
    alone::{Alone, alone, ended},
    consistency::of_trained,
    file_of, measured,
};

/// What a page is about, and where it goes.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Held-out targets; all if none.
    pub tokens: Option<usize>,
    /// Length of the windows that text is measured in; that of the model's training if none.
    pub context: Option<usize>,
    /// The page; one in the folder of the first run if none.
    pub out: Option<PathBuf>,
}

impl Question {
    fn load<K: Kind>(&self, run: &Path, session: &Session) -> Result<ModelFolder<K>> {
        ModelFolder::load(run, session)?.with_context(self.context)
    }

    /// The page, or `own` where none was named. One that cannot be written must not cost the measurements.
    fn page(&self, own: PathBuf) -> Result<PathBuf> {
        let page = self.out.clone().unwrap_or(own);
        if page.is_dir() {
            return Err(Hinted {
                message: format!("{}: a folder; expected a file", page.display()),
                hint: "name another --out".to_owned(),
            })
            .bad_input();
        }
        drop(fs::scratch_dir(&page)?);
        Ok(page)
    }

    /// A page elsewhere asks nothing of the folder of the run.
    fn keep(&self) -> Keep {
        if self.out.is_some() { Keep::May } else { Keep::Must }
    }
}

/// What was measured for a run's page.
pub struct Report<K: Kind> {
    /// The page.
    pub page: PathBuf,
    /// The curve.
    pub measured: Measured<K>,
    /// Sizes that were trained alone.
    pub alone: Vec<Alone>,
    /// How far the sizes predict what the largest does.
    pub consistency: Option<Consistency>,
}

/// Writes the page of a run, and its curve as a file of its own; what was measured before is not measured again.
/// `program` is what the program says of itself there, by name.
///
/// # Errors
/// When the model, its log or its data cannot be read, or the page cannot be written.
pub fn report<K: Kind>(
    run: &Path,
    question: &Question,
    program: Vec<(String, String)>,
    session: &Session,
) -> Result<Report<K>> {
    let (tokens, keep) = (question.tokens, question.keep());
    let folder = question.load::<K>(run, session)?;
    let page = question.page(file_of(&folder, "index", tokens, "html"))?;
    let curve = measured(&folder, tokens, keep)?;
    let ended = ended(&folder)?;
    let alone = alone(&folder, &ended, &curve, tokens, keep)?;
    let consistency = of_trained(&folder, curve.data.as_ref(), tokens, &ended)?;
    let report = Report { page, measured: curve.measured, alone, consistency };
    let log = metrics(&folder)?;
    let made = made(&log, &file_of(&folder, "measured", tokens, "json"), program);
    let data = report_data(&folder, &report, log, made)?;
    let (html, curve) = (render(&data)?, curve_svg(&data)?);
    fs::write_atomic(&report.page, html.as_bytes())?;
    let svg = match &question.out {
        Some(page) => page.with_extension("svg"),
        None => file_of(&folder, "curve", tokens, "svg"),
    };
    fs::write_atomic(svg, curve.as_bytes())?;
    Ok(report)
}

impl<K: Kind> Report<K> {
    /// What `report RUN --json` prints.
    ///
    /// # Errors
    /// When a number has no JSON form.
    pub fn to_json(&self) -> Result<Value> {
        let mut measured = serde_json::to_value(&self.measured)?;
        if let Some(fields) = measured.as_object_mut() {
            // Another report's business, and long.
            fields.remove("documents");
        }
        Ok(json!({
            "report": self.page.display().to_string(), "measured": measured, "alone": self.alone,
            "consistency": self.consistency,
        }))
    }
}
