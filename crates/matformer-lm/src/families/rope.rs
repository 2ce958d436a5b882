//! The keys of the rotary embedding: `rope_parameters` (transformers 5), or `rope_theta` and
//! `rope_scaling` (transformers 4). Both are written.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value, json};

use crate::{MatLmConfig, RopeScaling};

/// What the keys say.
pub(super) struct Rope {
    pub(super) theta: f64,
    pub(super) scaling: Option<RopeScaling>,
}

/// What is expected of a table that is not covered.
const COVERED: &str = "`rope_type` `default`, `linear` or `llama3`, with their own keys";

/// Reads the keys as transformers 5 does: `rope_scaling` goes before `rope_parameters`, and a base
/// in the table before one beside it. `theta` is the base where there is none.
pub(super) fn read(file: &ConfigFile, theta: f64) -> Result<Rope> {
    let beside = file.float("rope_theta")?.unwrap_or(theta);
    let filled = |key: &&str| file.get(key).is_some_and(|table| *table != json!({}));
    match ["rope_scaling", "rope_parameters"].into_iter().find(filled) {
        Some(key) => read_table(file, key, file.get(key).unwrap_or(&Value::Null), beside),
        None => Ok(Rope { theta: beside, scaling: None }),
    }
}

/// Reads a table of parameters, which `key` names; `theta` is the base where it has none.
pub(super) fn read_table(file: &ConfigFile, key: &str, table: &Value, theta: f64) -> Result<Rope> {
    let wrong = || file.wrong_value(key, table, COVERED);
    let Some(entries) = table.as_object() else { return Err(wrong()) };
    let number = |name: &str| entries.get(name).and_then(Value::as_f64).ok_or_else(wrong);
    let kind = entries
        .get("rope_type")
        .or(entries.get("type"))
        .map_or(Some("default"), |kind| kind.as_str());
    let scaling = match kind {
        Some("default") => None,
        Some("linear") => Some(RopeScaling::Linear { factor: number("factor")? }),
        Some("llama3") => Some(RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_context: original_context(file, entries)?,
        }),
        _ => return Err(wrong()),
    };
    let own: &[&str] = match scaling {
        None => &[],
        Some(RopeScaling::Linear { .. }) => &["factor"],
        Some(RopeScaling::Llama3 { .. }) => {
            &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
        }
    };
    let plain = |(name, value): (&String, &Value)| match name.as_str() {
        "rope_theta" => value.is_number(),
        "rope_type" | "type" => true,
        "partial_rotary_factor" => value.as_f64() == Some(1.0),
        name => own.contains(&name) || value.is_null(),
    };
    if !entries.iter().all(plain) {
        return Err(wrong());
    }
    Ok(Rope { theta: entries.get("rope_theta").and_then(Value::as_f64).unwrap_or(theta), scaling })
}

/// The context before it was extended: beside the table, or else in it, or else as it is now.
fn original_context(file: &ConfigFile, table: &Map<String, Value>) -> Result<usize> {
    const KEY: &str = "original_max_position_embeddings";
    if let Some(beside) = file.optional(KEY)? {
        return Ok(beside);
    }
    match table.get(KEY).filter(|value| !value.is_null()) {
        Some(value) => {
            let number = value.as_u64().map(|n| n as usize);
            number.ok_or_else(|| file.wrong_value(KEY, value, "a whole number"))
        }
        None => file.number("max_position_embeddings"),
    }
}

/// Adds the keys of both forms.
pub(super) fn write(c: &MatLmConfig, keys: &mut Map<String, Value>) {
    let mut table = table(c.rope_scaling);
    if c.rope_scaling.is_some() {
        keys.insert("rope_scaling".to_owned(), table.clone());
    }
    table["rope_theta"] = json!(c.rope_theta);
    keys.insert("rope_parameters".to_owned(), table);
    keys.insert("rope_theta".to_owned(), json!(c.rope_theta));
}

/// The table of parameters, without the base.
pub(super) fn table(scaling: Option<RopeScaling>) -> Value {
    scaling.map_or_else(|| json!({ "rope_type": "default" }), RopeScaling::table)
}
