//! `matformer info`

use crate::support::{GRANULARITIES, Place};

#[test]
fn of_a_run() {
    let place = Place::trained();
    measured_snapshot!(place.matformer(&["info", "run"]), @"
    exit code 0
    --- standard output
    run
    trained 12 steps, 3.1k tokens of data [hash], draw sampled, seed 0
    d_model 32, 2 layers, 2 heads (1 for keys and values), d_ff 256, vocabulary 300, context 32
         width  params  non-embedding  ffn  FLOPs/token  KV bytes/token  exports
     S  32  22.0k  12.4k  6.1k  48.0k  256  transformers, llama.cpp
     M  64  28.2k  18.6k  12.3k  60.3k  256  transformers, llama.cpp
     L  128  40.5k  30.9k  24.6k  84.9k  256  transformers, llama.cpp
     XL  256  65.1k  55.5k  49.2k  134.0k  256  transformers, llama.cpp
    ");
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
    snapshot!(Place::new().matformer(&["info", "--preset", "demo"]), @"
    exit code 0
    --- standard output
    preset demo
    d_model 128, 5 layers, 4 heads (2 for keys and values), d_ff 512, vocabulary 2048, context 256
         width  params  non-embedding  ffn     FLOPs/token  KV bytes/token  exports
     S   64     632.2k  370.0k         122.9k  1.59M        2.6k            transformers, llama.cpp
     M   128    755.1k  492.9k         245.8k  1.84M        2.6k            transformers, llama.cpp
     L   256    1.00M   738.7k         491.5k  2.33M        2.6k            transformers, llama.cpp
     XL  512    1.49M   1.23M          983.0k  3.31M        2.6k            transformers, llama.cpp
    ");
}

#[test]
fn of_a_preset_as_json() {
    snapshot!(Place::new().matformer(&["info", "--preset", "850m", "--json"]), @r#"
    exit code 0
    --- standard output
    {
      "preset": "850m",
      "shape": {
        "vocab_size": 256000,
        "d_model": 1536,
        "n_layers": 16,
        "n_heads": 16,
        "n_kv_heads": 16,
        "d_ff": 6144,
        "width_multiple": 32,
        "context": 1024,
        "tied_embeddings": true,
        "activation": "swi_glu",
        "rope_theta": 10000.0,
        "norm_eps": 0.00001
      },
      "granularities": [
        {
          "name": "S",
          "width": 768,
          "params": {
            "total": 600884736,
            "non_embedding": 207668736,
            "ffn": 56623104
          },
          "flops_per_token": 1252048896.0,
          "kv_bytes_per_token": 196608.0,
          "exports": [
            "transformers",
            "llama.cpp"
          ]
        },
        {
          "name": "M",
          "width": 1536,
          "params": {
            "total": 657507840,
            "non_embedding": 264291840,
            "ffn": 113246208
          },
          "flops_per_token": 1365295104.0,
          "kv_bytes_per_token": 196608.0,
          "exports": [
            "transformers",
            "llama.cpp"
          ]
        },
        {
          "name": "L",
          "width": 3072,
          "params": {
            "total": 770754048,
            "non_embedding": 377538048,
            "ffn": 226492416
          },
          "flops_per_token": 1591787520.0,
          "kv_bytes_per_token": 196608.0,
          "exports": [
            "transformers",
            "llama.cpp"
          ]
        },
        {
          "name": "XL",
          "width": 6144,
          "params": {
            "total": 997246464,
            "non_embedding": 604030464,
            "ffn": 452984832
          },
          "flops_per_token": 2044772352.0,
          "kv_bytes_per_token": 196608.0,
          "exports": [
            "transformers",
            "llama.cpp"
          ]
        }
      ]
    }
    "#);
}

#[test]
fn of_the_paper() {
    snapshot!(Place::new().matformer(&["info", "--preset"]), @"
    exit code 0
    --- standard output
    Parameters of the paper's models (arXiv 2310.07707, Table 4)
               paper total  non-emb.  NAME-paper total  non-emb.  NAME (ours) total  non-emb.
     78m   S   71.0M        5.3M      70.8M             5.3M      71.3M              5.8M
     78m   M   72.0M        6.3M      71.8M             6.3M      72.9M              7.3M
     78m   L   74.0M        8.4M      73.9M             8.4M      76.0M              10.5M
     78m   XL  78.0M        12.6M     78.1M             12.6M     82.3M              16.8M
     180m  S   152.0M       21.1M     152.1M            21.0M     154.2M             23.1M
     180m  M   157.0M       25.3M     156.3M            25.2M     160.4M             29.4M
     180m  L   164.0M       33.7M     164.6M            33.6M     173.0M             42.0M
     180m  XL  180.0M       50.0M     181.4M            50.3M     198.2M             67.1M
     310m  S   244.0M       47.0M     243.8M            47.2M     248.5M             51.9M
     310m  M   253.0M       56.0M     253.3M            56.6M     262.7M             66.1M
     310m  L   272.0M       75.0M     272.1M            75.5M     291.0M             94.4M
     310m  XL  310.0M       113.0M    309.9M            113.3M    347.6M             151.0M
     463m  S   346.0M       84.0M     346.1M            83.9M     354.5M             92.3M
     463m  M   363.0M       100.0M    362.8M            100.7M    379.6M             117.5M
     463m  L   397.0M       134.0M    396.4M            134.3M    429.9M             167.8M
     463m  XL  463.0M       201.0M    463.5M            201.4M    530.6M             268.5M
     850m  S   582.0M       189.0M    582.0M            188.8M    600.9M             207.7M
     850m  M   620.0M       227.0M    619.8M            226.5M    657.5M             264.3M
     850m  L   696.0M       302.0M    695.3M            302.0M    770.8M             377.5M
     850m  XL  850.0M       453.0M    846.3M            453.0M    997.2M             604.0M

    `NAME-paper` is the paper's form: two feed-forward matrices, GELU. Ours differs because SwiGLU has a third matrix:
    at equal d_ff the feed-forward part is half as large again. Other presets: demo, small; of vision models: small28, small64, ti16, s16, b16, l16.
    ");
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
    let place = Place::new();
    let mut child = place.command(&["info", "--preset"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
