//! Families of submodels over which the paper compared its heuristic (arXiv 2310.07707v2 p. 5 and 18).

use std::fmt;

use matformer_core::Submodel;

use crate::{Error, Problem, Result};

/// How widths run from the first layer to the last, where at most two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Narrow, then wide: the heuristic ([`matformer_core::curve`]).
    Increasing,
    /// Wide, then narrow.
    Decreasing,
    /// Wide in the middle.
    UpDown,
    /// Wide at both ends.
    DownUp,
    /// The narrowest, then the widest of all, where the others mix neighbouring widths.
    Extremes,
}

impl Shape {
    /// All shapes.
    pub const ALL: [Self; 5] =
        [Self::Increasing, Self::Decreasing, Self::UpDown, Self::DownUp, Self::Extremes];

    /// The members of the family, from the fewest wide layers to the most; limits aside.
    pub fn family(self, problem: &Problem) -> Vec<Submodel> {
        let (n, widths) = (problem.n_layers(), problem.widths());
        let ends = [widths[0], widths[widths.len() - 1]];
        let pairs: Vec<[usize; 2]> = match self {
            Self::Extremes => vec![ends],
            _ => widths.windows(2).map(|pair| [pair[0], pair[1]]).collect(),
        };
        let mut family = Vec::new();
        for [narrow, wide] in pairs {
            for n_wide in 0..n {
                let layers = (0..n).map(|layer| match self.is_wide(layer, n, n_wide) {
                    true => wide,
                    false => narrow,
                });
                family.push(Submodel::new(layers.collect()));
            }
        }
        family.push(Submodel::uniform(ends[1], n));
        family
    }

    /// The last member of the family that meets all limits; `None` where none does.
    pub fn largest(self, problem: &Problem) -> Option<Submodel> {
        self.family(problem).into_iter().rev().find(|submodel| problem.fits(submodel))
    }

    fn is_wide(self, layer: usize, n: usize, n_wide: usize) -> bool {
        let narrow = n - n_wide;
        match self {
            Self::Increasing | Self::Extremes => layer >= narrow,
            Self::Decreasing => layer < n_wide,
            Self::UpDown => (narrow / 2..narrow / 2 + n_wide).contains(&layer),
            Self::DownUp => !(n_wide / 2..n_wide / 2 + narrow).contains(&layer),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Increasing => "increasing",
            Self::Decreasing => "decreasing",
            Self::UpDown => "up-down",
            Self::DownUp => "down-up",
            Self::Extremes => "extremes",
        })
    }
}

/// How many submodels there are whose widths never fall from layer to layer, limits aside.
pub fn count_non_decreasing(problem: &Problem) -> f64 {
    // Layers among which the widths change, with repetition: C(n + g − 1, g − 1).
    let (n, g) = (problem.n_layers(), problem.widths().len());
    (1..g).map(|i| (n + i) as f64 / i as f64).product()
}

/// All submodels within the limits whose widths never fall from layer to layer, in their order.
///
/// # Errors
/// [`Error::TooMany`] where there are more than `most` before limits are looked at.
pub fn non_decreasing(problem: &Problem, most: usize) -> Result<Vec<Submodel>> {
    let found = count_non_decreasing(problem).round();
    if found > most as f64 {
        return Err(Error::TooMany { found, most });
    }
    let mut all = vec![Vec::new()];
    for _ in 0..problem.n_layers() {
        let longer = |head: Vec<usize>| {
            let from = head.last().copied().unwrap_or(0);
            let widths = problem.widths().iter().filter(move |width| **width >= from);
            widths.map(move |width| [&head[..], &[*width]].concat()).collect::<Vec<_>>()
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    let all = all.into_iter().map(Submodel::new);
    Ok(all.filter(|submodel| problem.fits(submodel)).collect())
}
