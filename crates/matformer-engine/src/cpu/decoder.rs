//! A step of a language model on the CPU: tokens of any rows, each row with widths of its own, through one pass
//! over the weights.

use std::sync::Arc;

use matformer_lm::MatLmConfig;

use super::{
    attention::{self, Queries, Seen},
    cache::Cache,
    dot::squares,
    inputs::Inputs,
    panel::{self, Job},
    ring::Ring,
    rope::Rope,
    team::Team,
    weights::{Layer, Linear, Weights},
};

/// Tokens of one row, which lie behind those that its slot holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) slot: usize,
    pub(crate) ids: &'a [u32],
    /// Feed-forward width of each layer.
    pub(crate) widths: &'a [usize],
    /// Index of the first token whose logits are needed.
    pub(crate) logits_from: usize,
}

/// A model that decodes.
pub(crate) struct Decoder {
    weights: Arc<Weights>,
    team: Team,
    cache: Cache,
    rope: Rope,
    work: Work,
}

/// Buffers of a step.
#[derive(Default)]
struct Work {
    /// Residual stream, `[tokens, d_model]`.
    x: Vec<f32>,
    /// An input of products, and it as they read it.
    normed: Vec<f32>,
    inputs: Inputs,
    /// What products give, `[outputs, tokens]`.
    found: Vec<f32>,
    /// The same, token by token.
    turned: Vec<f32>,
    /// As `found`, of the head alone: it is many times larger.
    logits: Vec<f32>,
}

/// Where a token is.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    slot: usize,
    position: usize,
}

impl Decoder {
    pub(crate) fn new(
        weights: Arc<Weights>,
        threads: usize,
        slots: usize,
        capacity: usize,
    ) -> Self {
        let c = &weights.config;
        let cache = Cache::new(c.n_layers, slots, capacity, c.n_kv_heads * c.head_dim());
        let rope = Rope::new(c);
        Self { weights, team: Team::new(threads), cache, rope, work: Work::default() }
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn cache_mut(&mut self) -> &mut Cache {
        &mut self.cache
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Takes tokens through the model. Returns the logits after those that they are wanted after, token by token,
    /// `[wanted, vocab]`. The rows have slots of their own, at least one token, and room in their slots.
    pub(crate) fn step(&mut self, rows: &[Row<'_>]) -> Vec<f32> {
        let weights = self.weights.clone();
        let places = self.places(rows);
        self.rope.reach(places.iter().map(|place| place.position + 1).max().unwrap_or(0));
        self.embed(&weights, rows);
        for (index, layer) in weights.layers.iter().enumerate() {
            self.attend(&weights, index, layer, &places);
            let widths: Vec<usize> = places.iter().map(|p| rows[p.row].widths[index]).collect();
            self.feed_forward(&weights, layer, &widths);
        }
        for row in rows {
            self.cache.extend(row.slot, row.ids.len());
        }
        self.logits(&weights, rows)
    }

    /// Takes back the memory of logits.
    pub(crate) fn reuse(&mut self, logits: Vec<f32>) {
        let work = &mut self.work;
        let place = if work.logits.is_empty() { &mut work.logits } else { &mut work.turned };
        if logits.capacity() > place.capacity() {
            *place = logits;
        }
    }

    fn places(&self, rows: &[Row<'_>]) -> Vec<Place> {
        let of_row = |(row, r): (usize, &Row<'_>)| {
            let (slot, held) = (r.slot, self.cache.len(r.slot));
            (held..held + r.ids.len()).map(move |position| Place { row, slot, position })
        };
        rows.iter().enumerate().flat_map(of_row).collect()
    }

    fn embed(&mut self, weights: &Weights, rows: &[Row<'_>]) {
        let x = &mut self.work.x;
        x.clear();
        let embed = weights.view(&weights.embed);
        for id in rows.iter().flat_map(|row| row.ids) {
            embed.widen(*id as usize, x);
        }
        if weights.config.scale_embeddings {
            let factor = (weights.config.d_model as f64).sqrt() as f32;
            x.iter_mut().for_each(|v| *v *= factor);
        }
    }

    /// The attention half of a layer.
    fn attend(&mut self, weights: &Weights, index: usize, layer: &Layer, places: &[Place]) {
        let c = &weights.config;
        let [q, k, v, o] =
            [&layer.q, &layer.k, &layer.v, &layer.o].map(|linear| weights.view(&linear.weight));
        let Self { team, cache, rope, work, .. } = self;
        let (tokens, head_dim) = (places.len(), c.head_dim());
        let (q_dim, kv_dim) = (c.n_heads * head_dim, c.n_kv_heads * head_dim);
        norm(&work.x, &layer.attention_norm, c.norm_eps, &mut work.normed);
        let whole = [Ring::whole(c.d_model, tokens)];
        work.inputs.set(&work.normed, c.d_model, panel::form(q, &whole));
        let all = q_dim + 2 * kv_dim;
        work.found.resize(all * tokens, 0.0);
        let (of_q, rest) = work.found.split_at_mut(q_dim * tokens);
        let (of_k, of_v) = rest.split_at_mut(kv_dim * tokens);
        let jobs = [(q, of_q), (k, of_k), (v, of_v)].map(|(matrix, out)| Job {
            matrix,
            out,
            rings: &whole,
        });
        panel::run(team, jobs, &work.inputs, tokens);
        turn(&mut work.found, tokens, &mut work.turned);
        let rotated = rope.of_layer(c, index);
        for (place, row) in places.iter().zip(work.turned.chunks_exact_mut(all)) {
            let (q, rest) = row.split_at_mut(q_dim);
            let (k, v) = rest.split_at_mut(kv_dim);
            for (linear, values) in [(&layer.q, &mut *q), (&layer.k, &mut *k), (&layer.v, &mut *v)]
            {
                add_bias(linear, values);
            }
            head_norm(q, &layer.q_norm, head_dim, c.norm_eps);
            head_norm(k, &layer.k_norm, head_dim, c.norm_eps);
            if let Some(angles) = rotated {
                angles.rotate(place.position, q);
                angles.rotate(place.position, k);
            }
            cache.write(index, place.slot, place.position, k, v);
        }
        work.normed.resize(q_dim * tokens, 0.0);
        let window = c.window_of(index).map(|window| window.size);
        let held = &*cache;
        let same_row = |a: &Place, b: &Place| a.row == b.row;
        let mut rows = &work.turned[..];
        let queries = places.chunk_by(same_row).map(|places| {
            let of_row;
            (of_row, rows) = rows.split_at(places.len() * all);
            let Place { slot, position, .. } = places[0];
            let seen =
                Seen { keys: held.keys(index, slot), values: held.values(index, slot), kv_dim };
            Queries { seen, position, rows: of_row, stride: all }
        });
        attention::run(team, queries, c, window, &mut work.normed);
        let rings = [Ring::whole(q_dim, tokens)];
        work.inputs.set(&work.normed, q_dim, panel::form(o, &rings));
        work.found.resize(c.d_model * tokens, 0.0);
        let job = Job { matrix: o, out: &mut work.found, rings: &rings };
        panel::run(team, [job], &work.inputs, tokens);
        turn(&mut work.found, tokens, &mut work.turned);
        for row in work.turned.chunks_exact_mut(c.d_model) {
            add_bias(&layer.o, row);
        }
        self.add(c, &layer.attention_post_norm, None);
    }

    /// The feed-forward half of a layer, each token at a width of its own.
    fn feed_forward(&mut self, weights: &Weights, layer: &Layer, widths: &[usize]) {
        let c = &weights.config;
        let [up, down] = [&layer.up, &layer.down].map(|matrix| weights.view(matrix));
        let gate = layer.gate.as_ref().zip(c.activation.gate());
        let gate = gate.map(|(gate, act)| (act, weights.view(gate)));
        let (work, team) = (&mut self.work, &mut self.team);
        let tokens = widths.len();
        norm(&work.x, &layer.ffn_norm, c.norm_eps, &mut work.normed);
        // The widest first: those that have a ring are the first so many.
        let order = descending(widths);
        if let Some(order) = &order {
            let rows: Vec<&[f32]> =
                order.iter().map(|t| &work.normed[t * c.d_model..(t + 1) * c.d_model]).collect();
            let sorted = rows.concat();
            work.normed = sorted;
        }
        let widest = widths.iter().copied().max().unwrap_or(0);
        let neurons = Ring::of_neurons(widths);
        work.inputs.set(&work.normed, c.d_model, panel::form(up, &neurons));
        work.found.resize(widest * tokens, 0.0);
        panel::neurons(team, up, gate, &work.inputs, &neurons, tokens, &mut work.found);
        turn(&mut work.found, tokens, &mut work.turned);
        let rings = Ring::in_blocks(&neurons, down.cols());
        work.inputs.set(&work.turned, widest, panel::form(down, &rings));
        work.found.resize(c.d_model * tokens, 0.0);
        let job = Job { matrix: down, out: &mut work.found, rings: &rings };
        panel::run(team, [job], &work.inputs, tokens);
        turn(&mut work.found, tokens, &mut work.turned);
        self.add(c, &layer.ffn_post_norm, order.as_deref());
    }

    /// Adds what a half gave to the residual stream; its tokens may be in another `order`.
    fn add(&mut self, c: &MatLmConfig, post_norm: &Option<Vec<f32>>, order: Option<&[usize]>) {
        let work = &mut self.work;
        let given = match post_norm {
            Some(weight) => {
                norm(&work.turned, weight, c.norm_eps, &mut work.normed);
                &work.normed
            }
            None => &work.turned,
        };
        for (i, row) in given.chunks_exact(c.d_model).enumerate() {
            let token = order.map_or(i, |order| order[i]);
            let x = &mut work.x[token * c.d_model..(token + 1) * c.d_model];
            x.iter_mut().zip(row).for_each(|(x, y)| *x += y);
        }
    }

    fn logits(&mut self, weights: &Weights, rows: &[Row<'_>]) -> Vec<f32> {
        let (work, team, d) = (&mut self.work, &mut self.team, weights.config.d_model);
        let mut wanted = Vec::new();
        let mut first = 0;
        for row in rows {
            wanted.extend_from_slice(
                &work.x[(first + row.logits_from) * d..(first + row.ids.len()) * d],
            );
            first += row.ids.len();
        }
        if wanted.is_empty() {
            return Vec::new(); // parts of prompts alone
        }
        norm(&wanted, &weights.norm, weights.config.norm_eps, &mut work.normed);
        let tokens = wanted.len() / d;
        let head = weights.head();
        let rings = [Ring::whole(d, tokens)];
        work.inputs.set(&work.normed, d, panel::form(head, &rings));
        work.logits.resize(head.rows() * tokens, 0.0);
        let job = Job { matrix: head, out: &mut work.logits, rings: &rings };
        panel::run(team, [job], &work.inputs, tokens);
        if tokens == 1 {
            return std::mem::take(&mut work.logits);
        }
        turn(&mut work.logits, tokens, &mut work.turned);
        std::mem::take(&mut work.turned)
    }
}

/// `[outputs, tokens]` as `[tokens, outputs]`.
fn turn(from: &mut Vec<f32>, tokens: usize, to: &mut Vec<f32>) {
    if tokens == 1 {
        std::mem::swap(from, to);
        return;
    }
    to.clear();
    let outputs = from.len() / tokens.max(1);
    to.resize(from.len(), 0.0);
    // In squares that stay in the cache.
    const SIDE: usize = 32;
    for a in (0..outputs).step_by(SIDE) {
        for b in (0..tokens).step_by(SIDE) {
            for o in a..(a + SIDE).min(outputs) {
                for t in b..(b + SIDE).min(tokens) {
                    to[t * outputs + o] = from[o * tokens + t];
                }
            }
        }
    }
}

/// RMSNorm of each row, as long as `weight`.
fn norm(x: &[f32], weight: &[f32], eps: f64, out: &mut Vec<f32>) {
    out.clear();
    for row in x.chunks_exact(weight.len()) {
        let factor = factor(row, eps);
        out.extend(row.iter().zip(weight).map(|(x, w)| x * factor * w));
    }
}

fn factor(row: &[f32], eps: f64) -> f32 {
    1.0 / (squares(row) / row.len() as f32 + eps as f32).sqrt()
}

fn head_norm(heads: &mut [f32], weight: &Option<Vec<f32>>, head_dim: usize, eps: f64) {
    if let Some(weight) = weight {
        for head in heads.chunks_exact_mut(head_dim) {
            let factor = factor(head, eps);
            head.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * factor * w);
        }
    }
}

fn add_bias(linear: &Linear, values: &mut [f32]) {
    if let Some(bias) = &linear.bias {
        values.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
    }
}

/// Tokens by width, the widest first; `None` if they are in such an order.
fn descending(widths: &[usize]) -> Option<Vec<usize>> {
    if widths.windows(2).all(|pair| pair[0] >= pair[1]) {
        return None;
    }
    let mut order: Vec<usize> = (0..widths.len()).collect();
    order.sort_by_key(|token| std::cmp::Reverse(widths[*token]));
    Some(order)
}
