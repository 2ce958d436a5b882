//! Numbers as people read them.

use matformer_core::Submodel;

pub(super) use matformer_core::units::thousands;

use crate::DataFacts;

/// Which widths how many layers have: `64 × 3, 128 × 2`.
pub(super) fn widths(submodel: &Submodel) -> String {
    let run = |(width, layers): (usize, usize)| format!("{width} × {layers}");
    submodel.runs().into_iter().map(run).collect::<Vec<_>>().join(", ")
}

/// `33,012 tokens of 120 documents`.
pub(super) fn held_out(data: &DataFacts) -> String {
    let tokens = thousands(data.tokens as u64);
    let windows = data.context.map_or(String::new(), |n| format!(" in windows of {n}"));
    format!("{tokens} tokens of {}{windows}", counted(None, data.documents, "document"))
}

/// `120 documents`, `7 clusters of 120 documents`.
pub(super) fn counted(clusters: Option<usize>, of: usize, noun: &str) -> String {
    let count = |n: usize, noun: &str| {
        format!("{} {noun}{}", thousands(n as u64), if n == 1 { "" } else { "s" })
    };
    match clusters {
        Some(clusters) => format!("{} of {}", count(clusters, "cluster"), count(of, noun)),
        None => count(of, noun),
    }
}

/// A tick of an axis that counts: `0`, `250`, `1.5k`, `2M`.
pub(super) fn short(count: f64) -> String {
    let scales = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")];
    let found = scales.into_iter().find(|(scale, _)| count.abs() >= *scale);
    let (scale, letter) = found.unwrap_or((1.0, ""));
    let text = format!("{:.3}", count / scale);
    let number = text.trim_end_matches('0').trim_end_matches('.');
    format!("{number}{letter}")
}

/// Decimals that tell the ticks of an axis of this span apart.
pub(super) fn decimals(span: f64) -> usize {
    let places = (-(span / 10.0).log10()).ceil();
    places.clamp(1.0, 6.0) as usize // NaN becomes 0
}

/// A loss to four places and its standard error, where there is one: `3.0121 ± 0.0123`.
pub(super) fn with_error(value: f64, stderr: Option<f64>) -> String {
    match stderr {
        Some(stderr) => format!("{value:.4} ± {stderr:.4}"),
        None => format!("{value:.4}"),
    }
}

/// Percent to two places: `90.12 ± 0.30`.
pub(super) fn percent(value: f64, stderr: Option<f64>) -> String {
    match stderr {
        Some(stderr) => format!("{value:.2} ± {stderr:.2}"),
        None => format!("{value:.2}"),
    }
}

/// A difference in percent, with its sign: `−0.52 ± 0.21`.
pub(super) fn difference_in_percent(value: f64, stderr: Option<f64>) -> String {
    format!("{}{}", sign(value), percent(value.abs(), stderr))
}

/// A difference, with its sign: `+0.0121 ± 0.0023`, `−0.0121`.
pub(super) fn difference(value: f64, stderr: Option<f64>) -> String {
    format!("{}{}", sign(value), with_error(value.abs(), stderr))
}

fn sign(value: f64) -> char {
    if value < 0.0 { '−' } else { '+' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (count, text) in [
            (0.0, "0"),
            (250.0, "250"),
            (1500.0, "1.5k"),
            (600_000.0, "600k"),
            (1.25e6, "1.25M"),
            (2e9, "2B"),
        ] {
            assert_eq!(short(count), text);
        }
    }

    #[test]
    fn clusters_are_told_where_there_are_some() {
        assert_eq!(counted(None, 1200, "document"), "1,200 documents");
        assert_eq!(counted(None, 1, "image"), "1 image");
        assert_eq!(counted(Some(7), 116, "document"), "7 clusters of 116 documents");
        assert_eq!(counted(Some(1), 2, "image"), "1 cluster of 2 images");
    }

    #[test]
    fn losses() {
        assert_eq!(with_error(3.01214, Some(0.01)), "3.0121 ± 0.0100");
        assert_eq!(with_error(3.0, None), "3.0000");
        assert_eq!(difference(-0.5, Some(0.25)), "−0.5000 ± 0.2500");
        assert_eq!(difference(0.5, None), "+0.5000");
        assert_eq!(percent(90.125, Some(0.3)), "90.12 ± 0.30");
        assert_eq!(difference_in_percent(-0.52, None), "−0.52");
        for (span, places) in [(20.0, 1), (5.0, 1), (0.6, 2), (0.05, 3), (f64::NAN, 0)] {
            assert_eq!(decimals(span), places, "{span}");
        }
    }
}
