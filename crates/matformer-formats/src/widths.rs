//! The widths of an imported model that get names.

use matformer_nn::{Result, config::unfit};

/// The widths that were asked for, else the default ones, and a number that all of them are multiples of.
pub(crate) fn named_widths(
    asked: Option<&[usize]>,
    d_ff: usize,
    default: Vec<usize>,
) -> Result<(Vec<usize>, usize)> {
    let widths = match asked {
        Some(widths) if widths.last() != Some(&d_ff) => {
            let expected = format!("ascending widths, of which the last is `d_ff`, {d_ff}");
            return unfit("granularities", format!("{widths:?}"), expected);
        }
        Some(widths) => widths.to_vec(),
        None => default,
    };
    let fits = |n: &usize| widths.iter().all(|width| width.is_multiple_of(*n));
    let multiple = [32, 16, 8, 4, 2].into_iter().find(fits).unwrap_or(1);
    Ok((widths, multiple))
}

/// The granularities of an imported model unless others are asked for, and what they are multiples
/// of: a quarter, half, three quarters and all of `d_ff`, rounded to multiples of 256, which other
/// programs quantise best, where that leaves four widths, else of 32, else of what divides `d_ff`.
pub fn default_widths(d_ff: usize) -> (Vec<usize>, usize) {
    let rounded = |multiple: usize| -> Option<Vec<usize>> {
        // To the nearest, halves upwards.
        let part = |quarters: usize| (quarters * d_ff + 2 * multiple) / (4 * multiple) * multiple;
        let widths = [part(1), part(2), part(3), d_ff];
        let four = widths[0] > 0 && widths.windows(2).all(|pair| pair[0] < pair[1]);
        (d_ff.is_multiple_of(multiple) && four).then(|| widths.to_vec())
    };
    [256, 32, 16, 8, 4, 2, 1]
        .into_iter()
        .find_map(|multiple| Some((rounded(multiple)?, multiple)))
        .unwrap_or((vec![d_ff], d_ff))
}

#[cfg(test)]
mod tests {
    use super::default_widths;

    #[test]
    fn default_widths_are_quarters_rounded_to_what_quantises_well() {
        for (d_ff, widths, multiple) in [
            (11_008, [2816, 5632, 8192, 11_008], 256),
            (14_336, [3584, 7168, 10_752, 14_336], 256),
            (1536, [512, 768, 1280, 1536], 256),
            (1024, [256, 512, 768, 1024], 256),
            (2048, [512, 1024, 1536, 2048], 256),
            (768, [192, 384, 576, 768], 32),
            (352, [96, 192, 256, 352], 32),
            (96, [32, 48, 80, 96], 16),
            (7, [2, 4, 5, 7], 1),
        ] {
            assert_eq!(default_widths(d_ff), (widths.to_vec(), multiple), "{d_ff}");
        }
        assert_eq!(default_widths(2).0, [2]);
    }
}
