//! Images that are decoded in parallel and handed over in order.

use rayon::prelude::*;

use super::decode::{Decoded, Decoder};
use crate::Result;

/// Images that are held at once, in bytes and in number.
const MOST_BYTES: usize = 32 << 20;
const MOST_IMAGES: usize = 1024;

/// Takes decoded images, in order: the place among all, the bytes that the image has in its file, and
/// its pixels or why there are none.
pub(super) type Sink<'a> = dyn FnMut(usize, u64, Result<Decoded, String>) -> Result<()> + 'a;

/// Decodes images with `F`, as many at once as may be held, and hands them over in order.
pub(super) struct InOrder<'a, 's, T, F> {
    decode: F,
    sink: &'a mut Sink<'s>,
    /// Images that are decoded at once.
    most: usize,
    /// The bytes of each in its file, and what it is decoded from.
    waiting: Vec<(u64, T)>,
    /// The bytes that those hold.
    held: usize,
    /// Images that were handed over.
    done: usize,
}

impl<'a, 's, T: Send, F: Fn(T) -> Result<Decoded, String> + Sync> InOrder<'a, 's, T, F> {
    /// `decode` makes of an image what `decoder` makes of it.
    pub(super) fn new(decoder: &Decoder, sink: &'a mut Sink<'s>, decode: F) -> Self {
        let most = at_once(decoder.shape().bytes());
        Self { decode, sink, most, waiting: Vec::new(), held: 0, done: 0 }
    }

    /// Takes one more, of so many bytes in its file, that holds so many in memory.
    ///
    /// # Errors
    /// What the sink returns.
    pub(super) fn push(&mut self, image: T, bytes: u64, held: usize) -> Result<()> {
        self.waiting.push((bytes, image));
        self.held += held;
        match self.waiting.len() >= self.most || self.held >= MOST_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Hands over those that wait.
    ///
    /// # Errors
    /// What the sink returns.
    pub(super) fn flush(&mut self) -> Result<()> {
        let decode = |(bytes, image)| (bytes, (self.decode)(image));
        let decoded: Vec<_> = self.waiting.par_drain(..).map(decode).collect();
        self.held = 0;
        for (bytes, image) in decoded {
            (self.sink)(self.done, bytes, image)?;
            self.done += 1;
        }
        Ok(())
    }
}

/// Number of images of this size (in bytes) that are decoded in parallel.
fn at_once(bytes: usize) -> usize {
    (MOST_BYTES / bytes.max(1)).clamp(1, MOST_IMAGES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_at_once_is_bounded() {
        for bytes in [0, 1, 28 * 28, 3 * 256 * 256, 3 * 4096 * 4096, usize::MAX] {
            let images = at_once(bytes);
            let bounded = images == 1 || images * bytes <= MOST_BYTES;
            assert!((1..=MOST_IMAGES).contains(&images) && bounded, "{images} of {bytes}");
        }
    }
}
