//! MatLM: a decoder whose feed-forward blocks are nested. Llama's by default; the options of the
//! configuration make it that of other families.

use burn::{
    module::{Module, Param},
    nn::{RmsNorm, RmsNormConfig},
    tensor::{Device, Int, Tensor, TensorData},
};
use matformer_core::{Space, Spans};
use matformer_nn::{
    Attention, AttentionConfig, Elastic, Hidden, ModelConfig, NestedFfn, NestedFfnConfig, Output,
    Pass, RowLoss, State, Taught, TaughtLoss,
    init::{self, Init},
    likeliest,
    ops::{
        Direction, DistillationWeights, Divergence, Headed, Mask, RopeTable, cross_entropy,
        distillation, divergence, rms_norm, stack_rows,
    },
    params, residual, sum_by_row,
};

use crate::{Error, MatLmConfig, Result, RopeScaling};

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

/// Pre-norm decoder layer, with norms after its two halves too where the configuration says so.
#[derive(Module, Debug)]
struct Layer {
    attention_norm: RmsNorm,
    attention: Attention,
    attention_post_norm: Option<RmsNorm>,
    ffn_norm: RmsNorm,
    ffn: NestedFfn,
    ffn_post_norm: Option<RmsNorm>,
}

/// Most logits that are in memory where the tokens of a batch are ranked.
const LOGITS: usize = 1 << 22;

/// Rotary tables of a batch.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// RoPE table of the layers that have no RoPE base of their own.
    table: RopeTable,
    /// Of the layers with a window, where they have a base of their own.
    in_window: Option<RopeTable>,
}

impl Rotary {
    /// The table of a layer.
    fn of(&self, config: &MatLmConfig, layer: usize) -> &RopeTable {
        match &self.in_window {
            Some(own) if config.window_of(layer).is_some() => own,
            _ => &self.table,
        }
    }
}

/// A batch of token ids, checked against the vocabulary.
#[derive(Clone, Debug)]
pub struct Tokens {
    ids: Tensor<1, Int>, // [tokens]
    spans: Spans,
}

/// Next tokens of a batch; padding is excluded from the loss.
#[derive(Clone, Debug)]
pub struct LmTarget {
    ids: Tensor<1, Int>,     // [tokens]
    mask: Option<Tensor<1>>, // [tokens]: 1 where a target counts
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
        config.validate()?;
        let c = config.clone();
        let residual = 1.0 / (2.0 * c.n_layers as f64).sqrt();
        let q_dim = (c.n_heads * c.head_dim()) as f64;
        Ok(init::init(Self::unset(config, c.space()?, device), seed, |path, _| {
            match path.rsplit('.').next().unwrap_or(path) {
                "gamma" | "q_norm" | "k_norm" if c.norm_plus_one => Init::Zeros,
                "gamma" | "q_norm" | "k_norm" => Init::Ones,
                "bias" => Init::Zeros,
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

    /// A model whose parameters are not filled yet, and take no memory until they are.
    pub(crate) fn unset(config: &MatLmConfig, space: Space, device: &Device) -> Self {
        let (c, nested) = (config, config.nested());
        let embedding = || params::unset([c.vocab_size, c.d_model], device);
        let new_norm = || RmsNormConfig::new(c.d_model).with_epsilon(c.norm_eps).init(device);
        let post_norm = || c.post_norms.then(new_norm);
        let layer = |i| Layer {
            attention_norm: new_norm(),
            attention: Self::attention(c, i).init(device),
            attention_post_norm: post_norm(),
            ffn_norm: new_norm(),
            ffn: NestedFfnConfig {
                d_model: c.d_model,
                d_ff: nested.d_ff_of(i),
                activation: c.activation,
                bias: false,
            }
            .init(device),
            ffn_post_norm: post_norm(),
        };
        Self {
            embed: embedding(),
            layers: (0..c.n_layers).map(layer).collect(),
            norm: new_norm(),
            head: (!c.tied_embeddings).then(embedding),
            space,
            config: c.clone(),
        }
    }

    /// Attention of a layer.
    fn attention(c: &MatLmConfig, layer: usize) -> AttentionConfig {
        AttentionConfig {
            kv_heads: c.n_kv_heads,
            qkv_bias: c.qkv_bias,
            o_bias: c.o_bias,
            qk_norm: c.qk_norm.then_some(c.norm_eps),
            norm_plus_one: c.norm_plus_one,
            scale: Some(c.attention_scale()),
            mask: match c.window_of(layer) {
                Some(window) => Mask::Window { size: window.size },
                None => Mask::Causal,
            },
            ..AttentionConfig::new(c.d_model, c.n_heads, c.head_dim())
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &MatLmConfig {
        &self.config
    }

    /// A batch of `rows` rows of equal length from position 0, out of row-major token ids.
    ///
    /// # Errors
    /// When the ids do not form equal rows or one is not in the vocabulary.
    pub fn tokens(&self, rows: usize, ids: &[u32]) -> Result<Tokens> {
        self.tokens_of(&equal(rows, ids)?, ids)
    }

    /// A batch of any rows, whose token ids lie behind each other.
    ///
    /// # Errors
    /// When there are more or fewer ids than the rows have, or one is not in the vocabulary.
    pub fn tokens_of(&self, spans: &Spans, ids: &[u32]) -> Result<Tokens> {
        Ok(Tokens { ids: self.ids(spans, ids)?, spans: spans.clone() })
    }

    /// Targets of a batch of `rows` rows of equal length; where `mask` is given, only targets with
    /// `true` count.
    ///
    /// # Errors
    /// When the ids do not form equal rows or one is not in the vocabulary.
    pub fn targets(&self, rows: usize, ids: &[u32], mask: Option<&[bool]>) -> Result<LmTarget> {
        self.targets_of(&equal(rows, ids)?, ids, mask)
    }

    /// Targets of a batch of any rows, whose ids lie behind each other; where `mask` is given, only
    /// targets with `true` count.
    ///
    /// # Errors
    /// When there are more or fewer ids, or flags of the mask, than the rows have tokens, or an id
    /// is not in the vocabulary.
    pub fn targets_of(
        &self,
        spans: &Spans,
        ids: &[u32],
        mask: Option<&[bool]>,
    ) -> Result<LmTarget> {
        let ids = self.ids(spans, ids)?;
        let Some(mask) = mask else {
            let counts = spans.iter().map(|span| span.len).collect();
            return Ok(LmTarget { ids, mask: None, counts });
        };
        if mask.len() != spans.tokens() {
            let expected = spans.tokens();
            return Err(Error::Rows { what: "mask", found: mask.len(), expected });
        }
        let count = |row| mask[spans.tokens_of(row..row + 1)].iter().filter(|m| **m).count();
        let counts = (0..spans.rows()).map(count).collect();
        let values: Vec<f32> = mask.iter().map(|m| f32::from(u8::from(*m))).collect();
        let mask = Tensor::from_data(TensorData::new(values, [mask.len()]), &self.device());
        Ok(LmTarget { ids, mask: Some(mask), counts })
    }

    fn ids(&self, spans: &Spans, ids: &[u32]) -> Result<Tensor<1, Int>> {
        if ids.is_empty() {
            return Err(Error::Empty);
        }
        if ids.len() != spans.tokens() {
            let expected = spans.tokens();
            return Err(Error::Rows { what: "token ids", found: ids.len(), expected });
        }
        let vocab_size = self.config.vocab_size;
        if let Some(position) = ids.iter().position(|id| *id as usize >= vocab_size) {
            return Err(Error::Token { token: ids[position], position, vocab_size });
        }
        let values: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        Ok(Tensor::from_data(TensorData::new(values, [ids.len()]), &self.device()))
    }

    /// Negative log-likelihood of each target, in nats; padding gives 0.
    ///
    /// # Shapes
    /// - output: `[tokens]`
    pub fn token_nats(&self, output: &Output, target: &LmTarget) -> Tensor<1> {
        let Headed { hidden, weight } = self.headed(output);
        target.counted(cross_entropy(hidden, weight, target.ids.clone()))
    }

    /// Of each row, the likeliest next token at each target that counts.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn greedy(&self, output: &Output, target: &LmTarget) -> Result<Vec<Vec<u32>>> {
        let mut rows = vec![Vec::new(); output.spans.rows()];
        self.at_targets(output, target, |of_rows, logits, _| {
            for (row, token) in of_rows.iter().zip(likeliest(logits)?) {
                rows[*row].push(token);
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// Of each row, the highest rank among its targets that count: how many other tokens are as likely as the target,
    /// or likelier. 0 where greedy decoding gives all of them.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn ranks(&self, output: &Output, target: &LmTarget) -> Result<Vec<usize>> {
        let mut ranks = vec![0; output.spans.rows()];
        self.at_targets(output, target, |of_rows, logits, ids| {
            let own = logits.clone().gather(1, ids.reshape([of_rows.len(), 1]));
            let above = logits.lower(own).bool_not().int().sum_dim(1);
            let above: Vec<i32> = above
                .try_into_vec_as()
                .map_err(|error| matformer_nn::Error::read("ranks of tokens", error))?;
            for (row, above) in of_rows.iter().zip(above) {
                // The target itself is not below itself.
                ranks[*row] = ranks[*row].max((above as usize).saturating_sub(1));
            }
            Ok(())
        })?;
        Ok(ranks)
    }

    /// Calls `each(rows, logits, targets)` for all targets that count, some at a time: their rows, ascending, their
    /// logits `[n, vocab]` and ids `[n]`.
    fn at_targets(
        &self,
        output: &Output,
        target: &LmTarget,
        mut each: impl FnMut(&[usize], Tensor<2>, Tensor<1, Int>) -> Result<()>,
    ) -> Result<()> {
        let spans = &output.spans;
        let counts: Vec<f32> = match target.mask.clone() {
            None => vec![1.0; spans.tokens()],
            Some(mask) => mask
                .try_into_vec_as()
                .map_err(|error| matformer_nn::Error::read("the mask of the targets", error))?,
        };
        let of_row = |row: usize| spans.tokens_of(row..row + 1).map(move |place| (row, place));
        let counted = (0..spans.rows()).flat_map(of_row).filter(|(_, place)| counts[*place] > 0.0);
        let (rows, places): (Vec<usize>, Vec<i32>) =
            counted.map(|(row, place)| (row, place as i32)).unzip();
        let Headed { hidden, weight } = self.headed(output);
        let weight = weight.transpose();
        let n = (LOGITS / self.config.vocab_size).max(1);
        for (rows, places) in rows.chunks(n).zip(places.chunks(n)) {
            let places = TensorData::new(places.to_vec(), [places.len()]);
            let places = Tensor::<1, Int>::from_data(places, &hidden.device());
            let logits = hidden.clone().select(0, places.clone()).matmul(weight.clone());
            each(rows, logits, target.ids.clone().select(0, places))?;
        }
        Ok(())
    }

    /// Normalized hidden states `[tokens, d_model]` and the output embedding `[vocab, d_model]`.
    fn headed(&self, output: &Output) -> Headed {
        let hidden = self.norm(&self.norm, output.hidden.clone());
        Headed { hidden: output.low(hidden), weight: output.low(self.head_weight()) }
    }

    /// Applies a norm with the `rms_norm` op instead of Burn's forward pass. x and output:
    /// `[rows, d_model]`.
    fn norm(&self, norm: &RmsNorm, x: Tensor<2>) -> Tensor<2> {
        let gamma = norm.gamma.val();
        let gamma = if self.config.norm_plus_one { gamma + 1.0 } else { gamma };
        rms_norm(x, gamma, norm.epsilon)
    }

    /// Applies the norm behind one half of a layer, if there is one. x and output:
    /// `[rows, d_model]`.
    fn post_norm(&self, norm: &Option<RmsNorm>, x: Tensor<2>) -> Tensor<2> {
        match norm {
            Some(norm) => self.norm(norm, x),
            None => x,
        }
    }

    /// Rotary tables of a batch.
    fn rotary(&self, spans: &Spans, device: &Device) -> Rotary {
        let c = &self.config;
        let table = |theta, scaling| {
            let frequencies = RopeScaling::rule(scaling, theta).frequencies(c.head_dim());
            RopeTable::new(spans, &frequencies, device)
        };
        let own = c.window.as_ref().and_then(|window| window.rope_theta);
        Rotary {
            table: table(c.rope_theta, c.rope_scaling),
            in_window: own.map(|theta| table(theta, None)),
        }
    }

    /// `[vocab, d_model]`
    fn head_weight(&self) -> Tensor<2> {
        self.head.as_ref().unwrap_or(&self.embed).val()
    }
}

impl LmTarget {
    /// Applies the loss mask: sets masked tokens to 0. x and output: `[tokens]`.
    fn counted(&self, x: Tensor<1>) -> Tensor<1> {
        match &self.mask {
            Some(mask) => x * mask.clone(),
            None => x,
        }
    }

    fn row_loss(&self, nats: Tensor<1>, output: &Output) -> RowLoss {
        RowLoss { nats: sum_by_row(nats, &output.spans), counts: self.counts.clone() }
    }
}

/// `rows` rows of equal length.
fn equal(rows: usize, ids: &[u32]) -> Result<Spans> {
    if rows == 0 || ids.is_empty() || !ids.len().is_multiple_of(rows) {
        return Err(Error::Batch { found: ids.len(), rows });
    }
    Ok(Spans::equal(rows, ids.len() / rows))
}

impl Elastic for MatLm {
    type Input = Tokens;
    type Target = LmTarget;
    type Context = Rotary;

    fn space(&self) -> &Space {
        &self.space
    }

    fn d_ff(&self, layer: usize) -> usize {
        self.layers[layer].ffn.d_ff()
    }

    fn device(&self) -> Device {
        params::device(self)
    }

    fn stem(&self, input: &Tokens, _: &State) -> matformer_nn::Result<(Hidden, Rotary)> {
        let (c, spans) = (&self.config, input.spans.clone());
        let needed = |span: &matformer_core::Span| span.start + span.len;
        if let Some(row) = spans.iter().position(|span| needed(span) > c.context) {
            let needed = needed(&spans.row(row));
            return Err(matformer_nn::Error::Context { row, context: c.context, needed });
        }
        let mut x = self.embed.val().select(0, input.ids.clone()); // [tokens, d_model]
        if c.scale_embeddings {
            x = x * (c.d_model as f64).sqrt();
        }
        let rotary = self.rotary(&spans, &x.device());
        Ok((Hidden { x, spans }, rotary))
    }

    fn mix(&self, x: Tensor<2>, pass: &mut Pass<'_, Rotary>) -> Tensor<2> {
        let (l, layer) = (&self.layers[pass.layer], pass.layer);
        let normed = self.norm(&l.attention_norm, x.clone());
        let rope = self.config.has_rope(layer).then(|| pass.context.of(&self.config, layer));
        let y = l.attention.forward(pass.low(normed), rope, pass);
        residual(self.post_norm(&l.attention_post_norm, y)) + x
    }

    fn ffn(&self, x: Tensor<2>, pass: &mut Pass<'_, Rotary>) -> Tensor<2> {
        let l = &self.layers[pass.layer];
        let normed = pass.low(self.norm(&l.ffn_norm, x.clone()));
        let y = l.ffn.forward_in(normed, pass);
        residual(self.post_norm(&l.ffn_post_norm, y)) + stack_rows(x, pass.blocks)
    }

    fn loss(&self, output: &Output, target: &LmTarget) -> RowLoss {
        target.row_loss(self.token_nats(output, target), output)
    }

    fn divergence(
        &self,
        student: &Output,
        teacher: Taught<'_, Self>,
        target: &LmTarget,
        rule: Divergence,
    ) -> RowLoss {
        let taught = teacher.model.headed(teacher.output);
        let nats = divergence(self.headed(student), taught, rule);
        target.row_loss(target.counted(nats), student)
    }

    fn taught_loss(
        &self,
        student: &Output,
        teacher: Taught<'_, Self>,
        target: &LmTarget,
        rule: Divergence,
        weights: DistillationWeights,
    ) -> TaughtLoss {
        let (ours, theirs) = (self.headed(student), teacher.model.headed(teacher.output));
        let one = rule.temperature == 1.0 && rule.direction == Direction::Forward;
        let (total, nats, kl) = if one {
            let found = distillation(ours, theirs, target.ids.clone(), weights);
            (found.total, found.nats, found.divergence)
        } else {
            let Headed { hidden, weight } = ours.clone();
            let nats = cross_entropy(hidden, weight, target.ids.clone());
            let kl = divergence(ours, theirs, rule);
            let weighted = [(&nats, weights.cross_entropy), (&kl, weights.divergence)];
            let [nats_part, kl_part] = weighted.map(|(x, weight)| x.clone() * weight);
            (nats_part + kl_part, nats, kl)
        };
        let by_row = |x| sum_by_row(target.counted(x), &student.spans);
        TaughtLoss {
            total: by_row(total),
            nats: by_row(nats),
            divergence: by_row(kl),
            counts: target.counts.clone(),
        }
    }

    /// Logits of the next token of every token, `[tokens, vocab]`.
    fn head(&self, output: &Output) -> Tensor<2> {
        let Headed { hidden, weight } = self.headed(output);
        hidden.matmul(weight.transpose())
    }
}
