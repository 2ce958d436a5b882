//! Named shapes: ours, and the five of the paper.

use std::str::FromStr;

use matformer_nn::Activation;

use crate::{Error, MatLmConfig, Result};

/// A named shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// What `cargo xtask demo` trains: minutes on two cores.
    Demo,
    /// A model for one's own data: an hour or so on two cores.
    Small,
    /// One of the paper's five (arXiv 2310.07707 Table 4), in our SwiGLU form.
    Paper(usize),
    /// One of the paper's five in the paper's own form: two matrices and GELU.
    PaperPlain(usize),
}

/// A row of the paper's Table 4: parameters in millions, widths S, M, L, XL.
#[derive(Clone, Copy, Debug)]
pub struct PaperModel {
    /// Name of the preset in our form; with `-paper` behind it, in the paper's.
    pub name: &'static str,
    /// Size of the hidden state.
    pub d_model: usize,
    /// Total parameters, millions: S, M, L, XL.
    pub total: [f64; 4],
    /// Without the embedding, millions: S, M, L, XL.
    pub non_embedding: [f64; 4],
}

/// The paper's model table (arXiv 2310.07707 Table 4). All have 16 layers, 16 heads,
/// d_ff = 4·d_model and a vocabulary of 256,000.
pub const PAPER_TABLE: [PaperModel; 5] = [
    PaperModel {
        name: "78m",
        d_model: 256,
        total: [71.0, 72.0, 74.0, 78.0],
        non_embedding: [5.3, 6.3, 8.4, 12.6],
    },
    PaperModel {
        name: "180m",
        d_model: 512,
        total: [152.0, 157.0, 164.0, 180.0],
        non_embedding: [21.1, 25.3, 33.7, 50.0],
    },
    PaperModel {
        name: "310m",
        d_model: 768,
        total: [244.0, 253.0, 272.0, 310.0],
        non_embedding: [47.0, 56.0, 75.0, 113.0],
    },
    PaperModel {
        name: "463m",
        d_model: 1024,
        total: [346.0, 363.0, 397.0, 463.0],
        non_embedding: [84.0, 100.0, 134.0, 201.0],
    },
    PaperModel {
        name: "850m",
        d_model: 1536,
        total: [582.0, 620.0, 696.0, 850.0],
        non_embedding: [189.0, 227.0, 302.0, 453.0],
    },
];

/// Appended to the name of a paper model for its two-matrix form.
const PLAIN_SUFFIX: &str = "-paper";

impl Preset {
    /// All presets, smallest first.
    pub fn all() -> Vec<Self> {
        let paper = (0..PAPER_TABLE.len()).flat_map(|i| [Self::Paper(i), Self::PaperPlain(i)]);
        [Self::Demo, Self::Small].into_iter().chain(paper).collect()
    }

    /// What a person types.
    pub fn name(self) -> String {
        match self {
            Self::Demo => "demo".to_owned(),
            Self::Small => "small".to_owned(),
            Self::Paper(i) => PAPER_TABLE[i].name.to_owned(),
            Self::PaperPlain(i) => format!("{}{PLAIN_SUFFIX}", PAPER_TABLE[i].name),
        }
    }

    /// The shape.
    pub fn config(self) -> MatLmConfig {
        match self {
            Self::Demo => MatLmConfig::default(),
            Self::Small => MatLmConfig {
                vocab_size: 4096,
                d_model: 256,
                n_layers: 6,
                n_heads: 8,
                n_kv_heads: 4,
                d_ff: 1024,
                ..MatLmConfig::default()
            },
            Self::Paper(i) => paper(&PAPER_TABLE[i], Activation::SwiGlu),
            Self::PaperPlain(i) => paper(&PAPER_TABLE[i], Activation::Gelu),
        }
    }
}

fn paper(model: &PaperModel, activation: Activation) -> MatLmConfig {
    MatLmConfig {
        vocab_size: 256_000,
        d_model: model.d_model,
        n_layers: 16,
        n_heads: 16,
        n_kv_heads: 16,
        d_ff: 4 * model.d_model,
        context: 1024,
        activation,
        ..MatLmConfig::default()
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let all = Self::all();
        all.iter().find(|p| p.name() == s).copied().ok_or_else(|| Error::Preset {
            found: s.to_owned(),
            known: all.iter().map(|p| p.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::Resource;
    use matformer_nn::ModelConfig;

    use super::*;
    use crate::costs;

    #[test]
    fn two_matrix_form_gives_the_papers_table() {
        for (i, row) in PAPER_TABLE.iter().enumerate() {
            let config = Preset::PaperPlain(i).config();
            let (space, costs) = (config.space().unwrap(), costs(&config));
            let figures =
                [(Resource::Params, row.total), (Resource::NonEmbedding, row.non_embedding)];
            for (resource, printed) in figures {
                for (granularity, printed) in space.granularities.iter().zip(printed) {
                    let submodel = space.uniform(&granularity.name).unwrap();
                    let ours = costs.get(resource).unwrap().cost(&submodel).unwrap() / 1e6;
                    let off = (ours / printed - 1.0).abs();
                    assert!(
                        off < 0.012,
                        "{} {}: {ours} against {printed}",
                        row.name,
                        granularity.name
                    );
                }
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for preset in Preset::all() {
            assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
        }
        let message = "850".parse::<Preset>().unwrap_err().to_string();
        assert!(message.contains("850m, 850m-paper"), "{message}");
    }
}
