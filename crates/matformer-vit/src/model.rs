//! MatViT: a vision transformer whose feed-forward blocks are nested.

use std::cmp::Ordering;

use burn::{
    module::{Module, Param},
    nn::{LayerNorm, LayerNormConfig},
    tensor::{Device, Tensor, TensorData, activation},
};
use matformer_core::{Space, Spans};
use matformer_nn::{
    Activation, Attention, AttentionConfig, Elastic, Hidden, Linear, ModelConfig, NestedFfn,
    NestedFfnConfig, Output, Pass, RowLoss, State, Taught,
    init::{self, Init},
    ops::{Divergence, Mask, divergence_of_logits, layer_norm, linear, stack_rows},
    params, project, residual,
};

use crate::{Error, MatVitConfig, Pooling, Result, Stem};

/// An elastic vision transformer (Dosovitskiy et al., arXiv 2010.11929; the paper's section 4.2):
/// pre-norm, exact GELU, biases everywhere, learned positions.
#[derive(Module, Debug)]
pub struct MatVit {
    /// `[d_model, channels, patch_size, patch_size]`
    patch: Param<Tensor<4>>,
    /// `[d_model]`
    patch_bias: Param<Tensor<1>>,
    /// `[1, 1, d_model]`
    class_token: Option<Param<Tensor<3>>>,
    /// `[1, 1, d_model]`
    distillation_token: Option<Param<Tensor<3>>>,
    /// `[1, tokens, d_model]`
    positions: Param<Tensor<3>>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    head: Linear,
    distillation_head: Option<Linear>,
    #[module(skip)]
    config: MatVitConfig,
    #[module(skip)]
    space: Space,
}

/// Pre-norm encoder layer.
#[derive(Module, Debug)]
struct Layer {
    attention_norm: LayerNorm,
    attention: Attention,
    ffn_norm: LayerNorm,
    ffn: NestedFfn,
}

/// A batch of images, cut into patches.
#[derive(Clone, Debug)]
pub struct Images {
    patches: Tensor<2>, // [rows·patches, patch pixels]
    rows: usize,
}

/// Targets of the images of a batch: a weight for every class.
#[derive(Clone, Debug)]
pub struct VitTarget {
    weights: Tensor<2>, // [rows, classes]
}

impl MatVit {
    /// A model with weights drawn from `seed`: normal with standard deviation 1/√fan-in for
    /// matrices, a further 1/√(2·n_layers) for those that write to the residual stream, 0.02 for
    /// positions and class token; biases and head zero.
    ///
    /// # Errors
    /// When the configuration does not make a model.
    pub fn new(config: &MatVitConfig, seed: u64, device: &Device) -> Result<Self> {
        config.validate()?;
        let c = config.clone();
        let residual = 1.0 / (2.0 * c.n_layers as f64).sqrt();
        Ok(init::init(Self::unset(config, c.space()?, device), seed, |path, _| {
            let root = |n: usize| (n as f64).sqrt();
            match path.rsplit('.').next().unwrap_or(path) {
                "gamma" => Init::Ones,
                "beta" | "bias" | "patch_bias" | "up_bias" | "down_bias" => Init::Zeros,
                "positions" | "class_token" | "distillation_token" => Init::Normal(0.02),
                "patch" => Init::Normal(1.0 / root(c.patch_pixels())),
                "down" => Init::NormalColumns(residual / root(c.d_ff)),
                "weight" if path.ends_with("head.weight") => Init::Zeros,
                "weight" if path.ends_with("attention.o.weight") => {
                    Init::NormalColumns(residual / root(c.d_model))
                }
                "weight" => Init::NormalColumns(1.0 / root(c.d_model)),
                _ => Init::Normal(1.0 / root(c.d_model)),
            }
        }))
    }

    /// A model whose parameters are not filled yet, and take no memory until they are.
    pub(crate) fn unset(config: &MatVitConfig, space: Space, device: &Device) -> Self {
        let (c, nested) = (config, config.nested());
        let new_norm = || LayerNormConfig::new(c.d_model).with_epsilon(c.norm_eps).init(device);
        let layer = |i| Layer {
            attention_norm: new_norm(),
            attention: AttentionConfig {
                qkv_bias: true,
                o_bias: true,
                mask: Mask::Full,
                ..AttentionConfig::new(c.d_model, c.n_heads, c.head_dim())
            }
            .init(device),
            ffn_norm: new_norm(),
            ffn: NestedFfnConfig {
                d_model: c.d_model,
                d_ff: nested.d_ff_of(i),
                activation: Activation::Gelu,
                bias: true,
            }
            .init(device),
        };
        let class_token = c.pooling == Pooling::ClassToken;
        let token = || params::unset([1, 1, c.d_model], device);
        let head = || Linear::unset(c.d_model, c.classes, true, device);
        Self {
            patch: params::unset([c.d_model, c.channels, c.patch_size, c.patch_size], device),
            patch_bias: params::unset([c.d_model], device),
            class_token: class_token.then(token),
            distillation_token: c.distillation_token.then(token),
            positions: params::unset([1, c.tokens(), c.d_model], device),
            layers: (0..c.n_layers).map(layer).collect(),
            norm: new_norm(),
            head: head(),
            distillation_head: c.distillation_token.then(head),
            space,
            config: c.clone(),
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &MatVitConfig {
        &self.config
    }

    /// A batch of `rows` images out of normalised pixels, row-major `[rows, channels, height,
    /// width]`.
    ///
    /// # Errors
    /// When there are more or fewer pixels.
    pub fn images(&self, rows: usize, pixels: &[f32]) -> Result<Images> {
        let c = &self.config;
        let expected = rows.saturating_mul(c.pixels());
        if rows == 0 || pixels.len() != expected {
            return Err(Error::Pixels { found: pixels.len(), rows, expected });
        }
        let (size, patch) = (c.image_size, c.patch_size);
        let per_side = size / patch;
        let mut values = Vec::with_capacity(pixels.len());
        for image in pixels.chunks_exact(c.pixels()) {
            for at in 0..c.patches() {
                let corner = at / per_side * patch * size + at % per_side * patch;
                for channel in image.chunks_exact(size * size) {
                    for line in 0..patch {
                        let start = corner + line * size;
                        values.extend_from_slice(&channel[start..start + patch]);
                    }
                }
            }
        }
        let data = TensorData::new(values, [rows * c.patches(), c.patch_pixels()]);
        Ok(Images { patches: Tensor::from_data(data, &self.device()), rows })
    }

    /// One-hot targets `[rows, classes]` of one label per image, with label smoothing: `smoothing`
    /// is spread uniformly over all classes.
    ///
    /// # Errors
    /// When a label is not below the number of classes.
    pub fn labels(&self, labels: &[usize], smoothing: f32) -> Result<VitTarget> {
        let classes = self.config.classes;
        let mut weights = vec![smoothing / classes as f32; labels.len() * classes];
        for (image, label) in labels.iter().enumerate() {
            if *label >= classes {
                return Err(Error::Label { found: *label, image, classes });
            }
            weights[image * classes + label] += 1.0 - smoothing;
        }
        self.soft_labels(&weights)
    }

    /// Targets of a weight for every class, row-major `[rows, classes]`.
    ///
    /// # Errors
    /// When the weights do not form rows.
    pub fn soft_labels(&self, weights: &[f32]) -> Result<VitTarget> {
        let classes = self.config.classes;
        if weights.is_empty() || !weights.len().is_multiple_of(classes) {
            return Err(Error::SoftLabels { found: weights.len(), classes });
        }
        let data = TensorData::new(weights.to_vec(), [weights.len() / classes, classes]);
        Ok(VitTarget { weights: Tensor::from_data(data, &self.device()) })
    }

    /// Input of the head for each image, which is also its embedding.
    ///
    /// # Shapes
    /// - output: `[rows, d_model]`
    pub fn pooled(&self, output: &Output) -> Tensor<2> {
        match self.config.pooling {
            Pooling::ClassToken => self.token(output, 0),
            Pooling::Mean => {
                let hidden = output.hidden.clone();
                let ([n, d], tokens) = (hidden.dims(), self.config.tokens());
                let mean = hidden.reshape([n / tokens, tokens, d]).mean_dim(1);
                self.normed(&self.norm, mean.reshape([n / tokens, d]))
            }
        }
    }

    /// One token of each image after the final norm.
    ///
    /// # Shapes
    /// - output: `[rows, d_model]`
    fn token(&self, output: &Output, index: usize) -> Tensor<2> {
        let hidden = output.hidden.clone();
        let ([n, d], tokens) = (hidden.dims(), self.config.tokens());
        let token = hidden.reshape([n / tokens, tokens, d]).narrow(1, index, 1);
        self.normed(&self.norm, token.reshape([n / tokens, d]))
    }

    /// Logits of each head, `[rows, classes]`.
    fn heads(&self, output: &Output) -> Vec<Tensor<2>> {
        // The softmax is f32.
        let logits = |head: &Linear, x: Tensor<2>| residual(project(head, output.low(x)));
        let mut all = vec![logits(&self.head, self.pooled(output))];
        if let Some(head) = &self.distillation_head {
            all.push(logits(head, self.token(output, 1)));
        }
        all
    }

    /// Rank of the label of each image: the number of other classes whose logit is at least as
    /// high. The label is the class with the largest target weight.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn ranks(&self, output: &Output, target: &VitTarget) -> Result<Vec<usize>> {
        let read = |what: &str, tensor: Tensor<2>| -> Result<Vec<f32>> {
            let values = tensor.into_data().convert::<f32>().try_into_vec::<f32>();
            Ok(values.map_err(|e| matformer_nn::Error::read(what, e))?)
        };
        let classes = self.config.classes;
        let logits = read("logits", self.head(output))?;
        let weights = read("labels", target.weights.clone())?;
        let rank = |(logits, weights): (&[f32], &[f32])| {
            let larger = |best: usize, i: usize| if weights[i] > weights[best] { i } else { best };
            let label = (0..classes).fold(0, larger);
            // If the logit of the label is NaN, the label is ranked last; a NaN of another class
            // counts as likelier than the label.
            let likelier = |l: &&f32| l.partial_cmp(&&logits[label]) != Some(Ordering::Less);
            logits.iter().filter(likelier).count() - usize::from(!logits[label].is_nan())
        };
        Ok(logits.chunks_exact(classes).zip(weights.chunks_exact(classes)).map(rank).collect())
    }

    /// Applies the norm with the `layer_norm` op instead of Burn's forward pass.
    fn normed(&self, norm: &LayerNorm, x: Tensor<2>) -> Tensor<2> {
        let zeros = || Tensor::zeros([self.config.d_model], &x.device());
        let bias = norm.beta.as_ref().map_or_else(zeros, Param::val);
        layer_norm(x, norm.gamma.val(), bias, self.config.norm_eps)
    }
}

impl Elastic for MatVit {
    type Input = Images;
    type Target = VitTarget;
    type Context = Stem;

    fn space(&self) -> &Space {
        &self.space
    }

    fn d_ff(&self, layer: usize) -> usize {
        self.layers[layer].ffn.d_ff()
    }

    fn device(&self) -> Device {
        params::device(self)
    }

    fn stem(&self, input: &Images, state: &State) -> matformer_nn::Result<(Hidden, Stem)> {
        let c = &self.config;
        let (rows, tokens, d) = (input.rows, c.tokens(), c.d_model);
        let weight = self.patch.val().reshape([d, c.patch_pixels()]).into();
        let x = linear(input.patches.clone(), &weight) + self.patch_bias.val().unsqueeze();
        let mut x = x.reshape([rows, c.patches(), d]);
        let extra = [&self.class_token, &self.distillation_token].into_iter().flatten();
        let mut parts: Vec<Tensor<3>> = extra.map(|t| t.val().expand([rows, 1, d])).collect();
        if !parts.is_empty() {
            parts.push(x);
            x = Tensor::cat(parts, 1);
        }
        let x = (x + self.positions.val()).reshape([rows * tokens, d]);
        let stem = Stem::new(c, rows, state.noise(), &x.device());
        Ok((Hidden { x, spans: Spans::equal(rows, tokens) }, stem))
    }

    fn mix(&self, x: Tensor<2>, pass: &mut Pass<'_, Stem>) -> Tensor<2> {
        let l = &self.layers[pass.layer];
        let normed = self.normed(&l.attention_norm, x.clone());
        let branch = l.attention.forward(pass.low(normed), None, pass);
        pass.context.drop(pass.layer, 0, residual(branch)) + x
    }

    fn ffn(&self, x: Tensor<2>, pass: &mut Pass<'_, Stem>) -> Tensor<2> {
        let l = &self.layers[pass.layer];
        let normed = pass.low(self.normed(&l.ffn_norm, x.clone()));
        let branch = residual(l.ffn.forward_in(normed, pass));
        pass.context.drop(pass.layer, 1, branch) + stack_rows(x, pass.blocks)
    }

    fn loss(&self, output: &Output, target: &VitTarget) -> RowLoss {
        let nats = |logits: Tensor<2>| {
            -(activation::log_softmax(logits, 1) * target.weights.clone()).sum_dim(1)
        };
        // Each head learns the label: the mean of their losses, not the loss of their mean.
        by_image(self.heads(output).into_iter().map(nats))
    }

    /// Each head learns from the teacher's same head: the mean of their divergences.
    fn divergence(
        &self,
        student: &Output,
        teacher: Taught<'_, Self>,
        _: &VitTarget,
        rule: Divergence,
    ) -> RowLoss {
        let pairs = self.heads(student).into_iter().zip(teacher.model.heads(teacher.output));
        by_image(pairs.map(|(s, t)| {
            let nats = divergence_of_logits(s, t, rule); // [rows]
            let rows = nats.dims()[0];
            nats.reshape([rows, 1])
        }))
    }

    /// Logits of each image, `[rows, classes]`: the mean of both heads' where there are two.
    fn head(&self, output: &Output) -> Tensor<2> {
        mean(self.heads(output).into_iter())
    }
}

/// Mean over the outputs of the heads, `[rows, n]` each; output `[rows, n]`.
fn mean(heads: impl ExactSizeIterator<Item = Tensor<2>>) -> Tensor<2> {
    let n = heads.len();
    let sum = heads.reduce(|a, b| a + b);
    sum.unwrap_or_else(|| unreachable!("a model has a head")) / n as f64
}

/// The loss of each image out of that of each head, `[rows, 1]`.
fn by_image(heads: impl ExactSizeIterator<Item = Tensor<2>>) -> RowLoss {
    let nats = mean(heads);
    let [rows, _] = nats.dims();
    RowLoss { nats: nats.reshape([rows]), counts: vec![1; rows] }
}
