//! Attention of a step's tokens over the slots of their rows.

use matformer_lm::MatLmConfig;

use super::{dot::attend, team::Team};

/// Tokens for each thread from which on a token's heads stay together.
const MANY: usize = 4;

/// What a slot holds of a layer, `[capacity, kv_dim]` each.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) kv_dim: usize,
}

/// The heads of a token, and what it looks at.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    pub(crate) seen: Seen<'a>,
    pub(crate) position: usize,
    /// `[heads·head_dim]`
    pub(crate) row: &'a [f32],
}

/// Writes the outputs of all heads, `[tokens, heads·head_dim]`, where zeros are.
pub(crate) fn run<'a>(
    team: &mut Team,
    queries: impl Iterator<Item = Query<'a>>,
    c: &MatLmConfig,
    window: Option<usize>,
    out: &mut [f32],
) {
    let (head_dim, heads, scale) = (c.head_dim(), c.n_heads, c.attention_scale() as f32);
    let group = heads / c.n_kv_heads;
    let tokens = out.len() / (heads * head_dim);
    // Heads of a token that one thread takes.
    let step = if tokens >= MANY * team.members() { heads } else { 1 };
    let parts = queries.zip(out.chunks_exact_mut(heads * head_dim)).flat_map(|(query, out)| {
        let parts = out.chunks_mut(step * head_dim).enumerate();
        parts.map(move |(i, out)| (query, i * step, out))
    });
    team.each(parts, |(query, first, out): (Query<'a>, usize, &mut [f32])| {
        let Query { seen, position, row } = query;
        let end = position + 1;
        let start = window.map_or(0, |size| end.saturating_sub(size));
        let mut scores = Vec::with_capacity(end - start);
        for (i, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let head = first + i;
            let at = head / group * head_dim;
            let part = start * seen.kv_dim + at..(end - 1) * seen.kv_dim + at + head_dim;
            let query = &row[head * head_dim..(head + 1) * head_dim];
            let (keys, values) = (&seen.keys[part.clone()], &seen.values[part]);
            attend(query, keys, values, seen.kv_dim, scale, &mut scores, out);
        }
    });
}
