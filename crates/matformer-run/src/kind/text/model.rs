//! Language models: shape, costs, weights.

use super::*;

impl Model for Lm {
    type Net = MatLm;

    fn targets_per_row(shape: &MatLmConfig) -> usize {
        shape.context
    }

    fn dims(shape: &MatLmConfig) -> Result<Dims> {
        Ok(Dims {
            params: params::<Self>(shape)?,
            seq: shape.context,
            d_model: shape.d_model,
            q_dim: shape.n_heads * shape.head_dim(),
            kv_dim: shape.n_kv_heads * shape.head_dim(),
            gated: shape.activation.gate().is_some(),
            outputs: shape.vocab_size,
            targets: shape.context,
        })
    }

    fn create(shape: &MatLmConfig, seed: u64, device: &Device) -> Result<MatLm> {
        MatLm::new(shape, seed, device).bad_input()
    }

    fn costs(shape: &MatLmConfig) -> Costs {
        costs(shape)
    }

    /// transformers loads a model that has a family of its own, layers of unequal widths by the Python
    /// files beside them; llama.cpp one of its architectures, as a GGUF file.
    fn exports(c: &MatLmConfig) -> Vec<&'static str> {
        let mut exports = Vec::new();
        if c.family() != MatLm::KIND {
            exports.push("transformers");
        }
        #[cfg(feature = "gguf")]
        if matformer_formats::gguf::architecture(c).is_ok() {
            exports.push("llama.cpp");
        }
        exports
    }

    fn describe(c: &MatLmConfig) -> String {
        format!(
            "d_model {}, {} layers, {} heads ({} for keys and values), d_ff {}, vocabulary {}, \
             context {}",
            c.d_model, c.n_layers, c.n_heads, c.n_kv_heads, c.d_ff, c.vocab_size, c.context
        )
    }

    fn like(shape: &MatLmConfig, of: &MatLmConfig) -> MatLmConfig {
        MatLmConfig { vocab_size: of.vocab_size, ..shape.clone() }
    }

    fn start(model: &MatLm, shape: &MatLmConfig) -> Result<MatLm> {
        // A run file has neither: the tokenizer is the model's, and so is its family.
        let MatLmConfig { model_type, special_tokens, .. } = model.config().clone();
        let shape = MatLmConfig { model_type, special_tokens, ..shape.clone() };
        with_config(model, &shape).bad_input()
    }

    const MILLIS_OF: &'static str = "decode";

    fn prompt_and_next(model: &MatLm) -> Result<Option<[Tokens; 2]>> {
        let prompt: Vec<u32> = (0..model.config().context / 2)
            .map(|i| (i % model.config().vocab_size) as u32)
            .collect();
        let row = |start, len| Spans::new(vec![Span { slot: Some(0), start, len }]);
        let next = model.tokens_of(&row(prompt.len(), 1), &[0])?;
        Ok(Some([model.tokens_of(&row(0, prompt.len()), &prompt)?, next]))
    }

    fn synthetic(model: &MatLm, shape: &MatLmConfig, rows: usize) -> Result<OneBatch<MatLm>> {
        Ok(one_batch(model, rows, shape.context)?)
    }
}
