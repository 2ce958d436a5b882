//! Memory for what is read again and again.

use std::{
    io,
    ops::{Deref, DerefMut},
};

use memmap2::MmapMut;

/// Bytes in large pages where the system has them: weights that are read as fast as memory gives them wait for fewer
/// page tables (in decoding, a quarter to a third of the time). They begin at a page.
#[derive(Debug)]
pub struct Pages(MmapMut);

impl Pages {
    /// So many bytes, which are 0.
    ///
    /// # Errors
    /// When the system has no such memory.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        // A mapping has one byte or more.
        let map = MmapMut::map_anon(len.max(1))?;
        #[cfg(target_os = "linux")]
        // A wish: a system without large pages gives small ones.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self(map))
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_and_can_be_written() {
        for len in [0, 1, 5_000_000] {
            let mut pages = Pages::zeroed(len).unwrap();
            assert!(pages.len() >= len && pages.iter().all(|byte| *byte == 0));
            pages.fill(7);
            assert!(pages.iter().all(|byte| *byte == 7));
        }
    }
}
