//! MatLM: a Llama-shaped decoder whose feed-forward blocks are nested.

use burn::{
    module::{Module, Param},
    nn::{RmsNorm, RmsNormConfig},
    tensor::{Device, Int, Tensor, TensorData},
};
use matformer_core::{Block, Granularities, Space};
use matformer_nn::{
    Attention, AttentionConfig, Elastic, Hidden, ModelConfig, NestedFfn, NestedFfnConfig,
    Positions, RowLoss, State,
    init::{self, Init},
    ops::{RopeTable, cross_entropy, rms_norm, stack_rows},
    params,
};

use crate::{Error, MatLmConfig, Result};

/// An elastic language model.
#[derive(Module, Debug)]
pub struct MatLm {
    /// `[vocab, d_model]`
    embed: Param<Tensor<2>>,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// `[vocab, d_model]`; absent when tied to the embedding
    head: Option<Param<Tensor<2>>>,
    #[module(skip)]
    config: MatLmConfig,
    #[module(skip)]
    space: Space,
}

/// Pre-norm decoder layer.
#[derive(Module, Debug)]
struct Layer {
    attention_norm: RmsNorm,
    attention: Attention,
    ffn_norm: RmsNorm,
    ffn: NestedFfn,
}

/// A batch of token ids, checked against the vocabulary.
#[derive(Clone, Debug)]
pub struct Tokens {
    ids: Tensor<2, Int>, // [rows, seq]
}

/// Next tokens of a batch; padding is left out of the loss.
#[derive(Clone, Debug)]
pub struct LmTarget {
    ids: Tensor<1, Int>,     // [rows·seq]
    mask: Option<Tensor<1>>, // [rows·seq]: 1 where a target counts
    counts: Vec<usize>,      // per row
}

impl MatLm {
    /// A model with weights drawn from `seed`: normal with standard deviation 1/√fan-in for
    /// matrices, a further 1/√(2·n_layers) for those that write to the residual stream, 0.02 for
    /// embeddings.
    ///
    /// # Errors
    /// When the configuration does not make a model.
    pub fn new(config: &MatLmConfig, seed: u64, device: &Device) -> Result<Self> {
        let c = config.clone();
        let residual = 1.0 / (2.0 * c.n_layers as f64).sqrt();
        let q_dim = (c.n_heads * c.head_dim()) as f64;
        Ok(init::init(Self::zeros(config, device)?, seed, |path, _| {
            match path.rsplit('.').next().unwrap_or(path) {
                "gamma" => Init::Ones,
                "embed" | "head" => Init::Normal(0.02),
                "down" => Init::NormalColumns(residual / (c.d_ff as f64).sqrt()),
                "weight" if path.ends_with("attention.o.weight") => {
                    Init::NormalColumns(residual / q_dim.sqrt())
                }
                "weight" => Init::NormalColumns(1.0 / (c.d_model as f64).sqrt()),
                _ => Init::Normal(1.0 / (c.d_model as f64).sqrt()),
            }
        }))
    }

    /// A model whose parameters wait to be filled, and take no memory until then.
    pub(crate) fn zeros(config: &MatLmConfig, device: &Device) -> matformer_nn::Result<Self> {
        config.validate()?;
        let (c, nested) = (config, config.nested());
        let embedding = || params::unset([c.vocab_size, c.d_model], device);
        let new_norm = || RmsNormConfig::new(c.d_model).with_epsilon(c.norm_eps).init(device);
        let layer = |i| Layer {
            attention_norm: new_norm(),
            attention: AttentionConfig {
                d_model: c.d_model,
                heads: c.n_heads,
                kv_heads: c.n_kv_heads,
                head_dim: c.head_dim(),
                bias: false,
                causal: true,
            }
            .init(device),
            ffn_norm: new_norm(),
            ffn: NestedFfnConfig {
                d_model: c.d_model,
                d_ff: nested.d_ff_of(i),
                activation: c.activation,
                bias: false,
            }
            .init(device),
        };
        Ok(Self {
            embed: embedding(),
            layers: (0..c.n_layers).map(layer).collect(),
            norm: new_norm(),
            head: (!c.tied_embeddings).then(embedding),
            space: c.space()?,
            config: c.clone(),
        })
    }

    /// The same widths under other names: those of the folder that the model comes from.
    pub(crate) fn with_granularities(mut self, granularities: Granularities) -> Self {
        self.space.granularities = granularities;
        self
    }

    /// The model's shape.
    pub fn config(&self) -> &MatLmConfig {
        &self.config
    }

    /// A batch of `rows` rows out of row-major token ids.
    ///
    /// # Errors
    /// When the ids do not form equal rows or one is not in the vocabulary.
    pub fn tokens(&self, rows: usize, ids: &[u32]) -> Result<Tokens> {
        Ok(Tokens { ids: self.ids(rows, ids)? })
    }

    /// Targets of a batch of `rows` rows; where `mask` is given, only targets with `true` count.
    ///
    /// # Errors
    /// When the ids do not form equal rows or one is not in the vocabulary.
    pub fn targets(&self, rows: usize, ids: &[u32], mask: Option<&[bool]>) -> Result<LmTarget> {
        let seq = ids.len() / rows.max(1);
        let flat = self.ids(rows, ids)?.reshape([rows * seq]);
        let Some(mask) = mask else {
            return Ok(LmTarget { ids: flat, mask: None, counts: vec![seq; rows] });
        };
        if mask.len() != ids.len() {
            return Err(Error::Batch { found: mask.len(), rows });
        }
        let counts =
            mask.chunks(seq.max(1)).map(|row| row.iter().filter(|m| **m).count()).collect();
        let values: Vec<f32> = mask.iter().map(|m| f32::from(u8::from(*m))).collect();
        let mask = Tensor::from_data(TensorData::new(values, [rows * seq]), &self.device());
        Ok(LmTarget { ids: flat, mask: Some(mask), counts })
    }

    fn ids(&self, rows: usize, ids: &[u32]) -> Result<Tensor<2, Int>> {
        if rows == 0 || ids.is_empty() || !ids.len().is_multiple_of(rows) {
            return Err(Error::Batch { found: ids.len(), rows });
        }
        let vocab_size = self.config.vocab_size;
        if let Some(position) = ids.iter().position(|id| *id as usize >= vocab_size) {
            return Err(Error::Token { token: ids[position], position, vocab_size });
        }
        let values: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        let data = TensorData::new(values, [rows, ids.len() / rows]);
        Ok(Tensor::from_data(data, &self.device()))
    }

    /// Negative log-likelihood of each target, in nats; padding gives 0.
    ///
    /// # Shapes
    /// - hidden: `[rows·seq, d_model]`, as the last layer left it
    /// - output: `[rows·seq]`
    pub fn token_nats(&self, hidden: Tensor<2>, target: &LmTarget) -> Tensor<1> {
        let nats = cross_entropy(norm(&self.norm, hidden), self.head_weight(), target.ids.clone());
        match &target.mask {
            Some(mask) => nats * mask.clone(),
            None => nats,
        }
    }

    /// `[vocab, d_model]`
    fn head_weight(&self) -> Tensor<2> {
        self.head.as_ref().unwrap_or(&self.embed).val()
    }
}

/// Burn's module, our op.
fn norm(norm: &RmsNorm, x: Tensor<2>) -> Tensor<2> {
    rms_norm(x, norm.gamma.val(), norm.epsilon)
}

impl Elastic for MatLm {
    type Input = Tokens;
    type Target = LmTarget;
    type Context = Positions;

    fn space(&self) -> &Space {
        &self.space
    }

    fn d_ff(&self, layer: usize) -> usize {
        self.layers[layer].ffn.d_ff()
    }

    fn stem(&self, input: &Tokens, state: &State) -> matformer_nn::Result<(Hidden, Positions)> {
        let [rows, seq] = input.ids.dims();
        let starts = state.starts();
        let needed = starts.iter().max().copied().unwrap_or(0) + seq;
        if needed > self.config.context {
            return Err(matformer_nn::Error::CacheFull { capacity: self.config.context, needed });
        }
        let ids = input.ids.clone().reshape([rows * seq]);
        let x = self.embed.val().select(0, ids); // [rows·seq, d_model]
        let c = &self.config;
        let rope = RopeTable::new(&starts, seq, c.head_dim(), c.rope_theta, &x.device());
        Ok((Hidden { x, rows, seq }, Positions { starts, seq, rope: Some(rope) }))
    }

    fn mix(&self, layer: usize, x: Tensor<2>, at: &Positions, state: &mut State) -> Tensor<2> {
        let l = &self.layers[layer];
        l.attention.forward(layer, norm(&l.attention_norm, x.clone()), at, state) + x
    }

    fn ffn(&self, layer: usize, x: Tensor<2>, _: &Positions, blocks: &[Block]) -> Tensor<2> {
        let l = &self.layers[layer];
        l.ffn.forward(norm(&l.ffn_norm, x.clone()), blocks) + stack_rows(x, blocks)
    }

    fn loss(&self, hidden: Tensor<2>, target: &LmTarget) -> RowLoss {
        let rows = target.counts.len();
        let nats = self.token_nats(hidden, target); // [rows·seq]
        let seq = nats.dims()[0] / rows;
        RowLoss {
            nats: nats.reshape([rows, seq]).sum_dim(1).reshape([rows]),
            counts: target.counts.clone(),
        }
    }

    fn counted(&self, target: &LmTarget) -> Option<Tensor<1>> {
        target.mask.clone()
    }

    fn head(&self, hidden: Tensor<2>) -> Tensor<2> {
        norm(&self.norm, hidden).matmul(self.head_weight().transpose())
    }
}
