//! The names of documents, and their order.

use std::cmp::Ordering;

use super::Entry;
use crate::format::Kind;
use crate::inputs::Input;

/// The names of documents, by the files that they are in.
#[derive(Clone, Copy)]
pub(super) struct Names<'a>(pub &'a [Input]);

impl Names<'_> {
    /// The file of a document.
    pub(super) fn input(&self, document: &Entry) -> &Input {
        &self.0[document.input as usize]
    }

    /// The name of a document.
    pub(super) fn name(&self, document: &Entry) -> String {
        let input = self.input(document);
        match (document.row, input.format.kind) {
            (0, _) => input.name.clone(),
            // So that they are in the order of the text.
            (block, Kind::Blocks { .. }) => format!("{}:{block:08}", input.name),
            (row, _) => format!("{}:{row}", input.name),
        }
    }

    /// The order of the names, as texts.
    pub(super) fn order(&self, a: &Entry, b: &Entry) -> Ordering {
        if a.input == b.input && !matches!(self.input(a).format.kind, Kind::Blocks { .. }) {
            return by_digits(a.row, b.row);
        }
        let (first, second) = (&self.input(a).name, &self.input(b).name);
        match a.input != b.input && (first.starts_with(second) || second.starts_with(first)) {
            true => self.name(a).cmp(&self.name(b)),
            false => first.cmp(second).then(a.row.cmp(&b.row)),
        }
    }
}

/// The order of two numbers that are written as texts: 10 comes before 9.
pub(super) fn by_digits(a: u32, b: u32) -> Ordering {
    let digits = |number: u32| number.checked_ilog10().unwrap_or(0);
    let scaled = |number: u32| u64::from(number) * 10_u64.pow(9 - digits(number));
    scaled(a).cmp(&scaled(b)).then(digits(a).cmp(&digits(b)))
}
