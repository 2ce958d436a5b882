//! Rotary embedding: cosines and sines of the positions seen so far.

use matformer_lm::{MatLmConfig, RopeScaling};

/// The angles of one rule.
#[derive(Debug)]
pub(crate) struct Angles {
    frequencies: Vec<f64>,
    /// Of each position, `[positions, head_dim / 2]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Those of a model: layers with a window may have a rule of their own.
#[derive(Debug)]
pub(crate) struct Rope {
    table: Angles,
    in_window: Option<Angles>,
}

impl Rope {
    pub(crate) fn new(c: &MatLmConfig) -> Self {
        let angles = |theta, scaling| Angles {
            frequencies: RopeScaling::rule(scaling, theta).frequencies(c.head_dim()),
            cos: Vec::new(),
            sin: Vec::new(),
        };
        let own = c.window.as_ref().and_then(|window| window.rope_theta);
        Self {
            table: angles(c.rope_theta, c.rope_scaling),
            in_window: own.map(|theta| angles(theta, None)),
        }
    }

    /// Makes sure of the first so many positions.
    pub(crate) fn reach(&mut self, positions: usize) {
        for angles in std::iter::once(&mut self.table).chain(&mut self.in_window) {
            let half = angles.frequencies.len().max(1);
            for position in angles.cos.len() / half..positions {
                for frequency in &angles.frequencies {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    angles.cos.push(cos as f32);
                    angles.sin.push(sin as f32);
                }
            }
        }
    }

    /// The angles of a layer, where it has a rotary embedding.
    pub(crate) fn of_layer(&self, c: &MatLmConfig, layer: usize) -> Option<&Angles> {
        if !c.has_rope(layer) {
            return None;
        }
        let own = self.in_window.as_ref().filter(|_| c.window_of(layer).is_some());
        Some(own.unwrap_or(&self.table))
    }
}

impl Angles {
    /// Turns every head by the angles of a position.
    pub(crate) fn rotate(&self, position: usize, heads: &mut [f32]) {
        let half = self.frequencies.len();
        let at = position * half..(position + 1) * half;
        let (cos, sin) = (&self.cos[at.clone()], &self.sin[at]);
        for head in heads.chunks_exact_mut(2 * half) {
            let (left, right) = head.split_at_mut(half);
            for ((a, b), (c, s)) in left.iter_mut().zip(right).zip(cos.iter().zip(sin)) {
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    }
}
