//! Plans: many submodels compiled into one forward pass through the layers, without tensors.

use std::ops::Range;

use crate::{Error, Result, Spans, Submodel};

/// What one unit of a block's range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The whole batch: the tokens of all its rows.
    Batch,
    /// One row of the batch: the tokens of its span.
    Row,
}

/// A piece of a layer's work: these units of the layer's input go through the FFN at this width.
/// In a plan a range counts [units](Unit), in [`Plan::hidden_blocks`] hidden rows (tokens).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// First unit of the layer's input.
    pub start: usize,
    /// One past the last unit of the layer's input.
    pub end: usize,
    /// FFN width: the first `width` rows of the matrices.
    pub width: usize,
}

impl Block {
    /// How many units go in, and come out.
    pub fn units(&self) -> usize {
        self.end - self.start
    }
}

/// Many submodels compiled into one forward pass.
///
/// A [unit](Unit) is the whole batch or one row of it. A layer receives
/// [`input_units`](Plan::input_units) units. Each of its blocks runs the FFN on a range of them at
/// one width, and several blocks may read the same range. Their outputs, stacked in the order of
/// the blocks, are the next layer's input. [`outputs`](Plan::outputs) says which units of the last
/// layer's output belong to which submodel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    unit: Unit,
    layers: Vec<Vec<Block>>,
    outputs: Vec<Range<usize>>,
    submodels: Vec<Submodel>,
}

impl Plan {
    /// The ordinary forward of one submodel: each layer is one block of the whole batch.
    pub fn one(submodel: &Submodel) -> Self {
        let block = |&width| vec![Block { start: 0, end: 1, width }];
        Self {
            unit: Unit::Batch,
            layers: submodel.widths().iter().map(block).collect(),
            outputs: std::iter::once(0..1).collect(),
            submodels: vec![submodel.clone()],
        }
    }

    /// The same input through many submodels: what they share up to a layer is computed once.
    ///
    /// The blocks of a layer are the nodes of a trie over the submodels' widths, ordered by
    /// (parent, width). Equal submodels share an output.
    ///
    /// # Errors
    /// [`Error::NoSubmodels`], or [`Error::LayerCount`] where the numbers of layers differ.
    pub fn merged(submodels: &[Submodel]) -> Result<Self> {
        let n_layers = common_layers(submodels)?;
        let mut distinct: Vec<&Submodel> = submodels.iter().collect();
        distinct.sort();
        distinct.dedup();
        // Sorted submodels that share their first widths are adjacent: each run of submodels that
        // agree up to and including a layer is one node of the trie.
        let mut node = vec![0; distinct.len()]; // per distinct submodel: the unit that it reads
        let mut layers = Vec::with_capacity(n_layers);
        for layer in 0..n_layers {
            let mut blocks: Vec<Block> = Vec::new();
            for (unit, submodel) in node.iter_mut().zip(&distinct) {
                let block = Block { start: *unit, end: *unit + 1, width: submodel.widths()[layer] };
                if blocks.last() != Some(&block) {
                    blocks.push(block);
                }
                *unit = blocks.len() - 1;
            }
            layers.push(blocks);
        }
        let output = |submodel: &Submodel| {
            let at = distinct.partition_point(|&other| other < submodel);
            node[at]..node[at] + 1
        };
        Ok(Self {
            unit: Unit::Batch,
            layers,
            outputs: submodels.iter().map(output).collect(),
            submodels: submodels.to_vec(),
        })
    }

    /// One submodel per row of the batch. Rows keep their order; neighbouring rows of equal width
    /// form one block.
    ///
    /// # Errors
    /// [`Error::NoSubmodels`], or [`Error::LayerCount`] where the numbers of layers differ.
    pub fn rows(submodels: &[Submodel]) -> Result<Self> {
        let n_layers = common_layers(submodels)?;
        let mut layers = Vec::with_capacity(n_layers);
        for layer in 0..n_layers {
            let mut blocks: Vec<Block> = Vec::new();
            for (row, submodel) in submodels.iter().enumerate() {
                let width = submodel.widths()[layer];
                match blocks.last_mut() {
                    Some(last) if last.width == width => last.end = row + 1,
                    _ => blocks.push(Block { start: row, end: row + 1, width }),
                }
            }
            layers.push(blocks);
        }
        Ok(Self {
            unit: Unit::Row,
            layers,
            outputs: (0..submodels.len()).map(|row| row..row + 1).collect(),
            submodels: submodels.to_vec(),
        })
    }

    /// What one unit of a range is.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The blocks of each layer.
    pub fn layers(&self) -> &[Vec<Block>] {
        &self.layers
    }

    /// The number of layers.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// For each submodel, its units of the last layer's output.
    pub fn outputs(&self) -> &[Range<usize>] {
        &self.outputs
    }

    /// A range of units as a range of hidden rows of a batch of these spans.
    fn hidden_rows(&self, units: &Range<usize>, spans: &Spans) -> Range<usize> {
        match self.unit {
            Unit::Batch => units.start * spans.tokens()..units.end * spans.tokens(),
            Unit::Row => spans.tokens_of(units.clone()),
        }
    }

    /// The blocks of a layer in hidden rows of a batch of these spans.
    ///
    /// # Panics
    /// If there is no such layer, or a plan of rows has more rows than the batch.
    pub fn hidden_blocks(&self, layer: usize, spans: &Spans) -> Vec<Block> {
        let blocks = self.layers[layer].iter();
        blocks
            .map(|block| {
                let Range { start, end } = self.hidden_rows(&(block.start..block.end), spans);
                Block { start, end, width: block.width }
            })
            .collect()
    }

    /// For each submodel, the rows of the last layer's output that belong to it, for a batch of
    /// these spans.
    ///
    /// # Panics
    /// If a plan of rows has more rows than the batch.
    pub fn hidden_outputs(&self, spans: &Spans) -> Vec<Range<usize>> {
        self.outputs.iter().map(|units| self.hidden_rows(units, spans)).collect()
    }

    /// How many copies of the batch enter a layer: 1 in a plan of rows.
    pub fn copies(&self, layer: usize) -> usize {
        match self.unit {
            Unit::Batch => self.input_units(layer),
            Unit::Row => 1,
        }
    }

    /// The submodels, in the order in which they were given.
    pub fn submodels(&self) -> &[Submodel] {
        &self.submodels
    }

    /// Units that enter a layer; for a layer past the last, units that leave the last one.
    pub fn input_units(&self, layer: usize) -> usize {
        let before = self.layers.get(..layer).unwrap_or(&self.layers);
        match (before.last(), self.unit) {
            (Some(blocks), _) => blocks.iter().map(Block::units).sum(),
            (None, Unit::Batch) => 1,
            (None, Unit::Row) => self.submodels.len(),
        }
    }

    /// Units that leave the last layer.
    pub fn output_units(&self) -> usize {
        self.input_units(self.n_layers())
    }

    /// The widest block of a layer: 0 for a layer past the last.
    pub fn max_width(&self, layer: usize) -> usize {
        let blocks = self.layers.get(layer).into_iter().flatten();
        blocks.map(|block| block.width).max().unwrap_or(0)
    }

    /// For each distinct input range of a layer, the widest block that reads it. It determines the
    /// cost: narrower blocks on the same range are computed as part of it. Empty for a layer past
    /// the last.
    pub fn widest(&self, layer: usize) -> Vec<Block> {
        let mut widest: Vec<Block> = Vec::new();
        for block in self.layers.get(layer).into_iter().flatten() {
            match widest.iter_mut().find(|w| (w.start, w.end) == (block.start, block.end)) {
                Some(w) => w.width = w.width.max(block.width),
                None => widest.push(*block),
            }
        }
        widest
    }

    /// Whether every layer is one block: the ordinary forward.
    pub fn is_single(&self) -> bool {
        self.layers.iter().all(|blocks| blocks.len() == 1)
    }
}

/// The ranges of neurons between neighbouring widths of the blocks, ascending:
/// `0..w1, w1..w2, …`. A ring is used by every block at least as wide as the ring's end.
pub fn rings(blocks: &[Block]) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = blocks.iter().map(|block| block.width).collect();
    ends.sort_unstable();
    ends.dedup();
    let mut start = 0;
    let ring = |end| std::mem::replace(&mut start, end)..end;
    ends.into_iter().map(ring).collect()
}

/// The number of layers that all submodels have.
fn common_layers(submodels: &[Submodel]) -> Result<usize> {
    let expected = submodels.first().ok_or(Error::NoSubmodels)?.n_layers();
    match submodels.iter().find(|submodel| submodel.n_layers() != expected) {
        None => Ok(expected),
        Some(other) => Err(Error::LayerCount {
            submodel: other.to_string(),
            found: other.n_layers(),
            expected,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(start: usize, end: usize, width: usize) -> Block {
        Block { start, end, width }
    }

    /// The widths that led to a unit of the last layer's output, and the unit it started as.
    fn follow_back(plan: &Plan, mut unit: usize) -> (usize, Vec<usize>) {
        let mut widths = Vec::new();
        for blocks in plan.layers().iter().rev() {
            let mut offset = 0;
            let found = blocks.iter().find(|block| {
                offset += block.units();
                unit < offset
            });
            let found = found.expect("a unit lies in some block");
            widths.push(found.width);
            unit = found.start + unit - (offset - found.units());
        }
        widths.reverse();
        (unit, widths)
    }

    #[test]
    fn merged_shares_prefixes() {
        let [a, b, c] = [[2, 2], [1, 2], [1, 1]].map(|widths| Submodel::new(widths.to_vec()));
        let plan = Plan::merged(&[a.clone(), b, c, a]).unwrap();
        assert_eq!(plan.layers()[0], [block(0, 1, 1), block(0, 1, 2)]);
        assert_eq!(plan.layers()[1], [block(0, 1, 1), block(0, 1, 2), block(1, 2, 2)]);
        assert_eq!(plan.outputs(), [2..3, 1..2, 0..1, 2..3]);
        assert_eq!([plan.input_units(0), plan.input_units(1), plan.output_units()], [1, 2, 3]);
        assert_eq!([plan.max_width(0), plan.max_width(9)], [2, 0]);
        assert!(!plan.is_single());
    }

    #[test]
    fn merged_of_equal_submodels_is_one() {
        let submodel = Submodel::new(vec![3, 1, 2]);
        let merged = Plan::merged(&[submodel.clone(), submodel.clone()]).unwrap();
        let one = Plan::one(&submodel);
        assert!(one.is_single());
        assert_eq!(merged.layers(), one.layers());
        assert_eq!(merged.outputs(), [0..1, 0..1]);
    }

    #[test]
    fn rows_keep_their_order() {
        let [a, b] = [[2, 1], [1, 1]].map(|widths| Submodel::new(widths.to_vec()));
        let plan = Plan::rows(&[a.clone(), b, a.clone(), a]).unwrap();
        assert_eq!(plan.layers()[0], [block(0, 1, 2), block(1, 2, 1), block(2, 4, 2)]);
        assert_eq!(plan.layers()[1], [block(0, 4, 1)]);
        assert_eq!((plan.unit(), plan.input_units(0), plan.output_units()), (Unit::Row, 4, 4));
    }

    #[test]
    fn units_are_hidden_rows_of_the_spans() {
        let span = |len| crate::Span { slot: None, start: 0, len };
        let spans = Spans::new(vec![span(3), span(1), span(4)]);
        let [a, b] = [[2, 1], [1, 1]].map(|widths| Submodel::new(widths.to_vec()));
        let rows = Plan::rows(&[a.clone(), b.clone(), b.clone()]).unwrap();
        assert_eq!(rows.hidden_blocks(0, &spans), [block(0, 3, 2), block(3, 8, 1)]);
        assert_eq!(rows.hidden_outputs(&spans), [0..3, 3..4, 4..8]);
        assert_eq!([rows.copies(0), rows.copies(2)], [1, 1]);
        let merged = Plan::merged(&[a, b]).unwrap();
        assert_eq!(merged.hidden_blocks(0, &spans), [block(0, 8, 1), block(0, 8, 2)]);
        assert_eq!(merged.hidden_blocks(1, &spans), [block(0, 8, 1), block(8, 16, 1)]);
        assert_eq!(merged.hidden_outputs(&spans), [8..16, 0..8]);
        assert_eq!([merged.copies(0), merged.copies(1), merged.copies(2)], [1, 2, 2]);
    }

    #[test]
    fn nothing_and_unequal_layers_are_refused() {
        assert!(matches!(Plan::merged(&[]), Err(Error::NoSubmodels)));
        assert!(matches!(Plan::rows(&[]), Err(Error::NoSubmodels)));
        let unequal = [Submodel::uniform(1, 2), Submodel::uniform(1, 3)];
        assert!(matches!(Plan::merged(&unequal), Err(Error::LayerCount { found: 3, .. })));
        assert!(matches!(Plan::rows(&unequal), Err(Error::LayerCount { found: 3, .. })));
    }

    #[test]
    fn rings_lie_between_widths() {
        let blocks = [block(0, 1, 8), block(0, 1, 2), block(1, 2, 8), block(1, 2, 5)];
        assert_eq!(rings(&blocks), [0..2, 2..5, 5..8]);
        assert_eq!(rings(&[]), []);
    }

    /// One to nine submodels of the same number of layers, one to five.
    fn submodels() -> impl Strategy<Value = Vec<Submodel>> {
        (1usize..6).prop_flat_map(|n_layers| {
            let widths = prop::collection::vec(1usize..4, n_layers);
            prop::collection::vec(widths.prop_map(Submodel::new), 1..10)
        })
    }

    proptest! {
        #[test]
        fn merged_outputs_have_the_widths_of_their_submodels(submodels in submodels()) {
            let plan = Plan::merged(&submodels).unwrap();
            for (submodel, output) in submodels.iter().zip(plan.outputs()) {
                prop_assert_eq!(output.len(), 1);
                let (start, widths) = follow_back(&plan, output.start);
                prop_assert_eq!((start, &widths[..]), (0, submodel.widths()));
            }
            for (layer, blocks) in plan.layers().iter().enumerate() {
                // As many blocks as distinct prefixes, strictly in the promised order.
                let mut prefixes: Vec<_> =
                    submodels.iter().map(|submodel| &submodel.widths()[..=layer]).collect();
                prefixes.sort();
                prefixes.dedup();
                prop_assert_eq!(blocks.len(), prefixes.len());
                prop_assert!(blocks.is_sorted_by_key(|block| (block.start, block.width)));
                prop_assert!(blocks.iter().all(|block| block.end <= plan.input_units(layer)));
            }
        }

        #[test]
        fn rows_have_the_widths_of_their_submodels(submodels in submodels()) {
            let plan = Plan::rows(&submodels).unwrap();
            for (row, submodel) in submodels.iter().enumerate() {
                prop_assert_eq!(&plan.outputs()[row], &(row..row + 1));
                let (start, widths) = follow_back(&plan, row);
                prop_assert_eq!((start, &widths[..]), (row, submodel.widths()));
            }
            for blocks in plan.layers() {
                prop_assert!(blocks.windows(2).all(|pair| pair[0].width != pair[1].width));
            }
        }
    }
}
