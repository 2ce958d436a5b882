//! `named.json`: named submodels, such as the best one that a search found.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Budget, Costs, Error, Manifest, Result, Space, Submodel, fs};

/// A submodel with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Hash of the weights for which it was found.
    pub weights: String,
    /// One width per layer.
    pub widths: Submodel,
    /// The search method that found it: `evolution`.
    pub found_by: String,
    /// The held-out data on which it was selected.
    pub data: String,
    /// Its budgets as typed, all of which it meets: `60%`, `8ms`.
    pub budgets: Vec<String>,
}

impl Named {
    /// The name of the best submodel within all of these budgets: `best@60%`, `best@60%_8ms`. It does
    /// not depend on their order.
    pub fn best_within(budgets: &[Budget]) -> String {
        let mut budgets: Vec<String> = budgets.iter().map(ToString::to_string).collect();
        budgets.sort();
        budgets.dedup();
        format!("{BEST}{}", budgets.join("_"))
    }

    /// The budgets in a name created by [`best_within`](Self::best_within); `None` for any other name.
    pub fn budgets_of(name: &str) -> Option<Vec<Budget>> {
        budgets(name.strip_prefix(BEST)?)
    }

    /// Checks that it still meets its budgets, because latencies differ between machines.
    ///
    /// # Errors
    /// [`Error::NamedTooDear`]; [`Error::UnknownCost`] if there is no cost table for a budget.
    pub fn check(&self, name: &str, space: &Space, costs: &Costs) -> Result<()> {
        for budget in self.budgets.iter().filter_map(|text| text.parse::<Budget>().ok()) {
            let (table, limit) = budget.limit(space, costs)?;
            let cost = table.cost(&self.widths)?;
            if cost > limit {
                let (name, resource) = (name.to_owned(), table.resource);
                return Err(Error::NamedTooDear { name, resource, cost, limit });
            }
        }
        Ok(())
    }
}

/// The named submodels of a model folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Names(BTreeMap<String, Named>);

impl Names {
    /// The file's name in a model folder.
    pub const FILE: &str = "named.json";

    /// Reads the names of a model folder. There are none if the file does not exist.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Json`] for a file that is not valid.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let path = folder.as_ref().join(Self::FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let bytes = fs::read(&path)?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { path, what: WHAT, source })
    }

    /// Adds or replaces a name in a model folder. Processes that do so at the same time take turns.
    ///
    /// # Errors
    /// As [`load`](Self::load); [`Error::Io`] if the file cannot be written.
    pub fn add(folder: impl AsRef<Path>, name: &str, named: Named) -> Result<()> {
        // `named.json` is replaced as a whole, so the lock is on the manifest, which stays.
        let manifest = folder.as_ref().join(Manifest::FILE);
        let _lock = manifest.exists().then(|| fs::Lock::take(&manifest)).transpose()?;
        let mut all = Self::load(&folder)?;
        all.0.insert(name.to_owned(), named);
        fs::write_json(folder.as_ref().join(Self::FILE), WHAT, &all)
    }

    /// The submodel of this name, or `None` if there is none. Budgets in the name are compared by value:
    /// `best@0.1M` is `best@100k`.
    ///
    /// # Errors
    /// [`Error::NamedForOthers`] if it was found for other weights than `weights`.
    pub fn get(&self, name: &str, weights: &str) -> Result<Option<&Named>> {
        let named =
            self.0.get(name).or_else(|| self.0.get(&Named::best_within(&Named::budgets_of(name)?)));
        match named {
            Some(named) if named.weights != weights => Err(Error::NamedForOthers {
                name: name.to_owned(),
                found: named.weights.clone(),
                expected: weights.to_owned(),
            }),
            named => Ok(named),
        }
    }

    /// All names with their submodels.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Named)> {
        self.0.iter().map(|(name, named)| (name.as_str(), named))
    }
}

/// Reads budgets that are joined by `_`, a character that names of resources contain too.
fn budgets(text: &str) -> Option<Vec<Budget>> {
    if let Ok(one) = text.parse() {
        return Some(vec![one]);
    }
    text.rmatch_indices('_').find_map(|(at, _)| {
        let first = text[..at].parse().ok()?;
        Some([vec![first], budgets(&text[at + 1..])?].concat())
    })
}

/// The start of a name that [`Named::best_within`] gives.
const BEST: &str = "best@";

pub(crate) const WHAT: &str = "a list of named submodels";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CostTable, Granularities, Resource};

    #[test]
    fn budgets_may_be_written_in_many_ways() {
        let best = |text: &str| budgets(text).map(|budgets| Named::best_within(&budgets));
        for (text, expected) in [
            ("8ms_60%", "best@60%_8ms"),
            ("60.0%non_embedding_0.1M", "best@100k_60%"),
            ("70%kv_bytes", "best@70%kv_bytes"),
        ] {
            assert_eq!(best(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!((best("60%_"), best("big")), (None, None));
    }

    #[test]
    fn names_are_of_one_set_of_weights() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Names::load(&folder).unwrap(), Names::default());
        let named = |widths: [usize; 2]| Named {
            weights: "aa".into(),
            widths: Submodel::new(widths.to_vec()),
            found_by: "exact".into(),
            data: "d/a".into(),
            budgets: vec!["60%".into()],
        };
        Names::add(&folder, "best@60%", named([8, 16])).unwrap();
        Names::add(&folder, "best@50%", named([8, 8])).unwrap();
        Names::add(&folder, "best@60%", named([16, 16])).unwrap();
        let names = Names::load(&folder).unwrap();
        let found = names.get("best@60%", "aa").unwrap().unwrap();
        assert_eq!(found.widths.widths(), [16, 16]);
        assert_eq!(names.get("best@70%", "aa").unwrap(), None);
        assert_eq!(names.get("best@60.0%non_embedding", "aa").unwrap(), Some(found));
        assert_eq!(
            names.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["best@50%", "best@60%"]
        );
        let error = names.get("best@60%", "bb").unwrap_err();
        let expected = "submodel `best@60%` was found for the weights aa, the model has bb";
        assert_eq!(error.to_string(), expected);
        // [16, 16] exceeds 60 % of itself, [8, 8] does not.
        let space = Space::new(2, 16, 8, Granularities::new(&[8, 16]).unwrap()).unwrap();
        let layers = [(0.0, 1.0); 2];
        let costs = |resource| Costs::new(vec![CostTable::affine(resource, 0.0, &layers, 16)]);
        let message = found.check("best@60%", &space, &costs(Resource::NonEmbedding)).unwrap_err();
        let expected = "submodel `best@60%` costs 32 non-embedding parameters, its budget is 19 \
                        non-embedding parameters";
        assert_eq!(message.to_string(), expected);
        let small = names.get("best@50%", "aa").unwrap().unwrap();
        assert!(small.check("best@50%", &space, &costs(Resource::NonEmbedding)).is_ok());
        assert!(small.check("best@50%", &space, &costs(Resource::Millis)).is_err());
        std::fs::write(folder.path().join(Names::FILE), "[]").unwrap();
        let message = Names::load(&folder).unwrap_err().to_string();
        assert!(message.contains("named.json"), "{message}");
    }

    #[test]
    fn names_that_are_added_at_the_same_time_are_all_kept() {
        const NAMES: usize = 40;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        std::fs::write(folder.join(Manifest::FILE), "{}").unwrap();
        let add = |of: &str| {
            for i in 0..NAMES {
                let named = Named {
                    weights: "aa".into(),
                    widths: Submodel::uniform(8, 2),
                    found_by: "exact".into(),
                    data: "d/a".into(),
                    budgets: vec![],
                };
                Names::add(folder, &format!("{of}{i}"), named).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| add("a"));
            scope.spawn(|| add("b"));
        });
        assert_eq!(Names::load(folder).unwrap().iter().count(), 2 * NAMES);
        assert_eq!(fs::read_to_string(folder.join(Manifest::FILE)).unwrap(), "{}");
    }
}
