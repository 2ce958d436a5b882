//! Neighbouring widths, and the tokens that have what lies between them.

use matformer_nn::packed::BLOCK;

/// Products of inputs with columns that take as long as beginning with another ring.
const BEGINNING: usize = 1024;

/// Columns that the first `inputs` inputs have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ring {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) inputs: usize,
}

impl Ring {
    /// All columns, of all inputs.
    pub(crate) fn whole(cols: usize, inputs: usize) -> Self {
        Self { from: 0, to: cols, inputs }
    }

    /// The neurons between neighbouring widths, and how many tokens have them.
    pub(crate) fn of_neurons(widths: &[usize]) -> Vec<Self> {
        let mut distinct = widths.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let starts = std::iter::once(0).chain(distinct.iter().copied());
        let ring = |(from, to): (usize, usize)| Self {
            from,
            to,
            inputs: widths.iter().filter(|width| **width >= to).count(),
        };
        starts.zip(distinct.iter().copied()).map(ring).filter(|ring| ring.from < ring.to).collect()
    }

    /// The same as columns, cut at blocks: inputs are zero beyond their widths. A ring that is narrow, or has almost as
    /// many inputs as those that the one before begins with, is taken together with it.
    pub(crate) fn in_blocks(rings: &[Self], cols: usize) -> Vec<Self> {
        let at = |end: usize| end.next_multiple_of(BLOCK).min(cols);
        let mut found: Vec<Self> = Vec::new();
        for ring in rings {
            let ring = Self { from: at(ring.from), to: at(ring.to), ..*ring };
            match found.last_mut() {
                _ if ring.from == ring.to => {}
                Some(last) if (last.inputs - ring.inputs) * (ring.to - ring.from) <= BEGINNING => {
                    last.to = ring.to;
                }
                _ => found.push(ring),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_lie_between_widths() {
        let ring = |from, to, inputs| Ring { from, to, inputs };
        assert_eq!(
            Ring::of_neurons(&[64, 16, 64, 40]),
            [ring(0, 16, 4), ring(16, 40, 3), ring(40, 64, 2)]
        );
        assert_eq!(Ring::of_neurons(&[8, 0]), [ring(0, 8, 1)]);
        // Columns 16 to 32 are taken with the first ring, 1028 to 1056 with that before the last.
        let rings = Ring::of_neurons(&[4096, 16, 4096, 1028, 20]);
        assert_eq!(
            Ring::in_blocks(&rings, 4096),
            [ring(0, 32, 5), ring(32, 1056, 3), ring(1056, 4096, 2)]
        );
        // As long as it takes to begin with the second ring, zeros are multiplied.
        let rings = Ring::of_neurons(&[64, 64, 32]);
        assert_eq!(Ring::in_blocks(&rings, 64), [ring(0, 64, 3)]);
        assert_eq!(Ring::in_blocks(&Ring::of_neurons(&[50]), 50), [ring(0, 50, 1)]);
    }
}
