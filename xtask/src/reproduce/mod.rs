//! `cargo xtask reproduce`: measured pages of `docs/results`, from nothing.

mod matvit;
mod page;
mod pretraining;
mod retrieval;
mod search;
mod search_tables;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::build;
use page::Page;

/// Every number is measured for each.
const SEEDS: [u64; 2] = [0, 1];

/// Elastic vision transformers: accuracy beside each size alone (`docs/results/matvit.*`), then retrieval,
/// and elastic pretraining against elastic fine-tuning (`docs/results/retrieval.*`). Runs that are
/// complete in `runs/` are not made again.
pub fn matvit() -> Result<()> {
    let binary = Binary::build()?;
    let page = Page { path: "docs/results/matvit", command: "cargo xtask reproduce matvit" };
    let second = Page { path: "docs/results/retrieval", ..page };
    page.check(&binary.shell)?;
    second.check(&binary.shell)?;
    let runs =
        SEEDS.map(|seed| matvit::run(&binary, seed)).into_iter().collect::<Result<Vec<_>>>()?;
    page.write(&binary.shell, matvit::document(&runs), &matvit::tables(&runs)?)?;

    let mut document = retrieval::document(&binary)?;
    let mut tables = retrieval::tables(&document);
    let tuned = pretraining::document(&binary)?;
    tables.push_str(&pretraining::tables(&tuned));
    document["pretraining"] = tuned;
    second.write(&binary.shell, document, &tables)
}

/// What every method of `matformer search` finds, at five budgets on three models, and what it takes:
/// `docs/results/search.*`. Runs and measurements that are there are not made again.
pub fn search() -> Result<()> {
    let binary = Binary::build()?;
    let page = Page { path: "docs/results/search", command: "cargo xtask reproduce search" };
    page.check(&binary.shell)?;
    let document = search::document(&binary)?;
    let tables = search_tables::tables(&document);
    page.write(&binary.shell, document, &tables)
}

/// The `matformer` binary.
struct Binary {
    shell: Shell,
    path: PathBuf,
}

impl Binary {
    fn build() -> Result<Self> {
        let shell = build::shell()?;
        let path = build::matformer(&shell)?;
        Ok(Self { shell, path })
    }

    /// Trains `config` into `out` with what `arguments` say; goes on with what was begun there, and
    /// leaves what is complete.
    fn train(&self, config: &str, out: &str, arguments: &[&str]) -> Result<()> {
        let Self { shell, path } = self;
        // Refused where the folder is another run's.
        let resume = shell.path_exists(PathBuf::from(out).join("run.toml")).then_some("--resume");
        let call = cmd!(shell, "{path} train {config} {arguments...} --out {out} {resume...}");
        Ok(call.quiet().run()?)
    }

    /// What a command prints with `--json`.
    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let Self { shell, path } = self;
        let printed = cmd!(shell, "{path} {arguments...} --json").quiet().read()?;
        Ok(serde_json::from_str(&printed)?)
    }

    /// A JSON file of a run.
    fn read(&self, run: &str, file: &str) -> Option<Value> {
        let text = self.shell.read_file(PathBuf::from(run).join(file)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// What `arguments` print, kept in `file` of the run that they are about: not asked for again while its
    /// weights, its data, the arguments and the machine are the same. `before` is called where it is asked for.
    fn kept(
        &self,
        run: &str,
        file: &str,
        arguments: &[&str],
        before: impl FnOnce() -> Result<()>,
    ) -> Result<Value> {
        let manifest = self.read(run, "matformer.json").unwrap_or_default();
        let data = &manifest["provenance"]["data_hash"];
        let key = json!([manifest["weights_sha256"], data, arguments, page::machine()]);
        if let Some(kept) = self.read(run, file).filter(|kept| kept["of"] == key) {
            eprintln!("{run}/{file}: measured before, reused");
            return Ok(kept["printed"].clone());
        }
        before()?;
        let printed = self.json(arguments)?;
        let text = serde_json::to_string(&json!({ "of": key, "printed": printed }))?;
        self.shell.write_file(PathBuf::from(run).join(file), text)?;
        Ok(printed)
    }
}
