//! `cargo xtask reproduce`: measured pages of `docs/results`, from nothing.

pub mod decode;
pub mod elastify;
pub mod matlm;
mod matlm_tables;
mod matvit;
pub mod page;
mod pretraining;
pub mod ranks;
mod retrieval;
mod search;
mod search_tables;
pub mod serve;
pub mod stamp;

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::{build, crates};
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

/// A pretrained language model made elastic: the `parts` of `docs/results/elastify.*`, all where none is
/// named. Runs and measurements that are there are not made again.
pub fn elastify(parts: &[elastify::Part]) -> Result<()> {
    let binary = Binary::build()?;
    let page = Page { path: "docs/results/elastify", command: "cargo xtask reproduce elastify" };
    page.check(&binary.shell)?;
    let old = page.document(&binary.shell)?;
    elastify::document(&binary, parts, old, &|document| {
        page.write(&binary.shell, document.clone(), &elastify::tables(document))
    })
}

/// The paper's language study: `docs/results/matlm.*`. Runs and measurements that are there are not made again.
/// Of `second_corpus` alone the rest of the page stays as it is.
pub fn matlm(scale: matlm::Scale, second_corpus: bool) -> Result<()> {
    let binary = Binary::build()?;
    let page = Page { path: "docs/results/matlm", command: "cargo xtask reproduce matlm" };
    page.check(&binary.shell)?;
    if scale == matlm::Scale::Trial {
        let document = matlm::document(&binary, &scale.study(), &|_| Ok(()))?;
        println!("{}", matlm_tables::tables(&document));
        return Ok(());
    }
    let write = |document: &Value| {
        page.write(&binary.shell, document.clone(), &matlm_tables::tables(document))
    };
    if second_corpus {
        let before = page.document(&binary.shell)?;
        return matlm::second_corpus(&binary, &scale.study(), before, &write).map(drop);
    }
    matlm::document(&binary, &scale.study(), &write).map(drop)
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
        crates::write()?;
        Ok(Self { shell, path })
    }

    /// Trains `config` into `out` with what `arguments` say; goes on with what was begun there, and
    /// leaves what is complete. Gives the stamp of the training, null if it was complete without one.
    fn train(&self, config: &str, out: &str, arguments: &[&str]) -> Result<Value> {
        let Self { shell, path } = self;
        let folder = PathBuf::from(out);
        let complete = shell.path_exists(folder.join("matformer.json"));
        // Refused where the folder is another run's.
        let resume = shell.path_exists(folder.join("run.toml")).then_some("--resume");
        cmd!(shell, "{path} train {config} {arguments...} --out {out} {resume...}")
            .quiet()
            .run()?;
        self.stamped(out, "trained", complete)
    }

    /// The stamp of something that a run took, and keeps as `WHAT.stamp.json`: of now, unless it was `there`
    /// before.
    fn stamped(&self, run: &str, what: &str, there: bool) -> Result<Value> {
        let file = format!("{what}.stamp.json");
        if there {
            return Ok(self.read(run, &file).unwrap_or_default());
        }
        let stamp = stamp::now(&self.shell)?;
        self.shell.write_file(PathBuf::from(run).join(file), serde_json::to_string(&stamp)?)?;
        Ok(stamp)
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

    /// What `arguments` print, with the stamp of when they did as `stamp`, kept in `file` of the first of
    /// the `runs` that they are about: not asked for again while weights, data, arguments and machine are
    /// the same. `before` is called where it is asked for.
    fn kept(
        &self,
        runs: &[&str],
        file: &str,
        arguments: &[&str],
        before: impl FnOnce() -> Result<()>,
    ) -> Result<Value> {
        let of = |run: &&str| {
            let manifest = self.read(run, "matformer.json").unwrap_or_default();
            json!([manifest["weights_sha256"], manifest["provenance"]["data_hash"]])
        };
        let key = json!([runs.iter().map(of).collect::<Vec<_>>(), arguments, stamp::machine()]);
        let home = runs.first().context("something that is measured is about a run")?;
        // What has no stamp is measured again.
        let same = |kept: &Value| kept["of"] == key && kept["printed"]["stamp"].is_object();
        if let Some(kept) = self.read(home, file).filter(same) {
            eprintln!("{home}/{file}: measured before, reused");
            return Ok(kept["printed"].clone());
        }
        before()?;
        let mut printed = self.json(arguments)?;
        printed["stamp"] = stamp::now(&self.shell)?;
        let text = json!({ "of": key, "printed": printed }).to_string();
        self.shell.write_file(PathBuf::from(home).join(file), text)?;
        Ok(printed)
    }

    /// Removes what `report` measured of some runs, of which it is not known when that was.
    fn forget_reports(&self, runs: &[&str]) -> Result<()> {
        for run in runs {
            self.shell.remove_path(PathBuf::from(run).join("report/measured.json"))?;
        }
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A stand-in for the program, which prints a number that grows with every call.
    ///
    /// Another process writes it: a file that this one has open for writing when another test starts
    /// a process cannot be run ("Text file busy").
    fn binary(folder: &std::path::Path) -> Binary {
        let path = folder.join("program");
        let script = "#!/bin/sh\necho x >> calls\nprintf '{\"n\": %d}' $(wc -l < calls)\n";
        let shell = Shell::new().unwrap();
        shell.change_dir(folder);
        cmd!(shell, "sh -c 'cat > program && chmod 755 program'")
            .stdin(script)
            .quiet()
            .run()
            .unwrap();
        Binary { shell, path }
    }

    #[test]
    fn reused_rows_keep_their_own_date_machine_and_commit() {
        let folder = Shell::new().unwrap().create_temp_dir().unwrap();
        let binary = binary(folder.path());
        let write = |path: &str, value: Value| binary.shell.write_file(path, value.to_string());
        write("run/matformer.json", json!({ "weights_sha256": "w" })).unwrap();
        let kept = || binary.kept(&["run"], "kept.json", &["eval", "run"], || Ok(())).unwrap();
        let first = kept();
        assert_eq!((&first["n"], first["stamp"]["date"].as_str().unwrap().len()), (&json!(1), 10));
        // As if it had been measured long ago, at another commit.
        let mut file = binary.read("run", "kept.json").unwrap();
        file["printed"]["stamp"] = json!({ "date": "2020-02-02", "machine": "m", "commit": "c" });
        write("run/kept.json", file.clone()).unwrap();
        assert_eq!(kept(), file["printed"]);
        // Other weights are measured anew, and what has no stamp.
        write("run/matformer.json", json!({ "weights_sha256": "v" })).unwrap();
        let other = kept();
        assert_eq!((&other["n"], &other["stamp"]), (&json!(2), &first["stamp"]));
        let mut file = binary.read("run", "kept.json").unwrap();
        file["printed"].as_object_mut().unwrap().remove("stamp");
        write("run/kept.json", file).unwrap();
        assert_eq!(kept()["n"], 3);
    }

    #[test]
    fn pages_have_the_rows_of_their_documents() {
        let shell = build::shell().unwrap();
        let document = |page: &str| -> Value {
            let json = shell.read_file(format!("docs/results/{page}.json")).unwrap();
            serde_json::from_str(&json).unwrap()
        };
        let retrieval = document("retrieval");
        let found = retrieval::tables(&retrieval) + &pretraining::tables(&retrieval["pretraining"]);
        let matvit = matvit::tables(page::list(&document("matvit")["runs"])).unwrap();
        let search = search_tables::tables(&document("search"));
        let elastify = elastify::tables(&document("elastify"));
        let matlm = matlm_tables::tables(&document("matlm"));
        let serve = serve::tables(&document("serve"));
        let pages = [
            ("matvit", matvit),
            ("retrieval", found),
            ("search", search),
            ("elastify", elastify),
            ("serve", serve),
            ("matlm", matlm),
        ];
        // A page that nothing was measured for yet has no rows.
        let pages = pages.into_iter().filter(|(_, tables)| tables.contains('|'));
        for (page, tables) in pages {
            let page = shell.read_file(format!("docs/results/{page}.md")).unwrap();
            let mut rows = tables.lines().filter(|line| line.starts_with('|')).peekable();
            assert!(rows.peek().is_some());
            rows.for_each(|row| assert!(page.contains(row), "{row}"));
            // A line says when they were measured, also if nobody recorded it.
            assert!(tables.contains("\nMeasured "), "{tables}");
        }
    }

    #[test]
    fn a_run_that_was_complete_keeps_the_stamp_of_its_training() {
        let folder = Shell::new().unwrap().create_temp_dir().unwrap();
        let binary = binary(folder.path());
        binary.shell.create_dir("run").unwrap();
        let train = || binary.train("run.toml", "run", &[]).unwrap();
        assert!(train()["machine"].is_string());
        binary.shell.write_file("run/matformer.json", "{}").unwrap();
        let old = json!({ "date": "2020-02-02", "machine": "m", "commit": "c" });
        binary.shell.write_file("run/trained.stamp.json", old.to_string()).unwrap();
        assert_eq!(train(), old);
        // Nobody knows when it was trained.
        binary.shell.remove_path("run/trained.stamp.json").unwrap();
        assert_eq!(train(), Value::Null);
    }
}
