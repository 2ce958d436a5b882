//! Tests of the page.

use matformer_core::{Granularities, Space, mix, rng};

use super::*;
use crate::{DataFacts, Paired, ParamCounts};

/// The whole Mix'n'Match curve of a small model, and a run of 1200 steps.
fn sample() -> ReportData {
    let granularities = Granularities::default_for(512).unwrap();
    let space = Space::new(5, 512, 32, granularities).unwrap();
    let result = |(i, submodel): (usize, &Submodel)| {
        let ffn = 384 * submodel.widths().iter().sum::<usize>() as u64;
        let loss = 3.3 - 0.02 * i as f64;
        SubmodelResult {
            submodel: space.label(submodel),
            widths: submodel.widths().to_vec(),
            params: ParamCounts { total: 509_312 + ffn, non_embedding: 247_168 + ffn, ffn },
            loss,
            stderr: Some(0.0213),
            perplexity: loss.exp(),
            bits_per_byte: Some(0.61 * loss),
            top1: None,
            top5: None,
            sources: Vec::new(),
            paired: (i < 15).then(|| Paired {
                to: "XL".into(),
                diff: loss - 3.0,
                stderr: Some(0.0042),
                top1: None,
            }),
        }
    };
    let curve = mix::curve(&space);
    let names: Vec<String> = space.granularities.names().into_iter().map(String::from).collect();
    let mean = |step: u64, i: usize| 3.3 - 0.1 * i as f64 + 30.0 / (step as f64 + 7.0);
    let train = |step| {
        let mut random = rng::keyed(0, "report", step);
        let i = rng::index(&mut random, 4);
        TrainPoint {
            step,
            label: names[i].clone(),
            loss: mean(step, i) + 0.4 * (rng::unit(&mut random) - 0.5),
        }
    };
    let held_out = |at: u64| HeldOutPoint {
        step: 200 * (at / 4 + 1),
        name: names[at as usize % 4].clone(),
        loss: mean(200 * (at / 4 + 1), at as usize % 4) + 0.02,
    };
    let mut data = ReportData {
        title: "An elastic <language> model & its \"sizes\"".into(),
        facts: vec![("Draw".into(), "sampled".into())],
        results: EvalResults {
            model: "runs/demo".into(),
            data: DataFacts {
                hash: "9f2c".repeat(16),
                tokens: 33_012,
                documents: 120,
                context: None,
                clusters: None,
            },
            results: curve.iter().enumerate().map(result).rev().collect(),
        },
        train: (1..=1200).map(train).collect(),
        held_out: (0..24).map(held_out).collect(),
        granularities: names,
        floor: None,
        alone: Vec::new(),
        retrieval: Vec::new(),
        found: Vec::new(),
        stages: None,
        consistency: None,
        sample: Some(Sample {
            submodel: "XL".into(),
            prompt: "fn main() {".into(),
            text: "\n    let x: Vec<u8> = vec![];\n    </pre><script>alert(1)</script>".into(),
        }),
    };
    data.floor = Some(compare(&Baselines { byte_unigram: 4.912, gzip: 1.734 }, &data.results));
    data
}

#[test]
fn the_page_has_every_number_of_the_table() {
    let page = render(&sample()).unwrap();
    let rows: Vec<&str> = page.split("<tr").skip(2).collect(); // the page's head, the table's head
    assert_eq!(rows.len(), 16);
    let cells = |row: &str| -> Vec<String> {
        let cells = row.split("<td>").skip(1);
        cells.map(|cell| cell.split("</td>").next().unwrap_or("").to_owned()).collect()
    };
    assert_eq!(
        cells(rows[0]),
        ["S", "64 × 5", "632,192", "370,048", "3.3000 ± 0.0213", "2.013", "+0.3000 ± 0.0042"]
    );
    assert_eq!(cells(rows[2])[..4], ["64x3+128x2", "64 × 3, 128 × 2", "681,344", "419,200"]);
    assert_eq!(cells(rows[15])[6], "–");
    assert!(rows[15].contains("granularity") && !rows[1].contains("granularity"));
    for text in [
        "33,012 tokens of 120 documents",
        &"9f2c".repeat(16),
        "<dt>Draw</dt><dd>sampled</dd>",
        "Loss − loss of XL",
        "gzip wins: the best submodel here, XL, takes 1.830.",
        "mean of 24 steps",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn the_page_says_what_standard_errors_are_over() {
    let mut data = sample();
    let page = render(&data).unwrap();
    assert!(page.contains("± is one standard error over 120 documents. Differences"), "{page}");
    data.results.data.clusters = Some(7);
    let page = render(&data).unwrap();
    assert!(page.contains("over 7 clusters of 120 documents; those of one cluster"), "{page}");
}

#[test]
fn data_is_escaped_and_nothing_is_fetched() {
    let page = render(&sample()).unwrap();
    for text in [
        "<language>",
        "<script",
        "</pre><",
        "Vec<u8>",
        "src=",
        "href=",
        "url(",
        "@import",
        "https:",
    ] {
        assert!(!page.contains(text), "{text}");
    }
    let addresses = page.matches("http:").count();
    assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    assert_eq!(page.matches("prefers-color-scheme").count(), 1);
}

#[test]
fn figures_are_whole_and_every_color_is_in_the_style_sheet() {
    let page = render(&sample()).unwrap();
    assert_eq!((page.matches("<svg ").count(), page.matches("</svg>").count()), (2, 2));
    let (style, body) = page.split_once("</style>").unwrap();
    for attribute in ["fill=\"#", "stroke=\"#"] {
        for part in body.split(attribute).skip(1) {
            let rule = format!("svg [{attribute}{}\"]", part.get(..6).unwrap_or(""));
            assert!(style.contains(&rule), "{rule}");
        }
    }
    // 16 submodels; six held-out points of each of four granularities.
    assert_eq!(page.matches("<circle").count(), 16 + 24);
}

#[test]
fn what_is_missing_is_left_out() {
    let mut data = sample();
    data.train.clear();
    data.held_out.clear();
    data.floor = None;
    data.sample = None;
    for result in &mut data.results.results {
        (result.paired, result.stderr) = (None, None);
    }
    let page = render(&data).unwrap();
    assert_eq!(page.matches("<svg ").count(), 1);
    for text in ["<h2>Training", "Without a model", "<pre>", "Loss −"] {
        assert!(!page.contains(text), "{text}");
    }
    assert!(page.contains("<td>3.3000</td>"));
    data.results.results.clear();
    data.granularities.clear();
    assert!(render(&data).is_ok());
}

#[test]
fn baselines_say_who_wins() {
    let text = compare(&Baselines { byte_unigram: 4.9, gzip: 2.5 }, &sample().results);
    assert!(text.contains("XL takes 1.830: less than gzip."));
}

#[test]
fn images_are_judged_by_accuracy() {
    let mut data = sample();
    let estimate = |value, stderr| Some(crate::Estimate { value, stderr: Some(stderr) });
    for (i, result) in data.results.results.iter_mut().rev().enumerate() {
        result.top1 = estimate(0.8 + 0.01 * i as f64, 0.004);
        result.top5 = estimate(0.99, 0.001);
        result.bits_per_byte = None;
        if let Some(paired) = &mut result.paired {
            paired.top1 = estimate(-0.021, 0.002);
        }
    }
    let page = render(&data).unwrap();
    for text in ["80.00 ± 0.40", "99.00 ± 0.10", "−2.10 ± 0.20", "Top-1, %", "120 images"] {
        assert!(page.contains(text), "{text}");
    }
    for text in ["Bits/byte", "nats per token", "token"] {
        assert!(!page.contains(text), "{text}");
    }
}
