//! The tables of the page.

use serde_json::Value;

use crate::reproduce::{
    page::{head, list, table, text},
    stamp,
};

/// Above this, other programs took time of the cores.
const QUIET: f64 = 0.5;

pub(super) fn all(found: &Value) -> String {
    let stamp = stamp::line("Measured", [(String::new(), &found["stamp"])]);
    let loaded = match found["load"].as_f64() {
        Some(load) if load > QUIET => format!(
            " **Other programs ran meanwhile** (load average {load:.2} before): these times are rough.\n"
        ),
        _ => String::new(),
    };
    let parts = [training(&found["training"]), sweep(&found["sweep"]), network(&found["network"])];
    format!("{stamp}{loaded}\n{}", parts.join("\n"))
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(String::new, |value| format!("{value:.digits$}"))
}

fn training(rows: &Value) -> String {
    let rows = list(rows).iter().map(|row| {
        vec![
            text(&row["preset"]),
            number(&row["one_process"], 0),
            number(&row["two_ranks"], 0),
            number(&row["efficiency"], 2),
        ]
    });
    let head = head(&["preset", "one process, two threads", "two ranks, one thread each", "ratio"]);
    format!("### Training, tokens per second\n\n{}", table(&head, rows.collect()))
}

fn sweep(row: &Value) -> String {
    let cells = vec![
        text(&row["submodels"]),
        number(&row["one_thread_s"], 1),
        number(&row["two_ranks_s"], 1),
        number(&row["speedup"], 2),
    ];
    let head = head(&["submodels", "one thread, s", "two ranks, s", "times as fast"]);
    format!("### A sweep, with equal losses\n\n{}", table(&head, vec![cells]))
}

fn network(found: &Value) -> String {
    if found.is_null() {
        return "### A slow network\n\nNot measured: there were no network namespaces.\n"
            .to_owned();
    }
    let rows = list(&found["rows"]).iter().map(|row| {
        let megabytes = row["sent_bytes"].as_f64().map(|bytes| (bytes / 1e6).into());
        vec![
            text(&row["exchange"]),
            number(&row["tokens_per_second"], 0),
            number(&megabytes.unwrap_or(Value::Null), 1),
            number(&row["held_out"]["S"], 4),
            number(&row["held_out"]["XL"], 4),
        ]
    });
    let head = head(&["", "tokens/s", "MB sent by each", "loss of S", "loss of XL"]);
    let passed: f64 = list(&found["bytes_passed_on"]).iter().filter_map(Value::as_f64).sum();
    format!(
        "### {} hosts, {} ms and {} Gbit/s between them\n\nPreset `{}`, {} steps; the hosts share this machine's \
         cores.\n\n{}\nThe link has passed on {:.0} MB in all.\n",
        found["hosts"],
        found["delay_ms"],
        found["gbit_per_second"],
        text(&found["preset"]),
        found["steps"],
        table(&head, rows.collect()),
        passed / 1e6
    )
}
