//! A run file with a comment to each key.

use std::path::Path;

use matformer_nn::ModelConfig;
use toml::{Table, Value};

use super::Starter;
use crate::{Draft, Result, Tables, keys::KEYS};

/// Width of a key with its value, where it is not longer.
const WIDTH: usize = 32;

/// The text of the run file `file`: the keys of `own` are set, others are shown with their defaults.
pub(super) fn of<T: Tables>(starter: &Starter, own: &Table, file: &Path) -> Result<String> {
    let run = Draft::<T>::of(vec![own.clone()], &[])?.resolve()?;
    let defaults = Table::try_from(&run).unwrap_or_default();
    // Those that follow from the shape.
    let space = run.shape().space().ok();
    let widths = space.map(|space| format!("{:?}", space.granularities.widths()));
    let mut text = head(starter, file);
    let mut above = "";
    for key in KEYS.iter().filter(|key| key.is_shown(T::KIND)) {
        let (table, name) = key.parts();
        if table != above {
            text += &format!("\n[{table}]\n");
            above = table;
        }
        let set = get(own, key.path).map(|value| format!("{name} = {value}"));
        let line = set.unwrap_or_else(|| {
            let default = get(&defaults, key.path).map(Value::to_string);
            let widths = (name == "granularities").then(|| widths.clone()).flatten();
            let example = widths.or(key.example.map(str::to_owned));
            let shown = default.or(example).unwrap_or_default();
            format!("# {name} = {shown}")
        });
        text += &format!("{line:<WIDTH$}  # {}\n", key.about);
    }
    Ok(text)
}

fn head(starter: &Starter, file: &Path) -> String {
    // A name with a line break would end the comment.
    let plain = |text: &str| text.replace(char::is_control, "?");
    let name = plain(&file.file_name().unwrap_or_default().to_string_lossy());
    let run = plain(&file.file_stem().unwrap_or_default().to_string_lossy());
    format!(
        "# A run of matformer on {}.\n\
         #\n\
         #   matformer train {name} --dry-run    parameters, time and memory; writes nothing\n\
         #   matformer train {name}              trains into runs/{run}; Ctrl-C saves, --resume continues\n\
         #\n\
         # A key behind `#` shows its default, or an example.\n",
        starter.found()
    )
}

fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |at, part| at.as_table()?.get(part))
}
