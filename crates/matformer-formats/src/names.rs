//! What other programs call the tensors of a vision transformer.

/// Modules of a layer as Hugging Face's ViT calls them, as its DINOv2 does, and as timm does.
const OF_LAYER: [(&str, &str, &str); 8] = [
    ("layernorm_before", "norm1", "norm1"),
    ("attention.attention.query", "attention.attention.query", "attn.qkv"),
    ("attention.attention.key", "attention.attention.key", "attn.qkv"),
    ("attention.attention.value", "attention.attention.value", "attn.qkv"),
    ("attention.output.dense", "attention.output.dense", "attn.proj"),
    ("layernorm_after", "norm2", "norm2"),
    ("intermediate.dense", "mlp.fc1", "mlp.fc1"),
    ("output.dense", "mlp.fc2", "mlp.fc2"),
];

/// Modules and tensors around the layers: Hugging Face's, and timm's.
const AROUND: [(&str, &str); 7] = [
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.distillation_token", "dist_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("layernorm", "norm"),
    ("classifier", "head"),
    ("distillation_classifier", "head_dist"),
];

/// Whose names a checkpoint has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Hugging Face's ViT and DeiT: what stands before `embeddings`, and the name of the head.
    HuggingFace { body: String, head: &'static str },
    /// Its DINOv2: what stands before `embeddings`.
    Dinov2 { body: String },
    /// timm's, with the name of the last norm.
    Timm { norm: &'static str },
}

/// Where a tensor of ours is in a checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name of the tensor.
    pub name: String,
    /// Which third of its rows, where queries, keys and values are one.
    pub third: Option<usize>,
}

impl Names {
    /// Where the tensor is that a folder of ours calls `ours`.
    pub(crate) fn place(&self, ours: &str) -> Place {
        let whole = |name: String| Place { name, third: None };
        let inner = ours.strip_prefix("vit.").unwrap_or(ours);
        if let Some(rest) = inner.strip_prefix("encoder.layer.")
            && let Some((layer, tensor)) = rest.split_once('.')
            && let Some((module, kind)) = tensor.rsplit_once('.')
            && let Some(at) = OF_LAYER.iter().position(|(name, ..)| *name == module)
        {
            let (_, dinov2, timm) = OF_LAYER[at];
            return match self {
                Self::HuggingFace { body, .. } => whole(format!("{body}{inner}")),
                Self::Dinov2 { body } => {
                    whole(format!("{body}encoder.layer.{layer}.{dinov2}.{kind}"))
                }
                Self::Timm { .. } => Place {
                    name: format!("blocks.{layer}.{timm}.{kind}"),
                    third: (timm == "attn.qkv").then(|| at - 1),
                },
            };
        }
        whole(match self {
            Self::HuggingFace { head, .. } if inner.starts_with("classifier.") => {
                inner.replacen("classifier", head, 1)
            }
            Self::HuggingFace { body, .. } | Self::Dinov2 { body } => {
                if inner.contains("classifier.") {
                    inner.to_owned()
                } else {
                    format!("{body}{inner}")
                }
            }
            Self::Timm { norm } => {
                let found = AROUND.iter().find(|(name, _)| inner.starts_with(name));
                match found {
                    Some(("layernorm", _)) => inner.replacen("layernorm", norm, 1),
                    Some((name, timm)) => inner.replacen(name, timm, 1),
                    None => inner.to_owned(),
                }
            }
        })
    }

    /// The tensor that the output of a branch is multiplied by, where there is one (LayerScale, arXiv
    /// 2103.17239): `branch` 1 is attention, 2 the feed-forward block.
    pub(crate) fn scale(&self, layer: usize, branch: usize) -> Option<String> {
        match self {
            Self::HuggingFace { .. } => None,
            Self::Dinov2 { body } => {
                Some(format!("{body}encoder.layer.{layer}.layer_scale{branch}.lambda1"))
            }
            Self::Timm { .. } => Some(format!("blocks.{layer}.ls{branch}.gamma")),
        }
    }

    /// Whether classification has no use for a tensor that these checkpoints may have: the pooler that
    /// Hugging Face's bare models end with, and the token that stands for masked patches in training.
    pub(crate) fn is_spare(&self, name: &str) -> bool {
        let body = match self {
            Self::HuggingFace { body, .. } | Self::Dinov2 { body } => body,
            Self::Timm { .. } => return false,
        };
        let inner = name.strip_prefix(body.as_str()).unwrap_or(name);
        inner.starts_with("pooler.dense.") || inner == "embeddings.mask_token"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_have_the_names_of_each_program() {
        let hf = Names::HuggingFace { body: "deit.".to_owned(), head: "cls_classifier" };
        let dinov2 = Names::Dinov2 { body: String::new() };
        let timm = Names::Timm { norm: "fc_norm" };
        for (ours, in_hf, in_dinov2, in_timm, third) in [
            (
                "vit.encoder.layer.11.attention.attention.value.bias",
                "deit.encoder.layer.11.attention.attention.value.bias",
                "encoder.layer.11.attention.attention.value.bias",
                "blocks.11.attn.qkv.bias",
                Some(2),
            ),
            (
                "vit.encoder.layer.0.output.dense.weight",
                "deit.encoder.layer.0.output.dense.weight",
                "encoder.layer.0.mlp.fc2.weight",
                "blocks.0.mlp.fc2.weight",
                None,
            ),
            (
                "vit.encoder.layer.0.attention.output.dense.weight",
                "deit.encoder.layer.0.attention.output.dense.weight",
                "encoder.layer.0.attention.output.dense.weight",
                "blocks.0.attn.proj.weight",
                None,
            ),
            (
                "vit.embeddings.patch_embeddings.projection.bias",
                "deit.embeddings.patch_embeddings.projection.bias",
                "embeddings.patch_embeddings.projection.bias",
                "patch_embed.proj.bias",
                None,
            ),
            (
                "vit.layernorm.weight",
                "deit.layernorm.weight",
                "layernorm.weight",
                "fc_norm.weight",
                None,
            ),
            ("classifier.bias", "cls_classifier.bias", "classifier.bias", "head.bias", None),
            (
                "distillation_classifier.weight",
                "distillation_classifier.weight",
                "distillation_classifier.weight",
                "head_dist.weight",
                None,
            ),
        ] {
            assert_eq!(hf.place(ours).name, in_hf);
            assert_eq!(dinov2.place(ours).name, in_dinov2);
            assert_eq!(timm.place(ours), Place { name: in_timm.to_owned(), third });
        }
    }
}
