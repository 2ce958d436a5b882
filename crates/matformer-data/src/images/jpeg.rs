//! How far a JPEG goes, by its markers.

use image::DynamicImage;

/// What a reader expects last.
const END: [u8; 2] = [0xff, 0xd9];
/// What is tried in place of bytes that may be missing: enough for a block of pixels, and of two
/// kinds, so that blocks made of them differ.
const FILLERS: [[u8; 128]; 2] = [[0x00; 128], [0xa5; 128]];

/// Whether a JPEG has its end marker, behind its segments and scans.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    walk(bytes, |_, _| {})
}

/// Decodes a JPEG without an end marker, if all its pixels are there; many programs and interrupted
/// copies leave only the marker out.
///
/// Decoders make up what is missing. So two different fillers are put behind the file: if the pixels
/// are the same, the file had them all.
///
/// # Errors
/// What `decode` returns, or that there are pixels missing.
pub(super) fn without_end(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<DynamicImage, String>,
) -> Result<DynamicImage, String> {
    let kept = bytes.iter().rposition(|&byte| byte != 0xff).map_or(0, |last| last + 1);
    let filled = |filler: &[u8]| decode(&[&bytes[..kept], filler, &END].concat());
    let [first, second] = FILLERS;
    if !has_all_scans(bytes) {
        return Err(CUT.into());
    }
    let image = filled(&first)?;
    match filled(&second) {
        Ok(other) if other.as_bytes() == image.as_bytes() => Ok(image),
        _ => Err(CUT.into()),
    }
}

const CUT: &str = "it ends before its last pixel";

/// Whether every coefficient of every component is in a scan, to its last bit. A progressive JPEG has
/// them in many scans; one that lacks the last of them is a blurred image.
fn has_all_scans(bytes: &[u8]) -> bool {
    let mut missing: Option<Vec<(u8, [bool; 64])>> = None;
    walk(bytes, |marker, segment| match (marker, segment) {
        // A frame: precision, height, width, number of components, three bytes for each.
        (0xc0..=0xc2, [_, _, _, _, _, _, components @ ..]) => {
            missing = Some(components.chunks_exact(3).map(|c| (c[0], [true; 64])).collect());
        }
        // A scan: number of components, two bytes for each, first and last coefficient, bits.
        (0xda, [n, rest @ ..]) => {
            let Some((components, [first, last, bits, ..])) =
                rest.split_at_checked(2 * usize::from(*n))
            else {
                return;
            };
            let (first, last) = (usize::from(*first), usize::from(*last).min(63));
            let of_scan = components.chunks_exact(2).map(|c| c[0]);
            for id in of_scan.filter(|_| bits & 0x0f == 0 && first <= last) {
                let all = missing.iter_mut().flatten();
                all.filter(|(of, _)| *of == id).for_each(|(_, c)| c[first..=last].fill(false));
            }
        }
        _ => {}
    });
    missing.is_some_and(|all| all.iter().all(|(_, coefficients)| !coefficients.contains(&true)))
}

/// Calls `take` with the marker and the contents of each segment. Returns whether there is an end.
fn walk(bytes: &[u8], mut take: impl FnMut(u8, &[u8])) -> bool {
    let mut at = 2;
    while let Some(&[first, second]) = bytes.get(at..at + 2) {
        at = match (first, second) {
            (0xff, 0xd9) => return true,
            (0xff, 0xff) => at + 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at + 2,
            (0xff, marker) => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                let next = at + 2 + usize::from(u16::from_be_bytes([high, low]));
                take(marker, bytes.get(at + 4..next).unwrap_or_default());
                next
            }
            // What a scan is coded in.
            _ => next_marker(bytes, at),
        };
    }
    false
}

/// Where the next 0xff is.
fn next_marker(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(|&byte| byte == 0xff).map_or(bytes.len(), |next| at + next)
}
