//! Values of options: how they are read, and what is expected of them.

use std::{str::FromStr, time::Duration};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use matformer::{engine, run_file::RunKind};

/// A kind of model, by what its data is called.
pub(super) fn kind() -> impl TypedValueParser<Value = RunKind> {
    let value = |kind: RunKind| PossibleValue::new(kind.called().data).help(kind.called().data_for);
    PossibleValuesParser::new(RunKind::ALL.map(value)).try_map(|name| {
        let mut kinds = RunKind::ALL.into_iter();
        kinds.find(|kind| kind.called().data == name).ok_or("expected a kind of data")
    })
}

pub(super) fn draft_len(text: &str) -> Result<usize, &'static str> {
    let fits = |n: &usize| (1..=engine::DraftLen::MOST).contains(n);
    text.parse().ok().filter(fits).ok_or("expected a number from 1 to 15")
}

pub(super) fn at_least_two(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|n| (2..=4096).contains(n)).ok_or("expected a number from 2 to 4096")
}

pub(super) fn whole<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "expected a whole number, 0 or more")
}

pub(super) fn at_least_one(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|n| *n > 0).ok_or("expected a whole number, 1 or more")
}

pub(super) fn up_to_4096(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|n| (1..=4096).contains(n)).ok_or("expected a whole number, 1 to 4096")
}

/// `5GB`, `500MB`, `1000000`: powers of ten, as Hugging Face counts.
pub(super) fn byte_size(text: &str) -> Result<u64, &'static str> {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000), ("", 1)];
    let size = units.into_iter().find_map(|(unit, bytes)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(bytes)
    });
    size.filter(|size| *size > 0).ok_or("expected a size above 0, such as 5GB, 500MB or 1000000")
}

pub(super) fn temperature(text: &str) -> Result<f64, &'static str> {
    let fits = |t: &f64| *t >= 0.0 && t.is_finite();
    text.parse().ok().filter(fits).ok_or("expected a number, 0 or more")
}

pub(super) fn probability(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|p| *p > 0.0 && *p <= 1.0).ok_or("expected above 0, at most 1")
}

pub(super) fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds: Option<f64> = text.parse().ok().filter(|s| (0.0..=1e6).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or("expected a number of seconds, 0 or more")
}

pub(super) fn below_one(text: &str) -> Result<f64, &'static str> {
    let fits = |p: &f64| (0.0..1.0).contains(p);
    text.parse().ok().filter(fits).ok_or("expected a number from 0 to below 1")
}

pub(super) fn share(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or("expected a number from 0 to 1")
}

pub(super) fn positive(text: &str) -> Result<f64, &'static str> {
    let fits = |r: &f64| *r > 0.0 && r.is_finite();
    text.parse().ok().filter(fits).ok_or("expected a number above 0")
}

pub(super) fn penalty(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|x| (-2.0..=2.0).contains(x)).ok_or("expected a number from -2 to 2")
}

pub(super) fn bias(text: &str) -> Result<(u32, f32), &'static str> {
    let parse =
        |(token, bias): (&str, &str)| Some((token.parse().ok()?, bias.parse::<f32>().ok()?));
    let found = text.split_once('=').and_then(parse).filter(|(_, bias)| !bias.is_nan());
    found.ok_or("expected a token id and a number, such as 1234=-5")
}
