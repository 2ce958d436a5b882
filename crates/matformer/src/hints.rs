//! What to do about an error. The libraries' hints name no command; those that do are here.

use std::error::Error;

use matformer::{
    core::{self, Named, Resource},
    data, eval, lm, nn, run_file, search, train, vit,
};

use crate::failure::Hinted;

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
        nn::Error => of_nn,
        lm::Error => of_lm,
        vit::Error => of_vit,
        train::Error => of_train,
        eval::Error => of_eval,
        search::Error => of_search,
        run_file::Error => of_run_file,
    );
    cause.downcast_ref::<Hinted>().map(|hinted| hinted.hint.clone())
}

fn of_core(error: &core::Error) -> Option<String> {
    use core::Error::{Contents, NamedForOthers, NamedTooDear, UnknownCost, UnknownName};
    let text = match error {
        UnknownName { name, .. } => {
            let Some(budgets) = Named::budgets_of(name) else {
                return error.hint();
            };
            let flags: String = budgets.iter().map(|b| format!(" --budget {b}")).collect();
            format!("`matformer search MODEL{flags}` finds it")
        }
        UnknownCost { resource: Resource::Millis, .. } => {
            "`matformer bench layers` measures it here; `60%`, `60%flops` and `1.2B` need no \
             measurement"
                .to_owned()
        }
        NamedTooDear { .. } => {
            "what it costs was measured again since: search again with `matformer search`"
                .to_owned()
        }
        NamedForOthers { .. } => {
            "the model was trained on since: search again with `matformer search`".to_owned()
        }
        Contents { source, .. } => return of_core(source),
        _ => return error.hint(),
    };
    Some(text)
}

fn of_data(error: &data::Error) -> Option<String> {
    use data::Error::{SourceContent, SourceName, SourcePart, UnknownSource};
    match error {
        SourceName { .. } | UnknownSource { .. } | SourcePart { .. } | SourceContent { .. } => {
            Some("`matformer fetch` lists them".to_owned())
        }
        data::Error::File(error) => of_core(error),
        _ => error.hint(),
    }
}

fn of_nn(error: &nn::Error) -> Option<String> {
    match error {
        nn::Error::Core(error) => of_core(error),
        _ => error.hint(),
    }
}

fn of_lm(error: &lm::Error) -> Option<String> {
    match error {
        lm::Error::Nn(error) => of_nn(error),
        lm::Error::Core(error) => of_core(error),
        _ => error.hint(),
    }
}

fn of_vit(error: &vit::Error) -> Option<String> {
    match error {
        vit::Error::Nn(error) => of_nn(error),
        vit::Error::Core(error) => of_core(error),
        _ => error.hint(),
    }
}

/// Its own hints speak of another folder: the flag that names one is the command's.
fn of_train(error: &train::Error) -> Option<String> {
    match error {
        train::Error::Nn(error) => of_nn(error),
        train::Error::Core(error) => of_core(error),
        _ => Some(error.hint()?.replacen("another folder", "another folder (--out)", 1)),
    }
}

fn of_eval(error: &eval::Error) -> Option<String> {
    match error {
        eval::Error::Core(error) => of_core(error),
        eval::Error::Data(error) => of_data(error),
        eval::Error::Nn(error) => of_nn(error),
        eval::Error::Lm(error) => of_lm(error),
        eval::Error::Vit(error) => of_vit(error),
        _ => error.hint(),
    }
}

fn of_search(error: &search::Error) -> Option<String> {
    match error {
        search::Error::Core(error) => of_core(error),
        _ => error.hint(),
    }
}

fn of_run_file(error: &run_file::Error) -> Option<String> {
    match error {
        run_file::Error::Core(error) => of_core(error),
        _ => error.hint(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_budgets_is_found_by_a_search_with_them() {
        let unknown = |name: &str| core::Error::UnknownName { name: name.into(), known: vec![] };
        let expected = "`matformer search MODEL --budget 70%kv_bytes --budget 8ms` finds it";
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
        let through: [Box<dyn Error>; 9] = [
            Box::new(of_core()),
            Box::new(contents),
            Box::new(nn::Error::Core(of_core())),
            Box::new(lm::Error::Nn(nn::Error::Core(of_core()))),
            Box::new(vit::Error::Core(of_core())),
            Box::new(train::Error::Nn(nn::Error::Core(of_core()))),
            Box::new(eval::Error::Lm(lm::Error::Core(of_core()))),
            Box::new(search::Error::Core(of_core())),
            Box::new(run_file::Error::Core(of_core())),
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
