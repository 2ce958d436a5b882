//! Architectures: what GGUF calls families of decoders, and in what they differ.

/// An architecture that is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    /// Llama, Mistral.
    Llama,
    /// Qwen2, Qwen2.5: biases of queries, keys and values.
    Qwen2,
    /// Qwen3: norms of queries and keys.
    Qwen3,
    /// SmolLM3: Llama with layers without rotation. Written only.
    SmolLm3,
    /// Llama with a width per layer. Written only.
    Deci,
}

impl Arch {
    /// Those that are read.
    pub(super) const READ: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// `general.architecture`, and what its keys start with.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::SmolLm3 => "smollm3",
            Self::Deci => "deci",
        }
    }

    /// What `architectures` in `config.json` holds, of those that are read.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Llama | Self::SmolLm3 | Self::Deci => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// Whether the rows of queries and keys have another order than in Hugging Face's folders.
    pub(super) fn permutes(self) -> bool {
        match self {
            Self::Llama | Self::SmolLm3 | Self::Deci => true,
            Self::Qwen2 | Self::Qwen3 => false,
        }
    }
}
