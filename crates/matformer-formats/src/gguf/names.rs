//! Names of tensors in GGUF and in Hugging Face's folders, and the order of rows in them.

use super::arch::Arch;

/// A part of a layer: its name in GGUF, below `blk.N`, and below `model.layers.N`.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Tensors outside layers.
const OUTSIDE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Factors that divide the angles of the rotary embedding: how GGUF has the rule `llama3`.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// What a folder of Hugging Face calls a tensor of a GGUF file, if it is one that both have.
pub(super) fn hugging_face(gguf: &str) -> Option<String> {
    if let Some((_, name)) = OUTSIDE.iter().find(|(known, _)| *known == gguf) {
        return Some((*name).to_owned());
    }
    let (layer, part) = gguf.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let (_, name) = PARTS.iter().find(|(known, _)| *known == part)?;
    is_layer(layer, kind).then(|| format!("model.layers.{layer}.{name}.{kind}"))
}

/// What a GGUF file calls a tensor of a folder of Hugging Face, if it is one that both have.
pub(super) fn gguf(hugging_face: &str) -> Option<String> {
    if let Some((name, _)) = OUTSIDE.iter().find(|(_, known)| *known == hugging_face) {
        return Some((*name).to_owned());
    }
    let (layer, part) = hugging_face.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let (name, _) = PARTS.iter().find(|(_, known)| *known == part)?;
    is_layer(layer, kind).then(|| format!("blk.{layer}.{name}.{kind}"))
}

/// Whether this is the number of a layer, as both write it, and a tensor of it.
fn is_layer(layer: &str, kind: &str) -> bool {
    let canonical = layer.parse::<u32>().is_ok_and(|number| number.to_string() == layer);
    canonical && (kind == "weight" || kind == "bias")
}

/// The heads whose rows `name` has in another order in GGUF, if it is such a tensor: queries and
/// keys of the architectures that llama.cpp rotates by pairs of neighbours, where Hugging Face
/// rotates the first half of a head against the second.
pub(super) fn permuted_heads(arch: Arch, name: &str, heads: Heads) -> Option<usize> {
    let has = |part: &str| {
        let name = name.rsplit_once('.').map_or("", |(name, _)| name);
        name.strip_suffix(part).is_some()
    };
    if !arch.permutes() {
        None
    } else if has(".self_attn.q_proj") {
        Some(heads.queries)
    } else if has(".self_attn.k_proj") {
        Some(heads.keys)
    } else {
        None
    }
}

/// Heads of an attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    /// Of queries.
    pub(super) queries: usize,
    /// Of keys and values.
    pub(super) keys: usize,
    /// Size of each.
    pub(super) dim: usize,
}

/// The row in GGUF of the row `row` in Hugging Face, for heads of `dim` rows: the halves of a head
/// are interleaved there.
pub(super) fn row_in_gguf(row: usize, dim: usize) -> usize {
    let (head, inside) = (row / dim, row % dim);
    let (half, pair) = (inside / (dim / 2), inside % (dim / 2));
    head * dim + 2 * pair + half
}

/// The inverse of [`row_in_gguf`].
pub(super) fn row_in_hugging_face(row: usize, dim: usize) -> usize {
    let (head, inside) = (row / dim, row % dim);
    head * dim + inside % 2 * (dim / 2) + inside / 2
}
