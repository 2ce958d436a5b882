//! What was typed of `matformer elastify`, as a run file.

use anyhow::Result;
use matformer::{
    core::Manifest,
    run::Kind,
    run_file::{self, Draft},
    study::elastify::{Plan, context_of, defaults},
};
use toml::Value;

use crate::{
    args::ElastifyArgs,
    commands::data::{BESIDE_OTHERS, check_is_data, run_file_of},
    failure::{Hinted, OrBadInput},
};

/// What is made elastic, and how.
pub fn of(args: &ElastifyArgs) -> Plan {
    Plan {
        model: args.model.clone(),
        out: args.out.clone(),
        order: args.order,
        calibration_rows: args.calibration_rows,
        calibration_tokens: args.calibration_tokens,
        tokens: args.tokens,
    }
}

/// The run before its neurons are ordered: it starts from the model itself.
pub fn draft<K: Kind>(args: &ElastifyArgs) -> Result<Draft<K>> {
    let context =
        Manifest::load(&args.model).bad_input().and_then(|_| Ok(context_of::<K>(&args.model)?))?;
    let mut tables = vec![defaults(context)];
    match &args.data[..] {
        [one] if run_file_of(one).is_some() => {
            let path = run_file_of(one).unwrap_or_default();
            let mut table = Draft::<K>::read(&path, &[]).bad_input()?.into_table();
            // Of another model, perhaps.
            table.remove("model");
            table.get_mut("train").and_then(Value::as_table_mut).map(|train| train.remove("init"));
            tables.push(table);
        }
        places => {
            let check = |place: &String| check_is_data(place, &BESIDE_OTHERS);
            places.iter().try_for_each(check).bad_input()?;
            let data = Value::Table(K::data_at(places));
            tables.push([("data".to_owned(), data)].into_iter().collect());
        }
    }
    if let Some(set) = args.sets.iter().find(|set| set.trim_start().starts_with("train.init")) {
        return Err(Hinted {
            message: format!("--set {set}: the run starts from {}", args.model.display()),
            hint: "name another model as the first argument".to_owned(),
        })
        .bad_input();
    }
    let mut draft = Draft::of(tables, &args.sets).bad_input()?;
    draft.set_init(&args.model.display().to_string());
    Ok(draft)
}

/// A run that was begun with other settings, with what to do about it.
pub fn differs(error: run_file::Error) -> anyhow::Error {
    match error {
        run_file::Error::Differs { .. } => Hinted {
            message: error.to_string(),
            hint: "repeat the command that began the run with --resume, or choose another --out"
                .to_owned(),
        }
        .into(),
        other => other.into(),
    }
}
