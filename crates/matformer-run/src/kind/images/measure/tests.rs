//! What is said beside the nearest training image.

use serde_json::json;

use super::*;

fn results(top1: f64) -> EvalResults {
    let params = json!({ "total": 2, "non_embedding": 1, "ffn": 1 });
    let result = json!({
        "submodel": "XL", "widths": [8], "params": params, "loss": 1.0, "perplexity": 2.7,
        "top1": { "value": top1, "stderr": 0.0 },
    });
    let data = json!({ "hash": "aa", "tokens": 60, "documents": 60 });
    serde_json::from_value(json!({ "model": "run", "data": data, "results": [result] })).unwrap()
}

#[test]
fn nothing_is_better_than_all_right() {
    let said = |top1: f64, nearest: f64, images: usize| {
        let floor = Nearest { top1: nearest, stderr: None, images, gallery: 200 };
        let (line, page) =
            (Vit::say_floor(&floor, &results(top1)), Vit::compare(&floor, &results(top1)));
        (line.contains("no submodel is better"), page.contains("No submodel does better"))
    };
    assert_eq!(said(0.9, 0.8, 60), (false, false));
    assert_eq!(said(0.8, 0.8, 60), (true, true));
    assert_eq!(said(0.9, 1.0, 60), (true, true));
    assert_eq!(said(1.0, 1.0, 60), (false, false), "both are perfect");
    assert!(!said(0.5, 0.8, 2).0, "two images say nothing");
}
