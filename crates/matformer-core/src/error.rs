//! What can go wrong in this crate.

use std::io;
use std::path::PathBuf;

use crate::{Budget, Resource};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong: each variant carries the thing, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A list of granularities is not ascending, or its names are not fit for use.
    #[error("granularities: `{found}`, expected {expected}")]
    Granularities {
        /// The list as `name=width,…`.
        found: String,
        /// What a list must be.
        expected: String,
    },
    /// The numbers that describe a model do not fit together.
    #[error("{what}: `{found}`, expected {expected}")]
    Space {
        /// The number's name.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What it must be.
        expected: String,
    },
    /// A name that is not a granularity's.
    #[error("unknown submodel: `{name}`, expected one of {}", quoted(known))]
    UnknownName {
        /// The name as typed.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A named submodel of other weights.
    #[error("submodel `{name}` was found for the weights {found}, the model has {expected}")]
    NamedForOthers {
        /// The name.
        name: String,
        /// Hash of the weights that it was found for.
        found: String,
        /// Hash of the model's.
        expected: String,
    },
    /// A named submodel that costs more than when it got its name.
    #[error(
        "submodel `{name}` costs {}, its budget is {}",
        resource.describe(*cost),
        resource.describe(*limit)
    )]
    NamedTooDear {
        /// The name.
        name: String,
        /// What is limited.
        resource: Resource,
        /// What it costs now.
        cost: f64,
        /// What it may cost.
        limit: f64,
    },
    /// A submodel with the wrong number of layers.
    #[error("layers of submodel `{submodel}`: {found}, expected {expected}")]
    LayerCount {
        /// The submodel's text form.
        submodel: String,
        /// Its layers.
        found: usize,
        /// The model's layers.
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
        /// The width that does not fit.
        width: usize,
        /// What widths must be a multiple of.
        multiple: usize,
        /// The widest width.
        d_ff: usize,
    },
    /// Text that is not what it should be.
    #[error("{what}: `{found}`, expected {expected}")]
    Parse {
        /// What the text was read as.
        what: &'static str,
        /// The text.
        found: String,
        /// The forms that it can have.
        expected: String,
    },
    /// A budget that not even the smallest submodel meets.
    #[error("{}", too_small(*resource, *budget, submodel, *cost, *largest))]
    BudgetTooSmall {
        /// What is counted.
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
    /// A resource without a cost table.
    #[error("nothing was measured in `{resource}` for this model; known costs: {}", quoted(known))]
    UnknownCost {
        /// The resource that was asked for.
        resource: Resource,
        /// The resources with a table.
        known: Vec<Resource>,
    },
    /// A cost table that was asked for a layer or width that it does not cover.
    #[error(
        "cost in `{resource}` of layer {layer} at width {width}: not in the table, expected {expected}"
    )]
    OutsideTable {
        /// What the table counts.
        resource: Resource,
        /// The layer, from 0.
        layer: usize,
        /// The width.
        width: usize,
        /// What the table covers.
        expected: String,
    },
    /// An objective that does not fit the granularities.
    #[error("draw `{draw}`: {found}, expected {expected}")]
    Draw {
        /// The draw's text form.
        draw: String,
        /// What does not fit.
        found: String,
        /// What would.
        expected: String,
    },
    /// A plan of nothing.
    #[error("submodels: none, expected at least one")]
    NoSubmodels,
    /// A file operation that failed; the source says why.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file whose JSON is not what it should be; the source says where and why.
    #[error("cannot understand `{}` as {what}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A line of a JSON lines file that is not what it should be; the source says why.
    #[error("cannot understand line {line} of `{}` as a measurement", path.display())]
    JsonLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A file of a format version that this program does not know.
    #[error("format_version of `{}`: {found}, expected {expected}", path.display())]
    FormatVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version that is known.
        expected: u64,
    },
    /// A file whose numbers do not fit together; the source says which.
    #[error("contents of `{}`", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<Error>,
    },
    /// A measured number that files cannot hold.
    #[error("measurement `{metric}` of `{submodel}`: {found}, expected a finite number")]
    NotFinite {
        /// The metric.
        metric: String,
        /// The submodel's label.
        submodel: String,
        /// NaN or infinite.
        found: f64,
    },
}

impl Error {
    /// What to do about it, where there is something to do: a sentence without a full stop.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownName { name, .. } => Some(match crate::named::budgets_of(name) {
                Some(budgets) => {
                    let flags = budgets.iter().map(|budget| format!(" --budget {budget}"));
                    format!("`matformer search MODEL{}` finds it", flags.collect::<String>())
                }
                None => {
                    "a width `128`, runs of layers `64x1+128x4` or a budget `60%` also work".into()
                }
            }),
            Self::BudgetTooSmall { resource: of, cost, largest, .. } => {
                let percent = (1000.0 * cost / largest).ceil() / 10.0;
                Some(format!("`{}` is enough", Budget::Percent { percent, of: *of }))
            }
            Self::UnknownCost { resource: Resource::Millis, .. } => Some(
                "`matformer bench layers` measures it here; `60%`, `60%flops` and `1.2B` need no \
                 measurement"
                    .into(),
            ),
            Self::UnknownCost { .. } => Some("`60%`, `60%flops` and `1.2B` always work".into()),
            Self::FormatVersion { found, expected, .. } if found > expected => {
                Some("a newer version wrote it: update this program".into())
            }
            Self::Json { what: crate::named::WHAT, .. } => {
                Some("remove the file if it is damaged: searches name their winners again".into())
            }
            Self::NamedTooDear { .. } => Some(
                "what it costs was measured again since: search again with `matformer search`"
                    .into(),
            ),
            Self::NamedForOthers { .. } => {
                Some("the model was trained on since: search again with `matformer search`".into())
            }
            Self::JsonLine { .. } => Some("remove the line if it is damaged".into()),
            Self::Contents { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// Numbers that differ are printed so that they do.
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
