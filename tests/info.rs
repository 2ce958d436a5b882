//! `matformer info`

use crate::support::{GRANULARITIES, Place};

#[test]
fn of_a_run() {
    let place = Place::trained();
    measured_snapshot!(place.matformer(&["info", "run"]), @"");
}

#[test]
fn of_a_run_as_json() {
    let place = Place::trained();
    let info = place.matformer(&["info", "run", "--json"]).ok().json();
    assert_eq!(info["model"], "run");
    assert_eq!(info["shape"]["d_model"], 32);
    assert_eq!(info["manifest"], place.read_json("run/matformer.json"));
    let granularities = info["granularities"].as_array().unwrap();
    assert_eq!(granularities.len(), GRANULARITIES.len());
    for (found, (name, width)) in granularities.iter().zip(GRANULARITIES) {
        assert_eq!((&found["name"], &found["width"]), (&name.into(), &width.into()));
        // Two layers of three matrices of [width, 32].
        assert_eq!(found["params"]["ffn"], 2 * 3 * 32 * width);
    }
}

#[test]
fn of_a_preset() {
    snapshot!(Place::new().matformer(&["info", "--preset", "demo"]), @"");
}

#[test]
fn of_a_preset_as_json() {
    snapshot!(Place::new().matformer(&["info", "--preset", "850m", "--json"]), @"");
}

#[test]
fn of_the_paper() {
    snapshot!(Place::new().matformer(&["info", "--preset"]), @"");
}

#[test]
fn of_the_paper_as_json() {
    let rows = Place::new().matformer(&["info", "--preset", "--json"]).ok().json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 20);
    for row in rows {
        for at in 0..2 {
            let figure = |form: &str| row[form][at].as_f64().unwrap();
            let off = figure("two_matrix") / figure("paper") - 1.0;
            assert!(off.abs() < 0.012, "{row}");
        }
    }
}

#[test]
#[cfg(unix)]
fn a_reader_may_go_away() {
    let mut child = Place::new().command(&["info", "--preset"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
