//! Reads the description of a vision transformer from a folder written by another program.

use matformer_nn::{ConfigFile, Error, Result, weights::Tensors};
use matformer_vit::{MatVitConfig, Pooling, hugging_face};
use serde_json::Value;

use crate::{NORM_EPS, names::Names, preprocessor::timm_key};

/// A checkpoint before its tensors are read.
pub(crate) struct Described {
    /// Its shape; widths and granularities are not chosen yet.
    pub config: MatVitConfig,
    /// What its tensors are called.
    pub names: Names,
    /// Whether it has a head.
    pub head: bool,
    /// What it is.
    pub format: &'static str,
}

/// Whose checkpoint it is, and its shape.
///
/// # Errors
/// When a MatViT cannot compute what it does. The error names the key or tensor that says so.
pub(crate) fn describe(file: &ConfigFile, tensors: &Tensors<'_>) -> Result<Described> {
    match (file.text("model_type"), file.text("architecture")) {
        (Some("vit" | "deit" | "dinov2"), _) => from_hugging_face(file, tensors),
        (None, Some(name)) if is_vit_of_timm(name) => from_timm(file, tensors, name),
        (None, Some(_)) => Err(file.wrong("architecture", "one of timm's `vit_…` or `deit_…`")),
        _ => Err(file.wrong(
            "model_type",
            "`vit`, `deit` or `dinov2`, or timm's key `architecture` in its place",
        )),
    }
}

fn from_hugging_face(file: &ConfigFile, tensors: &Tensors<'_>) -> Result<Described> {
    const PATCH: &str = "embeddings.patch_embeddings.projection.weight";
    let body = tensors.unread().find_map(|name| name.strip_suffix(PATCH)).unwrap_or("").to_owned();
    let model_type = file.text("model_type").unwrap_or_default();
    let (format, names) = match model_type {
        "dinov2" => ("a DINOv2 of transformers", Names::Dinov2 { body }),
        "deit" => ("a DeiT of transformers", Names::HuggingFace { body, head: "cls_classifier" }),
        _ => ("a ViT of transformers", Names::HuggingFace { body, head: "classifier" }),
    };
    let d_ff = match model_type {
        "dinov2" => {
            file.check("use_swiglu_ffn", false, ": the feed-forward block has no gate")?;
            rows(tensors, &names, "vit.encoder.layer.0.intermediate.dense.weight")?
        }
        _ => file.number("intermediate_size")?,
    };
    let config = hugging_face::shape(file, d_ff)?;
    // A head of one kind only: transformers' two DeiT classifiers differ in it.
    if model_type == "deit" && tensors.shape("classifier.weight").is_some() {
        return Err(file.wrong(
            "architectures",
            "`DeiTForImageClassificationWithTeacher`: each of the two tokens has a head",
        ));
    }
    let classes = classes(tensors, &names);
    let named = hugging_face::class_names(file).filter(|names| Some(names.len()) == classes);
    Ok(Described {
        config: MatVitConfig {
            distillation_token: model_type == "deit",
            classes: classes.unwrap_or(1),
            class_names: named,
            ..config
        },
        names,
        head: classes.is_some(),
        format,
    })
}

fn is_vit_of_timm(name: &str) -> bool {
    ["vit_", "deit_", "deit3_"].iter().any(|start| name.starts_with(start))
}

/// timm's `config.json` names an architecture: its sizes are read off its tensors.
fn from_timm(file: &ConfigFile, tensors: &Tensors<'_>, architecture: &str) -> Result<Described> {
    let class_token = tensors.shape("cls_token").is_some();
    let distillation_token = tensors.shape("dist_token").is_some();
    let pool = file.text("global_pool").unwrap_or("token");
    // The norm comes behind the mean, or it is another model.
    let norm = if tensors.shape("fc_norm.weight").is_some() { "fc_norm" } else { "norm" };
    let pooling = match (pool, class_token, norm) {
        ("token", true, "norm") => Pooling::ClassToken,
        ("avg", false, "fc_norm") => Pooling::Mean,
        _ => {
            let expected = "`token`, or `avg` with `fc_norm` and without a class token";
            return Err(file.wrong("global_pool", expected));
        }
    };
    let names = Names::Timm { norm };
    let args = file.get("model_args");
    let arg = |key: &str| args.and_then(|args| args.get(key)).filter(|value| !value.is_null());
    if let Some(other) = arg("act_layer").filter(|value| *value != "gelu") {
        return Err(file.wrong_value("model_args.act_layer", other, "`gelu`"));
    }
    let patch = "vit.embeddings.patch_embeddings.projection.weight";
    let [d_model, channels, patch_size, _] = sizes(tensors, &names, patch)?;
    let [_, positions, _] = sizes(tensors, &names, "vit.embeddings.position_embeddings")?;
    let extra = usize::from(class_token) + usize::from(distillation_token);
    // Some have positions for patches alone.
    let told = side_of_input(file, patch_size);
    let side = [positions.saturating_sub(extra), positions]
        .into_iter()
        .find_map(|n| Some(n.isqrt()).filter(|side| side * side == n && n > 0))
        .filter(|side| told.is_none_or(|told| told == Some(*side)));
    let side = side.ok_or_else(|| Error::Tensor {
        path: tensors.first().to_owned(),
        tensor: "pos_embed".to_owned(),
        found: format!("{positions} positions"),
        expected: "those of a square of patches".to_owned(),
    })?;
    let classes = classes(tensors, &names);
    Ok(Described {
        config: MatVitConfig {
            image_size: side * patch_size,
            channels,
            patch_size,
            classes: classes.unwrap_or(1),
            d_model,
            n_layers: (0..).take_while(|n| has_layer(tensors, *n)).count(),
            n_heads: heads_of_timm(file, arg("num_heads"), architecture)?,
            d_ff: rows(tensors, &names, "vit.encoder.layer.0.intermediate.dense.weight")?,
            pooling,
            distillation_token,
            norm_eps: NORM_EPS,
            class_names: label_names(file).filter(|names| Some(names.len()) == classes),
            ..MatVitConfig::default()
        },
        names,
        head: classes.is_some(),
        format: "a ViT of timm",
    })
}

/// Patches on a side of the images that `input_size` names: none of images that are no squares.
fn side_of_input(file: &ConfigFile, patch_size: usize) -> Option<Option<usize>> {
    let size = timm_key(file, "input_size")?.as_array()?;
    let [_, height, width] = &size[..] else { return None };
    let pixels = height.as_u64().filter(|_| height == width);
    Some(pixels.map(|pixels| pixels as usize / patch_size.max(1)))
}

fn has_layer(tensors: &Tensors<'_>, layer: usize) -> bool {
    tensors.shape(&format!("blocks.{layer}.norm1.weight")).is_some()
}

/// Heads of an architecture of timm's, unless its arguments say it.
fn heads_of_timm(file: &ConfigFile, typed: Option<&Value>, architecture: &str) -> Result<usize> {
    if let Some(heads) = typed.and_then(Value::as_u64) {
        return Ok(heads as usize);
    }
    let of_size =
        [("tiny", 3), ("small", 6), ("base", 12), ("medium", 8), ("large", 16), ("huge", 16)];
    let size = architecture.split('_').nth(1).unwrap_or_default();
    match of_size.into_iter().find(|(name, _)| *name == size) {
        Some((_, heads)) => Ok(heads),
        None => Err(file.wrong(
            "architecture",
            "a size `tiny`, `small`, `medium`, `base`, `large` or `huge`, or `num_heads` in \
             `model_args`",
        )),
    }
}

fn label_names(file: &ConfigFile) -> Option<Vec<String>> {
    let list = timm_key(file, "label_names")?.as_array()?;
    list.iter().map(|name| Some(name.as_str()?.to_owned())).collect()
}

/// Classes of the head, if there is one.
fn classes(tensors: &Tensors<'_>, names: &Names) -> Option<usize> {
    tensors.shape(&names.place("classifier.weight").name)?.first().copied()
}

/// Sizes of a tensor whose shape says something of the model.
fn sizes<const N: usize>(tensors: &Tensors<'_>, names: &Names, ours: &str) -> Result<[usize; N]> {
    let name = names.place(ours).name;
    let shape = tensors.shape(&name);
    shape.and_then(|shape| shape.try_into().ok()).ok_or_else(|| Error::Tensor {
        path: tensors.first().to_owned(),
        found: shape.map_or("nothing".to_owned(), |shape| format!("shape {shape:?}")),
        expected: format!("{N} dimensions, as a ViT has"),
        tensor: name,
    })
}

fn rows(tensors: &Tensors<'_>, names: &Names, ours: &str) -> Result<usize> {
    let [rows, _] = sizes(tensors, names, ours)?;
    Ok(rows)
}
