//! `matformer scaling`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::units::count,
    eval::scaling::Fit,
    study::scaling::{Scaling, scaling},
};

use super::{show, table};
use crate::{args::ScalingArgs, output::out};

pub fn run(args: &ScalingArgs, json: bool) -> Result<ExitCode> {
    show(json, &scaling(&args.runs, args.resamples, args.seed)?, print)
}

fn print(found: &Scaling) -> Result<()> {
    out!("held-out loss of data {}", found.data)?;
    let groups = [("elastic", &found.elastic), ("alone", &found.alone)];
    let mut points = table::plain();
    points.set_header(["", "run", "size", "N (non-emb.)", "D (tokens)", "loss", "fitted"]);
    for (name, group) in groups {
        for trained in &group.points {
            let point = trained.point;
            let fitted = group.fit.map(|fit| fit.law.loss(point.params, point.tokens));
            points.add_row([
                name.to_owned(),
                trained.run.display().to_string(),
                trained.size.clone(),
                count(point.params),
                count(point.tokens),
                format!("{:.4}", point.loss),
                fitted.map_or("-".to_owned(), |loss| format!("{loss:.4}")),
            ]);
        }
    }
    out!("{points}")?;
    let mut laws = table::plain();
    laws.set_header(["loss = a·(N·D)^b + c", "a", "b", "c", "RMSE"]);
    for (name, group) in groups {
        if let Some(fit) = &group.fit {
            laws.add_row(row(name, fit));
        }
    }
    if laws.row_count() > 0 {
        out!("{laws}")?;
    }
    for (name, group) in groups {
        for note in group.notes() {
            out!("note: {name}: {note}")?;
        }
    }
    Ok(())
}

fn row(name: &str, fit: &Fit) -> [String; 5] {
    let cell = |value: f64, places: usize, ends: Option<[f64; 2]>| match ends {
        Some([low, high]) => format!("{value:.places$} ({low:.places$} to {high:.places$})"),
        None => format!("{value:.places$}"),
    };
    let law = fit.law;
    [
        name.to_owned(),
        cell(law.a, 2, fit.intervals.map(|i| i.a)),
        cell(law.b, 3, fit.intervals.map(|i| i.b)),
        cell(law.c, 3, fit.intervals.map(|i| i.c)),
        format!("{:.4}", fit.rmse),
    ]
}
