//! What to do about an error. The libraries' hints name no command; those that do are here.

use std::error::Error;

use matformer::{
    core::{self, Named, Resource},
    data, engine, eval, exchange, lm, nn, run, run_file, search, serve,
    sources::{self, Content},
    train, vit,
};

pub use matformer::run::Hinted;

use crate::ranks;

/// The hint of one error in a chain.
pub fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    macro_rules! first_of {
        ($($error:ty => $hint:path),* $(,)?) => {
            $(if let Some(error) = cause.downcast_ref::<$error>() {
                return $hint(error);
            })*
        };
    }
    first_of!(
        core::Error => of_core,
        data::Error => of_data,
        sources::Error => of_sources,
        nn::Error => of_nn,
        lm::Error => of_lm,
        engine::Error => engine::Error::hint,
        vit::Error => of_vit,
        train::Error => of_train,
        eval::Error => of_eval,
        exchange::Error => ranks::hint,
        search::Error => of_search,
        serve::Error => serve::Error::hint,
        run_file::Error => of_run_file,
        run::Error => of_run,
    );
    cause.downcast_ref::<Hinted>().map(|hinted| hinted.hint.clone())
}

/// The hint of the error that it passes on.
fn of_run(error: &run::Error) -> Option<String> {
    match error {
        run::Error::At { source, .. } => of_run(source),
        _ => error.cause().and_then(hint),
    }
}

fn of_core(error: &core::Error) -> Option<String> {
    use core::Error::{Contents, NamedForOthers, NamedTooDear, UnknownCost, UnknownName};
    let text = match error {
        UnknownName { name, .. } => {
            let Some(budgets) = Named::budgets_of(name) else {
                return error.hint();
            };
            let flags: String = budgets.iter().map(|b| format!(" --budget {b}")).collect();
            format!("run `matformer search MODEL{flags}` to find it")
        }
        UnknownCost { resource: Resource::Millis, .. } => {
            "run `matformer bench layers` first, or use a budget such as `60%`, `60%flops` or \
             `1.2B`"
                .to_owned()
        }
        NamedTooDear { .. } => {
            "latencies were measured again since then: search again with `matformer search`"
                .to_owned()
        }
        NamedForOthers { .. } => {
            "the weights have changed since then: search again with `matformer search`".to_owned()
        }
        Contents { source, .. } => return of_core(source),
        _ => return error.hint(),
    };
    Some(text)
}

fn of_data(error: &data::Error) -> Option<String> {
    match error {
        data::Error::SourceName { .. } => Some(LIST.to_owned()),
        data::Error::Path { path, .. } if path.iter().any(|part| part == CRATES) => Some(
            "`cargo xtask crates`, in the repository, copies Rust sources there".to_owned(),
        ),
        data::Error::Path { .. } => Some(
            "relative paths in a run file start at its folder, those of --set in the working directory"
                .to_owned(),
        ),
        data::Error::File(error) => of_core(error),
        _ => error.hint(),
    }
}

/// The folder of the demo's text.
const CRATES: &str = ".crates";

/// Where the names of sources are.
const LIST: &str = "`matformer fetch` lists them";

fn of_sources(error: &sources::Error) -> Option<String> {
    use sources::Error::{Content as Other, Data, File, Part, Unknown};
    match error {
        Other { name, found: Content::Model, .. } => {
            Some(format!("this is a model: use `matformer import fetch:{name} --out DIR`"))
        }
        Unknown { .. } | Part { .. } | Other { .. } => Some(LIST.to_owned()),
        Data(error) => of_data(error),
        File(error) => of_core(error),
        _ => error.hint(),
    }
}

/// Functions for errors of a crate that passes on those of others.
macro_rules! pass_on {
    ($(fn $name:ident($error:ident: &$of:ident::Error) {
        $($variant:ident => $hint:path,)* _ => $own:expr
    })*) => {
        $(fn $name($error: &$of::Error) -> Option<String> {
            match $error {
                $($of::Error::$variant(error) => $hint(error),)*
                _ => $own,
            }
        })*
    };
}

pass_on! {
    fn of_nn(error: &nn::Error) { Core => of_core, _ => error.hint() }
    fn of_lm(error: &lm::Error) { Nn => of_nn, Core => of_core, _ => error.hint() }
    fn of_vit(error: &vit::Error) { Nn => of_nn, Core => of_core, _ => error.hint() }
    fn of_train(error: &train::Error) {
        Nn => of_nn, Core => of_core, Exchange => ranks::hint,
        _ => error.hint_with("another folder (--out)")
    }
    fn of_eval(error: &eval::Error) {
        Core => of_core, Data => of_data, Nn => of_nn, Lm => of_lm, Vit => of_vit,
        Exchange => ranks::hint,
        _ => error.hint()
    }
    fn of_search(error: &search::Error) { Core => of_core, _ => error.hint() }
    fn of_run_file(error: &run_file::Error) {
        Core => of_core, Data => of_data, Sources => of_sources,
        _ => error.hint().or_else(|| list_of_keys(error))
    }
}

/// Where the keys of run files are listed, for a key that there is not.
fn list_of_keys(error: &run_file::Error) -> Option<String> {
    let unknown = matches!(error, run_file::Error::UnknownKey { .. });
    unknown.then(|| "`matformer keys` lists the keys of run files".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_budgets_is_found_by_a_search_with_them() {
        let unknown = |name: &str| core::Error::UnknownName { name: name.into(), known: vec![] };
        let expected = "run `matformer search MODEL --budget 70%kv_bytes --budget 8ms` to find it";
        assert_eq!(hint(&unknown("best@70%kv_bytes_8ms")).unwrap(), expected);
        assert!(hint(&unknown("best")).unwrap().contains("a width"));
    }

    #[test]
    fn hints_are_found_through_every_crate_that_passes_an_error_on() {
        let of_core = || core::Error::NamedForOthers {
            name: "best@60%".into(),
            found: "a".into(),
            expected: "b".into(),
        };
        let contents =
            core::Error::Contents { path: "named.json".into(), source: Box::new(of_core()) };
        let through: [Box<dyn Error>; 14] = [
            Box::new(of_core()),
            Box::new(contents),
            Box::new(sources::Error::File(of_core())),
            Box::new(sources::Error::Data(data::Error::File(of_core()))),
            Box::new(nn::Error::Core(of_core())),
            Box::new(lm::Error::Nn(nn::Error::Core(of_core()))),
            Box::new(vit::Error::Core(of_core())),
            Box::new(vit::Error::Nn(nn::Error::Core(of_core()))),
            Box::new(train::Error::Nn(nn::Error::Core(of_core()))),
            Box::new(eval::Error::Lm(lm::Error::Core(of_core()))),
            Box::new(search::Error::Core(of_core())),
            Box::new(run_file::Error::Core(of_core())),
            Box::new(run::Error::refused(of_core())),
            Box::new(run::Error::failed(of_core()).at("a place")),
        ];
        for error in through {
            let hint = hint(error.as_ref()).unwrap();
            assert!(hint.ends_with("search again with `matformer search`"), "{error:?}: {hint}");
        }
    }

    #[test]
    fn hints_of_training_name_the_flag() {
        let locked = train::Error::Locked { dir: "run".into() };
        let expected = "wait until it has ended, or train into another folder (--out)";
        assert_eq!(hint(&locked).unwrap(), expected);
        let version = train::Error::StateVersion {
            path: "another folder/step-000006/train/state.json".into(),
            found: 1,
            expected: 2,
        };
        let hint = hint(&version).unwrap();
        assert!(hint.contains("another folder (--out) with `train.init = "), "{hint}");
        assert!(hint.contains("\"another folder/step-000006\""), "{hint}");
    }

    #[test]
    fn hints_of_the_libraries_name_no_command() {
        let of_core = core::Error::UnknownCost { resource: Resource::Millis, known: vec![] };
        assert!(!of_core.hint().unwrap().contains("matformer"));
        assert!(hint(&of_core).unwrap().contains("`matformer bench layers`"));
        let of_train = train::Error::Locked { dir: "run".into() };
        assert!(!of_train.hint().unwrap().contains("--"));
    }
}
