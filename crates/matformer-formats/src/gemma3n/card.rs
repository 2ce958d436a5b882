//! The model card of a slice.

use super::{SlicedGemma3n, config::Config};

/// What the slice is, in Markdown with the head that the Hugging Face Hub reads. `inherited` are the lines of
/// that which hold for the slice, too.
pub(super) fn card(config: &Config, sliced: &SlicedGemma3n, inherited: &str) -> String {
    let name = config.name();
    let SlicedGemma3n { layers, widths, of_layers, params, effective_params, notes, .. } = sliced;
    let skipped: Vec<String> = (0..*of_layers)
        .filter(|layer| !layers.contains(layer))
        .map(|layer| layer.to_string())
        .collect();
    let skipped = if skipped.is_empty() { "none".to_owned() } else { skipped.join(", ") };
    let notes: String = notes.iter().map(|note| format!("- Note: {note}.\n")).collect();
    let row = |(new, (old, width)): (usize, (&usize, &usize))| {
        let (kind, widest) = (&config.layers.types[*old], config.layers.widths[*old]);
        format!("| {new} | {old} | `{kind}` | {width} of {widest} |\n")
    };
    let rows: String = layers.iter().zip(widths).enumerate().map(row).collect();
    format!(
        "---\n\
         {inherited}\
         library_name: transformers\n\
         tags:\n\
         - gemma3n\n\
         - matformer\n\
         ---\n\
         # A slice of {name}\n\n\
         Cut from `{name}` by `matformer slice` {version}: {n} of {of_layers} layers, feed-forward blocks of the \
         widths below, every tensor in the dtype that it had. Nothing was trained for it, and its quality was \
         not measured. The licence is that of `{name}`.\n\n\
         - Layers left out: {skipped}\n\
         - Parameters: {params}; effective (the language model without its embeddings): {effective_params}\n\
         {notes}\n\
         It is a Gemma 3n model: transformers loads it as any other. No command of matformer but `slice` reads \
         it.\n\n\
         | layer | was | attention | width |\n\
         | --- | --- | --- | --- |\n\
         {rows}",
        version = env!("CARGO_PKG_VERSION"),
        n = layers.len(),
    )
}
