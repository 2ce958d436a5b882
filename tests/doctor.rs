//! `matformer doctor`: what a device is good for.

use crate::support::{Place, keys};

#[test]
fn the_cpu_is_examined_and_works() {
    let place = Place::new();
    let output = place.matformer(&["doctor", "--quick", "--json"]).ok();
    let found = output.json();
    assert_eq!(
        keys(&found),
        [
            "version",
            "device",
            "available",
            "machine",
            "free_memory",
            "hardware",
            "in_host_memory",
            "ops",
            "training",
            "matrices",
            "bytes_per_second",
            "speeds",
            "problems",
            "verdict"
        ]
    );
    assert_eq!((&found["device"], &found["problems"]), (&"flex".into(), &serde_json::json!([])));
    assert_eq!(found["matrices"][0]["size"], 512);
    assert_eq!(found["speeds"][0]["shape"], "small");
    for number in ["training", "generation"] {
        assert!(found["speeds"][0][number].as_f64().unwrap() > 0.0, "{number}");
    }
    assert_eq!(found["verdict"]["ok"], true);
    let text = place.matformer(&["doctor", "--quick", "-q"]).ok().stdout;
    for line in [
        "device     flex",
        "matrices   512 × 512: ",
        "memory     ",
        "small      ",
        "The CPU works.",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
