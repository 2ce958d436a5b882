//! `cargo xtask bench serve`: many clients of mixed sizes at one server, beside llama.cpp's; `docs/results/serve.*`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::Value;
use xshell::{Shell, cmd};

use super::{
    page::{Page, head, table, text},
    stamp,
};
use crate::{build, parity};

const PAGE: Page = Page { path: "docs/results/serve", command: "cargo xtask bench serve" };

/// What is measured.
#[derive(Debug, Args)]
pub struct Serve {
    /// Model folder with the sizes S, M, L and XL; replaces what the page has of it
    model: PathBuf,
    /// Python; with xllamacpp llama.cpp's server is loaded in the same way, with XL
    #[arg(long, default_value = "python3")]
    python: String,
    /// Clients at the same time
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long they ask
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Texts that are generated at the same time
    #[arg(long, default_value_t = 8)]
    slots: usize,
    /// New tokens of each text
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Format of the weights; f32 alone gives the same text in any company
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Malformed requests after that
    #[arg(long, default_value_t = 1000)]
    malformed: usize,
    /// The command, where it is built already
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Print what was found as JSON; the page stays as it is
    #[arg(long)]
    json: bool,
}

/// Loads the server, and writes the page. Fails if a text is not that of `generate`, a request fails, or a malformed one
/// gets no refusal: then what was found is printed, and the page stays as it is.
pub fn run(args: &Serve) -> Result<()> {
    let shell = build::shell()?;
    PAGE.check(&shell)?;
    let mut found = measured(&shell, args)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(());
    }
    found["stamp"] = stamp::now(&shell)?;
    let name = args.model.file_name().map_or_else(String::new, |n| n.to_string_lossy().into());
    let mut document = PAGE.document(&shell)?;
    document["models"][&name] = found;
    PAGE.write(&shell, document.clone(), &tables(&document))
}

fn measured(shell: &Shell, args: &Serve) -> Result<Value> {
    let matformer = args.binary.clone().map_or_else(|| build::matformer(shell), Ok)?;
    let Serve { model, python, dtype, .. } = args;
    let scratch = shell.create_temp_dir()?;
    let (gguf, out) = (scratch.path().join("xl.gguf"), scratch.path().join("found.json"));
    let mut more = Vec::new();
    if parity::check_has(shell, python, &["xllamacpp"]).is_ok() {
        cmd!(
            shell,
            "{matformer} slice {model} --submodel XL --format gguf --dtype {dtype} --out {gguf}"
        )
        .quiet()
        .ignore_stdout()
        .run()?;
        more.extend(["--gguf".into(), gguf.into_os_string()]);
    } else {
        eprintln!("`{python}` has no xllamacpp: llama.cpp is left out");
    }
    let numbers = [
        ("--clients", args.clients.to_string()),
        ("--seconds", args.seconds.to_string()),
        ("--slots", args.slots.to_string()),
        ("--tokens", args.tokens.to_string()),
        ("--malformed", args.malformed.to_string()),
    ];
    let numbers = numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    let ended = cmd!(
        shell,
        "{python} xtask/python/bench_serve.py --binary {matformer} --model {model} --dtype {dtype} --out {out}
         {numbers...} {more...}"
    )
    .quiet()
    .run();
    if let (Err(_), true) = (&ended, out.exists()) {
        println!("{}", shell.read_file(&out)?);
    }
    ended?;
    Ok(serde_json::from_str(&shell.read_file(&out)?)?)
}

pub(super) fn tables(document: &Value) -> String {
    let models = document["models"].as_object().into_iter().flatten();
    models.map(|(name, found)| of_model(name, found)).collect()
}

fn of_model(name: &str, found: &Value) -> String {
    let stamp = stamp::line("Measured", [(name.to_owned(), &found["stamp"])]);
    let seconds = text(&found["seconds"]);
    format!(
        "### {name}\n\n{stamp}\n{} clients, each of which asks again as soon as its text is whole, for {seconds} s; {} \
         slots, texts of up to {} tokens, weights in {}:\n\n{}\n{}",
        text(&found["clients"]),
        text(&found["slots"]),
        text(&found["tokens"]),
        text(&found["dtype"]),
        loads(found),
        after(found),
    )
}

fn loads(found: &Value) -> String {
    let servers = [
        ("mixed", "matformer, S to XL"),
        ("xl", "matformer, XL alone"),
        ("llama_cpp", "llama.cpp, XL alone"),
    ];
    let rows = servers.iter().filter(|(key, _)| found[key].is_object()).map(|(key, name)| {
        let load = &found[key];
        let quantiles = |of: &str| {
            let of = &load[of];
            format!("{} / {}", number(&of["p50"]), number(&of["p95"]))
        };
        let memory = &load["memory_mb"];
        let different = if *key == "llama_cpp" { String::new() } else { text(&load["different"]) };
        vec![
            (*name).to_owned(),
            text(&load["requests"]),
            text(&load["n_errors"]),
            different,
            number(&load["tokens_per_second"]),
            quantiles("first_token_ms"),
            quantiles("between_tokens_ms"),
            if memory.is_null() {
                String::new()
            } else {
                format!("{} / {}", number(&memory["after_a_second"]), number(&memory["most"]))
            },
        ]
    });
    table(
        &head(&[
            "server",
            "texts",
            "errors",
            "mixed up",
            "tokens/s",
            "first token, ms, p50 / p95",
            "between tokens, ms, p50 / p95",
            "MB after a second / at most",
        ]),
        rows.collect(),
    )
}

/// What followed on the load.
fn after(found: &Value) -> String {
    let malformed = &found["malformed"];
    format!(
        "Then {} malformed requests: {} without a proper refusal; a good request after every 50 was answered as before; \
         memory {} MB before, {} MB after. Stopped by SIGTERM while a text ran: the text ended whole, exit code {}.\n",
        text(&malformed["requests"]),
        malformed["wrong"].as_array().map_or(0, Vec::len),
        number(&malformed["memory_mb"]["before"]),
        number(&malformed["memory_mb"]["after"]),
        text(&found["ended"]["code"]),
    )
}

/// Three digits that count.
fn number(value: &Value) -> String {
    let digits = |value: f64| if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    value.as_f64().map_or_else(String::new, |value| format!("{value:.*}", digits(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_has_a_row_per_server() {
        let load = |rate: f64| {
            json!({
                "requests": 100, "n_errors": 0, "different": 0, "tokens_per_second": rate,
                "first_token_ms": { "p50": 5.25, "p95": 60.0 }, "between_tokens_ms": { "p50": 1.0, "p95": 2.0 },
            })
        };
        let found = json!({
            "clients": 64, "slots": 8, "seconds": 60.0, "tokens": 64, "dtype": "f32",
            "mixed": load(1000.0), "llama_cpp": load(12.5), "malformed": { "requests": 10, "wrong": [] },
            "ended": { "code": 0 },
        });
        let page = tables(&json!({ "models": { "demo": found } }));
        assert!(
            page.contains(
                "| matformer, S to XL | 100 | 0 | 0 | 1000 | 5.25 / 60.0 | 1.00 / 2.00 |"
            ),
            "{page}"
        );
        assert!(page.contains("| llama.cpp, XL alone | 100 | 0 |  | 12.5 |"), "{page}");
        assert!(!page.contains("XL alone | 100 | 0 | 0"), "{page}");
    }
}
