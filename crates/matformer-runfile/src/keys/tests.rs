use std::path::Path;

use serde::de::DeserializeOwned;

use super::*;
use crate::{Draft, Lm, Vit};

fn wrong<T: Tables>(text: &str) -> Option<Wrong> {
    check::<T>(&text.parse().unwrap()).err()
}

#[test]
fn the_nearest_key_or_the_right_table_is_named() {
    let said = |key: &str| meant::<Lm>(key);
    assert_eq!(said("train.stepz").unwrap(), "did you mean `steps`?");
    assert_eq!(said("train.learning-rate").unwrap(), "did you mean `learning_rate`?");
    assert_eq!(said("train.lerning_rat").unwrap(), "did you mean `learning_rate`?");
    assert_eq!(said("train.d_model").unwrap(), "`d_model` is a key of the table `model.lm`");
    assert_eq!(said("train.paths").unwrap(), "`paths` is a key of the table `data`");
    assert_eq!(said("trian").unwrap(), "did you mean `train`?");
    assert!(said("model.vit").unwrap().contains("one kind of model"));
    assert_eq!(said("train.unheard_of"), None);
}

#[test]
fn keys_and_types_are_checked() {
    assert_eq!(wrong::<Lm>("[train]\nsteps = 3\nimages_per_step = 4\n"), None);
    assert_eq!(wrong::<Vit>("[data.augment]\npad = 3\n[train]\nspike = { nats = 1.0 }\n"), None);
    let unknown = |key: &str| Some(Wrong { key: key.to_owned(), value: None });
    assert_eq!(wrong::<Lm>("[train]\nstepz = 3\n"), unknown("train.stepz"));
    assert_eq!(wrong::<Lm>("[data.augment]\npad = 3\n"), unknown("data.augment"));
    assert_eq!(wrong::<Vit>("[data]\nfield = \"text\"\n"), unknown("data.field"));
    let value = |text: &str| wrong::<Lm>(text).unwrap().value.unwrap();
    let (found, expected) = value("[train]\nsteps = -3\n");
    assert_eq!((&*found, &*expected), ("-3", "a whole number, 0 or more"));
    assert_eq!(value("[train]\nschedule = \"cos\"\n").1, "\"cosine\" or \"wsd\"");
    assert_eq!(value("[model.lm]\ngranularities = [1, \"2\"]\n").1, "a list of whole numbers");
    assert_eq!(value("train = 3\n").1, "a table");
    assert_eq!(value("[train.steps]\nmore = 1\n").0, "a table");
}

/// All keys of a type, optional ones too: what serde says to a key that no table has.
fn fields<T: DeserializeOwned>() -> Vec<String> {
    let Err(error) = toml::from_str::<T>("'' = 0") else { panic!("a type that takes every key") };
    error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_table_has_every_key_that_a_run_file_can_have() {
    fn check_kind<T: Tables>() {
        let tables = [
            ("model".to_owned(), fields::<T::Model>()),
            (format!("model.{}", T::NAME), fields::<T::Shape>()),
            ("data".to_owned(), fields::<T::Data>()),
            ("train".to_owned(), fields::<matformer_train::TrainConfig>()),
            ("train.distill".to_owned(), fields::<matformer_train::Distill>()),
        ];
        for (table, fields) in tables {
            for field in fields {
                let path = format!("{table}.{field}");
                let known = find::<T>(&path).is_some() || is_table::<T>(&path);
                assert!(known, "{path} is not in KEYS");
            }
        }
    }
    check_kind::<Lm>();
    check_kind::<Vit>();
}

#[test]
fn every_key_can_be_written_as_it_is_shown() {
    fn check_kind<T: Tables>() {
        for key in KEYS.iter().filter(|key| key.is_of(T::KIND)) {
            let Some(value) = key.example.map(str::to_owned).or(key.default()) else {
                panic!("{}: neither a default nor an example", key.path)
            };
            let set = format!("{}={value}", key.path);
            if let Err(error) = Draft::<T>::of(Vec::new(), std::slice::from_ref(&set)) {
                panic!("{set}: {error}");
            }
        }
    }
    check_kind::<Lm>();
    check_kind::<Vit>();
}

/// The part of docs/formats.md that this table writes begins and ends so.
fn marks(kind: RunKind) -> [String; 2] {
    let name = kind.called().name;
    ["begin", "end"].map(|side| format!("<!-- keys of {name}: {side} -->\n"))
}

#[test]
fn the_documentation_has_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let mut expected = found.clone();
    for kind in RunKind::ALL {
        let [begin, end] = marks(kind);
        let from = expected.find(&begin).unwrap() + begin.len();
        let to = expected.find(&end).unwrap();
        expected.replace_range(from..to, &format!("\n{}\n", markdown(kind)));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(found == expected, "docs/formats.md lacks keys: run this test with UPDATE_DOCS=1");
    }
}
