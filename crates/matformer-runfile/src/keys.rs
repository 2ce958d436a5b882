//! Keys that do not exist, and what was probably meant.

use matformer_train::TrainConfig;
use serde::de::DeserializeOwned;

use super::{Lm, Tables, Vit};

/// What was probably meant by an unknown key, out of the parser's message: the nearest key of its
/// table, or the table that has it.
pub(super) fn meant(message: &str) -> Option<String> {
    let (found, known) = unknown_field(message)?;
    if [Lm::NAME, Vit::NAME].contains(&found.as_str()) {
        return Some("a run is of one kind of model: it has `model.lm` or `model.vit`".to_owned());
    }
    let nearest = known
        .iter()
        .map(|key| (strsim::damerau_levenshtein(&found, key), key))
        .min()
        // A third of the letters: `stepz`, `learning_rat`, `batchrows`, not `foo`.
        .filter(|(distance, key)| distance * 3 <= key.len().max(3));
    if let Some((_, key)) = nearest {
        return Some(format!("did you mean `{key}`?"));
    }
    let tables = [tables::<Lm>(), tables::<Vit>()].concat();
    let table = &tables.iter().find(|(_, keys)| keys.contains(&found))?.0;
    // Both kinds' tables have this one's name: the key is the other kind's.
    if *table == table_of(message) {
        return None;
    }
    Some(format!("`{found}` is a key of the table `{table}`"))
}

/// The table that a message of the parser's is about, where it says.
fn table_of(message: &str) -> &str {
    let (_, table) = message.rsplit_once(" in `").unwrap_or_default();
    table.trim_end_matches('`')
}

/// The tables of a kind's run file, and their keys.
fn tables<T: Tables>() -> Vec<(String, Vec<String>)> {
    vec![
        ("model".to_owned(), keys_of::<T::Model>()),
        (format!("model.{}", T::NAME), keys_of::<T::Shape>()),
        ("data".to_owned(), keys_of::<T::Data>()),
        ("train".to_owned(), keys_of::<TrainConfig>()),
    ]
}

/// The unknown field that a message of serde's is about, and those that it says there are.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let (_, rest) = message.split_once("unknown field `")?;
    let (found, rest) = rest.split_once('`')?;
    // Behind the list stands where: in `train`.
    let list = rest.split(" in `").next().unwrap_or(rest);
    let known = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((found.to_owned(), known))
}

/// All keys of a table, optional ones too: what serde says to a key that no table has.
fn keys_of<T: DeserializeOwned>() -> Vec<String> {
    match toml::from_str::<T>("'' = 0") {
        Ok(_) => Vec::new(),
        Err(e) => unknown_field(e.message()).map_or_else(Vec::new, |(_, known)| known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_or_the_right_table_is_named() {
        let said = |found: &str, known: &str| {
            meant(&format!("unknown field `{found}`, expected one of {known} in `train`"))
        };
        let train = "`steps`, `seed`, `learning_rate`, `eval_every`";
        assert_eq!(said("stepz", train).unwrap(), "did you mean `steps`?");
        assert_eq!(said("learning-rate", train).unwrap(), "did you mean `learning_rate`?");
        assert_eq!(said("lerning_rat", train).unwrap(), "did you mean `learning_rate`?");
        assert_eq!(said("d_model", train).unwrap(), "`d_model` is a key of the table `model.lm`");
        assert_eq!(said("paths", train).unwrap(), "`paths` is a key of the table `data`");
        assert_eq!(said("unheard_of", train), None);
        assert_eq!(said("train", "`model`, `data`"), None);
        assert_eq!(meant("invalid type: string \"many\", expected u64"), None);
    }

    #[test]
    fn tables_know_their_keys() {
        let train = keys_of::<TrainConfig>();
        for key in ["steps", "batch_rows", "keep"] {
            assert!(train.iter().any(|known| known == key), "{key}: {train:?}");
        }
        assert_eq!(keys_of::<<Lm as Tables>::Model>(), ["preset", "lm"]);
    }
}
