//! Groups the blocks of a layer by the work they share. Used by the composed implementation and by
//! the CPU kernel of the nested feed-forward block.
//!
//! A *group* is all blocks of one range of input rows: a narrower block's output is a partial sum
//! of a wider one's. A *ring* is a range of neurons (rows of up and gate, columns of down)
//! between two neighbouring widths: all blocks need either all of it or nothing.

use std::ops::Range;

use matformer_core::Block;

/// One block of a group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    /// Index of the block.
    pub block: usize,
    /// Width of the block.
    pub width: usize,
    /// First row of its output.
    pub output: usize,
}

/// All blocks of one range of input rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// The input rows.
    pub input: Range<usize>,
    /// Its blocks, by ascending width; at least one.
    pub members: Vec<Member>,
}

impl Group {
    /// The widest block.
    pub fn widest(&self) -> &Member {
        let Some(last) = self.members.last() else { unreachable!("a group has a block") };
        last
    }

    /// Output rows of every block that is at least `width` wide, by ascending width.
    pub fn outputs(&self, width: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
        let rows = self.input.len();
        let wide = self.members.iter().filter(move |member| member.width >= width);
        wide.map(move |member| member.output..member.output + rows)
    }

    /// Neurons between the widths of neighbouring members, in pieces of at most `longest`.
    #[cfg(feature = "flex")]
    pub fn pieces(&self, longest: usize) -> Vec<Range<usize>> {
        let mut start = 0;
        let mut pieces = Vec::new();
        for Member { width, .. } in &self.members {
            while start < *width {
                let end = (start + longest).min(*width);
                pieces.push(start..end);
                start = end;
            }
        }
        pieces
    }
}

/// The groups of a call, in the order of their first blocks. Blocks without rows are in none.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    pub list: Vec<Group>,
    /// Rows of the output.
    pub outputs: usize,
}

/// Neurons between two neighbouring widths, and the groups that reach so far.
#[derive(Debug)]
pub(super) struct Ring<'a> {
    /// Rows of up and gate, columns of down.
    pub units: Range<usize>,
    /// Index and group of those with a block at least this wide.
    pub groups: Vec<(usize, &'a Group)>,
}

impl Groups {
    pub fn of(blocks: &[Block]) -> Self {
        let (mut list, mut outputs) = (Vec::<Group>::new(), 0);
        for (block, b) in blocks.iter().enumerate().filter(|(_, b)| b.start < b.end) {
            let input = b.start..b.end;
            let member = Member { block, width: b.width, output: outputs };
            outputs += input.len();
            match list.iter_mut().find(|group| group.input == input) {
                Some(group) => group.members.push(member),
                None => list.push(Group { input, members: vec![member] }),
            }
        }
        for group in &mut list {
            group.members.sort_by_key(|member| member.width); // stable
        }
        Self { list, outputs }
    }

    /// The rings between the widths of all blocks, ascending.
    pub fn rings(&self, blocks: &[Block]) -> Vec<Ring<'_>> {
        matformer_core::rings(blocks)
            .into_iter()
            .map(|units| {
                let reaches = |(_, group): &(usize, &Group)| group.widest().width >= units.end;
                let groups = self.list.iter().enumerate().filter(reaches).collect();
                Ring { units, groups }
            })
            .filter(|ring| !ring.groups.is_empty())
            .collect()
    }
}

impl Ring<'_> {
    pub fn width(&self) -> usize {
        self.units.len()
    }

    /// The input rows of its groups, which are stacked in this order.
    pub fn inputs(&self) -> Vec<Range<usize>> {
        self.groups.iter().map(|(_, group)| group.input.clone()).collect()
    }

    /// How many input rows these are.
    pub fn n_inputs(&self) -> usize {
        self.groups.iter().map(|(_, group)| group.input.len()).sum()
    }

    /// Each group with its rows among the stacked inputs.
    pub fn stacked(&self) -> impl Iterator<Item = (usize, &Group, Range<usize>)> {
        let mut start = 0;
        self.groups.iter().map(move |(index, group)| {
            let rows = start..start + group.input.len();
            start = rows.end;
            (*index, *group, rows)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(start: usize, end: usize, width: usize) -> Block {
        Block { start, end, width }
    }

    #[test]
    fn blocks_of_one_input_are_a_group_and_rings_lie_between_all_widths() {
        let blocks =
            [block(0, 2, 6), block(2, 5, 4), block(3, 3, 9), block(0, 2, 3), block(0, 2, 6)];
        let groups = Groups::of(&blocks);
        assert_eq!(groups.outputs, 2 + 3 + 2 + 2);
        let found: Vec<_> = groups.list.iter().map(|g| (g.input.clone(), &g.members[..])).collect();
        let member = |block, width, output| Member { block, width, output };
        let first = [member(3, 3, 5), member(0, 6, 0), member(4, 6, 7)];
        assert_eq!(found, [(0..2, &first[..]), (2..5, &[member(1, 4, 2)][..])]);
        let rings = groups.rings(&blocks);
        let inputs: Vec<_> = rings.iter().map(Ring::n_inputs).collect();
        let units: Vec<_> = rings.iter().map(|ring| ring.units.clone()).collect();
        assert_eq!((&units[..], &inputs[..]), (&[0..3, 3..4, 4..6][..], &[5, 5, 2][..]));
        let stacked: Vec<_> = rings[0].stacked().map(|(index, _, rows)| (index, rows)).collect();
        assert_eq!(stacked, [(0, 0..2), (1, 2..5)]);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn pieces_cover_every_unit_once_and_end_at_every_width() {
        for widths in [&[1, 7][..], &[5, 5, 23], &[0, 64, 65]] {
            let blocks: Vec<Block> = widths.iter().map(|w| block(0, 1, *w)).collect();
            let groups = Groups::of(&blocks);
            for longest in [1, 3, 8, 100] {
                let pieces = groups.list[0].pieces(longest);
                let mut at = 0;
                for piece in &pieces {
                    assert_eq!(piece.start, at);
                    assert!(!piece.is_empty() && piece.len() <= longest);
                    at = piece.end;
                }
                let ends: Vec<usize> = pieces.iter().map(|piece| piece.end).collect();
                assert!(widths.iter().all(|w| *w == 0 || ends.contains(w)));
                assert_eq!(at, *widths.last().unwrap());
            }
        }
    }
}
