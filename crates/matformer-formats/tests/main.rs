//! Vision transformers of timm and transformers: their outputs, and what is refused, from fixtures made
//! by `fixtures/make_vits.py`.

#[allow(dead_code, reason = "shared with tests that compare gradients")]
#[path = "../../matformer-nn/tests/compare.rs"]
mod compare;
mod gemma3n;
mod language;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use compare::{device, floats, values, worst};
use matformer_core::{Plan, SubmodelSpec};
use matformer_formats::{ImportedVit, Normalization, Preprocessor, import_vit, save_timm};
use matformer_nn::{Elastic, State, folder, params, walk};
use matformer_vit::{MatVit, MatVitConfig, Pooling, costs};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

const NAMES: [&str; 6] =
    ["timm_vit", "timm_deit", "timm_mean", "timm_scaled", "transformers_deit", "transformers_dino"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A folder of a fixture's two files.
fn folder_of(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: String, to: &str| std::fs::copy(fixture(&from), dir.path().join(to)).unwrap();
    copy(format!("{name}.safetensors"), folder::WEIGHTS);
    copy(format!("{name}_config.json"), folder::CONFIG);
    dir
}

fn import(name: &str) -> ImportedVit {
    import_vit(folder_of(name).path(), None, &device()).unwrap()
}

/// Logits, or what a head would see where there is none.
fn output(imported: &ImportedVit, submodel: &str, pixels: &[f32]) -> Vec<f32> {
    let model = &imported.model;
    let spec: SubmodelSpec = submodel.parse().unwrap();
    let submodel = spec.resolve(model.space(), &costs(model.config())).unwrap();
    let images = model.images(2, pixels).unwrap();
    let walked = walk(model, &images, &Plan::one(&submodel), &mut State::new()).unwrap();
    if imported.headless {
        values(model.pooled(&walked.of(0)))
    } else {
        values(model.head(&walked.of(0)))
    }
}

#[test]
fn outputs_are_those_of_the_program_that_wrote_it() {
    let bytes = std::fs::read(fixture("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut compared = 0;
    for name in NAMES {
        let imported = import(name);
        let pixels = floats(&file, &format!("{name}.pixels"));
        for submodel in ["XL", "16x1+64x1"] {
            let key = format!("{name}.{submodel}.out");
            if file.tensor(&key).is_err() {
                continue;
            }
            let off = worst(&output(&imported, submodel, &pixels), &floats(&file, &key));
            assert!(off < 1e-5, "{key}: {off}");
            compared += 1;
        }
    }
    assert_eq!(compared, 7, "every model, and one of them narrower");
}

#[test]
fn what_a_folder_says_is_known() {
    let facts = |name| {
        let found = import(name);
        let c = found.model.config();
        format!(
            "{}: {}x{}x{}, classes {}, heads {}, {:?}{}{}, left out {:?}",
            found.format,
            c.image_size,
            c.image_size,
            c.channels,
            c.classes,
            c.n_heads,
            c.pooling,
            if c.distillation_token { " and distillation token" } else { "" },
            if found.headless { ", no head" } else { "" },
            found.left_out
        )
    };
    let found = NAMES.map(facts).join("\n");
    let expected = "\
a ViT of timm: 12x12x3, classes 5, heads 3, ClassToken, left out []
a ViT of timm: 8x8x3, classes 3, heads 2, ClassToken and distillation token, left out []
a ViT of timm: 8x8x1, classes 4, heads 2, Mean, left out []
a ViT of timm: 8x8x3, classes 1, heads 2, ClassToken, no head, left out []
a DeiT of transformers: 8x8x3, classes 3, heads 2, ClassToken and distillation token, left out []
a DINOv2 of transformers: 8x8x3, classes 1, heads 2, ClassToken, no head, left out [\"embeddings.mask_token\"]";
    assert_eq!(found, expected);
    let pixels = import("timm_deit").preprocessor.unwrap();
    assert_eq!(pixels.normalization.mean, [0.485, 0.456, 0.406]);
    // 90 % of 8 pixels; and it resizes bicubically.
    assert_eq!((pixels.short_side, pixels.differs.len()), (Some(8), 1));
    assert_eq!(import("transformers_deit").preprocessor, None);
    // As older versions of timm wrote it: all keys at the top, no arguments.
    let flat = changed("timm_deit", |config| {
        let preset = config["pretrained_cfg"].take();
        let heads = json!({ "num_heads": config["model_args"]["num_heads"] });
        let top = config.as_object_mut().unwrap();
        top.extend(preset.as_object().unwrap().clone());
        top["model_args"] = heads;
        top.remove("pretrained_cfg");
    });
    let flat = import_vit(flat.path(), None, &device()).unwrap();
    assert_eq!(flat.preprocessor, Some(pixels));
    // Sizes that no architecture's name says are arguments, and the other way round.
    let folder = changed("timm_vit", |config| {
        config["model_args"]["num_heads"] = Value::Null;
        config["label_names"] = json!(["a", "b", "c", "d", "e"]);
    });
    let found = import_vit(folder.path(), Some(&[16, 64]), &device()).unwrap().model;
    assert_eq!((found.config().n_heads, found.space().granularities.widths()), (3, vec![16, 64]));
    assert_eq!(found.config().class_names.as_ref().unwrap()[4], "e");
}

#[test]
fn a_model_is_of_the_dtype_that_it_is_stored_in() {
    let stored_as_bf16 = |name: &str| {
        let folder = folder_of(name);
        let path = folder.path().join(folder::WEIGHTS);
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let half = |view: TensorView<'_>| -> Vec<u8> {
            view.data().chunks(4).flat_map(|value| [value[2], value[3]]).collect()
        };
        let tensors: Vec<_> = file
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, view.shape().to_vec(), half(view)))
            .collect();
        let views = tensors.iter().map(|(name, shape, data)| {
            (name, TensorView::new(Dtype::BF16, shape.clone(), data).unwrap())
        });
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        import_vit(folder.path(), None, &device()).unwrap().dtype.name()
    };
    assert_eq!(import("timm_vit").dtype.name(), "float32");
    assert_eq!(stored_as_bf16("timm_vit"), "bfloat16");
    assert_eq!(stored_as_bf16("timm_scaled"), "float32", "a scale became part of a matrix");
}

/// Every parameter, by path.
fn parameters(model: &MatVit) -> Vec<(String, Vec<f32>)> {
    let mut found = Vec::new();
    params::read(model, |path, data| {
        found.push((path.to_owned(), data.try_into_vec().unwrap()));
        Ok(())
    })
    .unwrap();
    found
}

#[test]
fn what_is_written_for_timm_is_read_back_to_the_bit() {
    let device = Device::flex();
    let small = MatVitConfig {
        image_size: 8,
        channels: 2,
        d_model: 12,
        n_layers: 2,
        n_heads: 2,
        d_ff: 40,
        granularities: Some(vec![8, 40]),
        width_multiple: 8,
        classes: 3,
        class_names: Some(["x", "y", "z"].map(str::to_owned).to_vec()),
        ..MatVitConfig::default()
    };
    let distilled = MatVitConfig { distillation_token: true, ..small.clone() };
    let mean = MatVitConfig { pooling: Pooling::Mean, ..small.clone() };
    for config in [small, distilled, mean] {
        let model = MatVit::new(&config, 1, &device).unwrap();
        let pixels = Normalization { mean: vec![0.1, 0.2], std: vec![0.3, 0.4] };
        let pixels = Preprocessor::new(pixels, Some(9));
        let dir = tempfile::tempdir().unwrap();
        save_timm(&model, &pixels, dir.path()).unwrap();
        let found = import_vit(dir.path(), Some(&[8, 40]), &device).unwrap();
        assert_eq!(parameters(&found.model), parameters(&model));
        assert_eq!(found.model.config(), &config);
        assert_eq!(found.preprocessor, Some(pixels));
        assert!(found.left_out.is_empty() && !found.headless);
    }
}

#[test]
fn layers_of_different_widths_have_no_place_in_timm() {
    let device = Device::flex();
    let config =
        MatVitConfig { n_layers: 2, layer_d_ff: Some(vec![48, 384]), ..Default::default() };
    let model = MatVit::new(&config, 1, &device).unwrap();
    let pixels = Preprocessor::new(Normalization { mean: vec![0.5], std: vec![0.5] }, None);
    let dir = tempfile::tempdir().unwrap();
    let message = save_timm(&model, &pixels, dir.path()).unwrap_err().to_string();
    assert!(message.contains("expected one width for all layers"), "{message}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A fixture's folder with another `config.json`.
fn changed(name: &str, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let dir = folder_of(name);
    let path = dir.path().join(folder::CONFIG);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
    dir
}

fn message(dir: &Path) -> String {
    let error = import_vit(dir, None, &device()).unwrap_err().to_string();
    error.split_once(".json: ").or(error.split_once(".safetensors: ")).unwrap().1.to_owned()
}

#[test]
fn what_no_matvit_can_be_is_refused_by_key() {
    let refused = |name, key: &str, value: Value| {
        message(changed(name, |config| config[key] = value.clone()).path())
    };
    let arg = |key: &str, value: Value| {
        message(changed("timm_vit", |c| c["model_args"][key] = value.clone()).path())
    };
    let found = [
        refused("transformers_dino", "model_type", json!("swin")),
        refused("transformers_dino", "hidden_act", json!("relu")),
        refused("transformers_dino", "num_attention_heads", json!(3)),
        refused("transformers_dino", "num_hidden_layers", json!(1_000_000)),
        refused("transformers_deit", "qkv_bias", json!(false)),
        refused("transformers_deit", "hidden_size", json!(24)),
        refused("timm_vit", "architecture", json!("resnet50")),
        refused("timm_vit", "global_pool", json!("map")),
        refused("timm_vit", "global_pool", json!("avg")),
        arg("act_layer", json!("quick_gelu")),
        arg("num_heads", json!(5)),
    ]
    .join("\n");
    let expected = "\
`model_type`: \"swin\"; expected `vit`, `deit` or `dinov2`, or timm's key `architecture` in its place
`hidden_act`: \"relu\"; expected `gelu`
`num_attention_heads` is 3; expected a divisor of `d_model` 16
`num_hidden_layers`: 1000000; expected at most 25, the tensors of the weights
`qkv_bias`: false; expected true: a MatViT has biases everywhere
tensor `deit.embeddings.patch_embeddings.projection.weight`: shape [16, 3, 4, 4]; expected shape [24, 3, 4, 4]
`architecture`: \"resnet50\"; expected one of timm's `vit_…` or `deit_…`
`global_pool`: \"map\"; expected `token`, or `avg` with `fc_norm` and without a class token
`global_pool`: \"avg\"; expected `token`, or `avg` with `fc_norm` and without a class token
`model_args.act_layer`: \"quick_gelu\"; expected `gelu`
`n_heads` is 5; expected a divisor of `d_model` 24";
    assert_eq!(found, expected);
}

/// A fixture's folder whose tensors were changed: each as (name, shape, bytes).
fn rewritten(
    name: &str,
    change: impl Fn(&mut Vec<(String, Vec<usize>, Vec<u8>)>),
) -> tempfile::TempDir {
    let dir = folder_of(name);
    let path = dir.path().join(folder::WEIGHTS);
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    dir
}

#[test]
fn every_tensor_is_accounted_for() {
    let qkv = "blocks.1.attn.qkv.bias";
    let without = |missing: &str| {
        let missing = missing.to_owned();
        message(rewritten("timm_vit", move |t| t.retain(|(name, ..)| *name != missing)).path())
    };
    let put = |name: &str, shape: Vec<usize>, value: f32| {
        let name = name.to_owned();
        let change = move |tensors: &mut Vec<(String, Vec<usize>, Vec<u8>)>| {
            tensors.retain(|(other, ..)| *other != name);
            let n = shape.iter().product();
            let bytes = vec![value.to_le_bytes(); n].concat();
            tensors.push((name.clone(), shape.clone(), bytes));
        };
        message(rewritten("timm_vit", change).path())
    };
    let found = [
        without(qkv),
        without("pos_embed"),
        without("patch_embed.proj.weight"),
        put(qkv, vec![24], 0.0),
        put(qkv, vec![72], f32::NAN),
        put("reg_token", vec![1, 4, 24], 0.0),
        put("pos_embed", vec![1, 12, 24], 0.0),
    ]
    .join("\n");
    let expected = "\
tensor `blocks.1.attn.qkv.bias`: nothing; expected shape [72]
tensor `pos_embed`: nothing; expected 3 dimensions, as a ViT has
tensor `patch_embed.proj.weight`: nothing; expected 4 dimensions, as a ViT has
tensor `blocks.1.attn.qkv.bias`: shape [24]; expected shape [72]
tensor `blocks.1.attn.qkv.bias`: NaN at element 0; expected finite values
tensor `reg_token`: a tensor that the model does not have; expected the model's 32 tensors only
tensor `pos_embed`: 12 positions; expected those of a square of patches";
    assert_eq!(found, expected);
    // A norm of every token before their mean is another model.
    let before = rewritten("timm_mean", |tensors| {
        for (name, ..) in tensors.iter_mut() {
            *name = name.replace("fc_norm", "norm");
        }
    });
    assert!(message(before.path()).contains("`avg` with `fc_norm` and without a class token"));
    // One head for two tokens, and a head that sees more than a token.
    let one_head = rewritten("transformers_deit", |tensors| {
        for (name, ..) in tensors.iter_mut() {
            *name = name.replace("cls_classifier", "classifier");
        }
    });
    assert!(message(one_head.path()).contains("DeiTForImageClassificationWithTeacher"));
    let wide = rewritten("transformers_dino", |tensors| {
        tensors.push(("classifier.weight".to_owned(), vec![3, 32], vec![0; 384]));
    });
    assert_eq!(
        message(wide.path()),
        "tensor `classifier.weight`: shape [3, 32]; expected shape [3, 16]"
    );
}
