//! Which layers see all positions and which a sliding window: `layer_types`.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value, json};

use crate::{MatLmConfig, Window};

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// The window of a model: of the layers that `layer_types` names, or where that is missing, of
/// those for which `default` holds. `size` is `None` where the keys switch windows off.
pub(super) fn read_window(
    file: &ConfigFile,
    n_layers: usize,
    size: Option<usize>,
    default: impl Fn(usize) -> bool,
) -> Result<Option<Window>> {
    let layers: Vec<usize> = match file.get("layer_types") {
        Some(types) => sliding_layers(file, types, n_layers)?,
        None => (0..n_layers).filter(|layer| size.is_some() && default(*layer)).collect(),
    };
    match size {
        _ if layers.is_empty() => Ok(None),
        Some(size) => {
            let layers = (layers.len() < n_layers).then_some(layers);
            Ok(Some(Window { size, layers, rope_theta: None }))
        }
        None => {
            let expected = format!("`{FULL}` only: no `sliding_window` is switched on");
            Err(file.wrong("layer_types", &expected))
        }
    }
}

fn sliding_layers(file: &ConfigFile, types: &Value, n_layers: usize) -> Result<Vec<usize>> {
    let list = types.as_array().filter(|list| {
        list.len() == n_layers && list.iter().all(|kind| kind == FULL || kind == SLIDING)
    });
    let Some(list) = list else {
        let expected = format!("{n_layers} of `{FULL}` and `{SLIDING}`");
        return Err(file.wrong("layer_types", &expected));
    };
    Ok((0..n_layers).filter(|layer| list[*layer] == SLIDING).collect())
}

/// The window of Qwen and SmolLM3: `sliding_window`, which is `default` where the key is missing,
/// where `use_sliding_window` is on.
pub(super) fn switched_size(file: &ConfigFile, default: Option<usize>) -> Result<Option<usize>> {
    let size = read_size(file, default)?;
    Ok(if file.flag("use_sliding_window")? { size } else { None })
}

/// `sliding_window`, which is `default` where the key is missing; `null` is none.
pub(super) fn read_size(file: &ConfigFile, default: Option<usize>) -> Result<Option<usize>> {
    match file.raw("sliding_window") {
        Some(_) => file.optional("sliding_window"),
        None => Ok(default),
    }
}

/// Adds `layer_types`, and `sliding_window` with the switch of Qwen and SmolLM3.
pub(super) fn write_switched(c: &MatLmConfig, keys: &mut Map<String, Value>) {
    write_types(c, keys);
    keys.insert("use_sliding_window".to_owned(), c.window.is_some().into());
    keys.insert("sliding_window".to_owned(), size(c));
}

/// Adds `layer_types`.
pub(super) fn write_types(c: &MatLmConfig, keys: &mut Map<String, Value>) {
    let kind = |layer| if c.window_of(layer).is_some() { SLIDING } else { FULL };
    keys.insert("layer_types".to_owned(), (0..c.n_layers).map(kind).collect());
}

/// What `sliding_window` holds.
pub(super) fn size(c: &MatLmConfig) -> Value {
    json!(c.window.as_ref().map(|window| window.size))
}
