//! The errors of this crate.

use std::io;
use std::path::PathBuf;

use crate::{Budget, Resource};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The errors of this crate. A variant carries the thing, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A list of granularities is not ascending, or a name in it is not valid.
    #[error("granularities: `{found}`, expected {expected}")]
    Granularities {
        /// The list as `name=width,…`.
        found: String,
        /// What is required.
        expected: String,
    },
    /// The numbers that describe a model are not consistent.
    #[error("{what}: `{found}`, expected {expected}")]
    Space {
        /// The number's name.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What is required.
        expected: String,
    },
    /// A name that no granularity has.
    #[error("unknown submodel: `{name}`, expected one of {}", quoted(known))]
    UnknownName {
        /// The name as typed.
        name: String,
        /// The names of the granularities.
        known: Vec<String>,
    },
    /// A named submodel that was found for other weights.
    #[error("submodel `{name}` was found for the weights {found}, the model has {expected}")]
    NamedForOthers {
        /// The name.
        name: String,
        /// Hash of the weights that it was found for.
        found: String,
        /// Hash of the model's weights.
        expected: String,
    },
    /// A named submodel that exceeds the budget in its name.
    #[error(
        "submodel `{name}` costs {}, its budget is {}",
        resource.describe(*cost),
        resource.describe(*limit)
    )]
    NamedTooDear {
        /// The name.
        name: String,
        /// The resource of the budget.
        resource: Resource,
        /// Its cost now.
        cost: f64,
        /// The budget, in the resource's unit.
        limit: f64,
    },
    /// A submodel with the wrong number of layers.
    #[error("layers of submodel `{submodel}`: {found}, expected {expected}")]
    LayerCount {
        /// The submodel's text form.
        submodel: String,
        /// Its number of layers.
        found: usize,
        /// The model's number of layers.
        expected: usize,
    },
    /// A width that the model cannot run.
    #[error(
        "width in submodel `{submodel}`: `{width}`, expected a granularity or a multiple of \
         {multiple} from {multiple} to {d_ff}"
    )]
    Width {
        /// The submodel's text form.
        submodel: String,
        /// The width that the model cannot run.
        width: usize,
        /// Widths must be multiples of this, or a granularity's.
        multiple: usize,
        /// The largest width.
        d_ff: usize,
    },
    /// Text that cannot be parsed.
    #[error("{what}: `{found}`, expected {expected}")]
    Parse {
        /// What the text was parsed as.
        what: &'static str,
        /// The text.
        found: String,
        /// The valid forms.
        expected: String,
    },
    /// A budget below the cost of the smallest submodel.
    #[error("{}", too_small(*resource, *budget, submodel, *cost, *largest))]
    BudgetTooSmall {
        /// The resource of the budget.
        resource: Resource,
        /// The budget, in the resource's unit.
        budget: f64,
        /// The smallest submodel's label.
        submodel: String,
        /// Its cost.
        cost: f64,
        /// The largest submodel's cost.
        largest: f64,
    },
    /// A resource for which there is no cost table.
    #[error("nothing was measured in `{resource}` for this model; known costs: {}", quoted(known))]
    UnknownCost {
        /// The resource that was requested.
        resource: Resource,
        /// The resources that have a table.
        known: Vec<Resource>,
    },
    /// A layer or width that a cost table does not cover.
    #[error(
        "cost in `{resource}` of layer {layer} at width {width}: not in the table, expected {expected}"
    )]
    OutsideTable {
        /// The resource of the table.
        resource: Resource,
        /// The layer, counted from 0.
        layer: usize,
        /// The width.
        width: usize,
        /// What the table covers.
        expected: String,
    },
    /// A draw that does not fit the granularities.
    #[error("draw `{draw}`: {found}, expected {expected}")]
    Draw {
        /// The draw's text form.
        draw: String,
        /// What does not fit.
        found: String,
        /// What would fit.
        expected: String,
    },
    /// A plan without submodels.
    #[error("submodels: none, expected at least one")]
    NoSubmodels,
    /// A file operation that failed. The source is the cause.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation: `read`, `write`, …
        action: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file whose contents Git LFS has not fetched: a pointer to them is in its place.
    #[error("`{}` is a pointer of Git LFS, not the file itself", path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A file whose JSON is not valid or not of the expected form. The source says where and why.
    #[error("cannot understand `{}` as {what}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should contain.
        what: &'static str,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// A line of `measurements.jsonl` that is not a measurement. The source says why.
    #[error("cannot understand line {line} of `{}` as a measurement", path.display())]
    JsonLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// A file of a format version that this program cannot read.
    #[error("format_version of `{}`: {found}, expected {expected}", path.display())]
    FormatVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version that this program reads.
        expected: u64,
    },
    /// A file whose numbers are not consistent. The source says which.
    #[error("contents of `{}`", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<Error>,
    },
    /// A measured value that is NaN or infinite, which JSON cannot hold.
    #[error("measurement `{metric}` of `{submodel}`: {found}, expected a finite number")]
    NotFinite {
        /// The metric.
        metric: String,
        /// The submodel's label.
        submodel: String,
        /// The value.
        found: f64,
    },
}

impl Error {
    /// What to do about it, if there is something to do: a sentence without a full stop. Hints that
    /// name a command are in the command.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownName { .. } => Some(
                "a width `128`, runs of layers `64x1+128x4` or a budget `60%` also work".into(),
            ),
            Self::BudgetTooSmall { resource: of, cost, largest, .. } => {
                let percent = (1000.0 * cost / largest).ceil() / 10.0;
                Some(format!("`{}` is enough", Budget::Percent { percent, of: *of }))
            }
            Self::UnknownCost { .. } => {
                Some("`60%`, `60%flops` and `1.2B` need no measurement".into())
            }
            Self::FormatVersion { found, expected, .. } if found > expected => {
                Some("a newer version wrote it: update this program".into())
            }
            Self::LfsPointer { .. } => {
                Some("run `git lfs pull` in its repository to fetch the contents".into())
            }
            Self::Json { what: crate::named::WHAT, .. } => {
                Some("remove the file if it is damaged: searches name their winners again".into())
            }
            Self::JsonLine { .. } => Some("remove the line if it is damaged".into()),
            Self::Contents { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// The message of [`Error::BudgetTooSmall`], with enough digits that different numbers look different.
fn too_small(of: Resource, budget: f64, submodel: &str, cost: f64, largest: f64) -> String {
    let percent = |x: f64, decimals: usize| format!("{:.decimals$} %", 100.0 * x / largest);
    let differ = (1..12).find(|n| percent(budget, *n) != percent(cost, *n)).unwrap_or(12);
    let (mut given, mut needed) = (of.describe(budget), of.describe(cost));
    if given == needed {
        (given, needed) = (of.describe_exactly(budget), of.describe_exactly(cost));
    }
    format!(
        "budget: {given} ({} of the largest submodel), the smallest submodel `{submodel}` costs \
         {needed} ({})",
        percent(budget, differ),
        percent(cost, differ)
    )
}

/// `` `a`, `b` ``, or `none`.
fn quoted<T: std::fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".into();
    }
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}
