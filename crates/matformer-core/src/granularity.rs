//! Granularities: the trained FFN widths.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One trained FFN width and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Granularity {
    /// The name: a letter, then letters, digits, `-` or `_`, such as `S`, `XL`, `g3`.
    pub name: String,
    /// FFN width in neurons: the first `width` rows of the matrices.
    pub width: usize,
}

/// One or more granularities with ascending widths and unique names (arXiv 2310.07707v2 p. 4).
///
/// In files it is a plain list of [`Granularity`], which is checked when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Granularity>", into = "Vec<Granularity>")]
pub struct Granularities(Vec<Granularity>);

impl Granularities {
    /// Names the widths `S`, `M`, `L`, `XL` if there are four of them, otherwise `g1` … `gn`.
    ///
    /// # Errors
    /// [`Error::Granularities`] if there are no widths, or if they are not positive and ascending.
    pub fn new(widths: &[usize]) -> Result<Self> {
        let name = |i: usize| match (widths.len(), i) {
            (4, 0) => "S".to_owned(),
            (4, 1) => "M".to_owned(),
            (4, 2) => "L".to_owned(),
            (4, 3) => "XL".to_owned(),
            _ => format!("g{}", i + 1),
        };
        let named = |(i, &width)| Granularity { name: name(i), width };
        Self::try_from(widths.iter().enumerate().map(named).collect::<Vec<_>>())
    }

    /// The four granularities of the paper: d_ff/8, /4, /2, /1 (arXiv 2310.07707v2 p. 5).
    ///
    /// # Errors
    /// [`Error::Granularities`] if `d_ff` is 0 or not a multiple of 8.
    pub fn default_for(d_ff: usize) -> Result<Self> {
        if !d_ff.is_multiple_of(8) {
            return Err(Error::Granularities {
                found: format!("d_ff {d_ff}"),
                expected: "a d_ff that 8 divides, for the widths d_ff/8, /4, /2, /1".into(),
            });
        }
        Self::new(&[d_ff / 8, d_ff / 4, d_ff / 2, d_ff])
    }

    /// Iterates from the narrowest to the widest.
    pub fn iter(&self) -> std::slice::Iter<'_, Granularity> {
        self.0.iter()
    }

    /// The number of granularities, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The granularity with this name.
    pub fn get(&self, name: &str) -> Option<&Granularity> {
        self.iter().find(|g| g.name == name)
    }

    /// The name of the granularity with exactly this width.
    pub fn name_of(&self, width: usize) -> Option<&str> {
        self.iter().find(|g| g.width == width).map(|g| g.name.as_str())
    }

    /// The widths in ascending order.
    pub fn widths(&self) -> Vec<usize> {
        self.iter().map(|g| g.width).collect()
    }

    /// The names, from the narrowest to the widest.
    pub fn names(&self) -> Vec<&str> {
        self.iter().map(|g| g.name.as_str()).collect()
    }

    /// The narrowest granularity.
    pub fn smallest(&self) -> &Granularity {
        &self.0[0] // never empty: the constructors check that
    }

    /// The widest granularity.
    pub fn largest(&self) -> &Granularity {
        &self.0[self.0.len() - 1] // never empty: the constructors check that
    }
}

impl TryFrom<Vec<Granularity>> for Granularities {
    type Error = Error;

    /// Checks widths and names. Use it directly for names other than those of [`Granularities::new`].
    fn try_from(list: Vec<Granularity>) -> Result<Self> {
        let refuse = |expected: &str| {
            let found = list.iter().map(|g| format!("{}={}", g.name, g.width));
            Err(Error::Granularities {
                found: found.collect::<Vec<_>>().join(","),
                expected: expected.to_owned(),
            })
        };
        if list.first().is_none_or(|g| g.width == 0) {
            return refuse("at least one width, all above 0");
        }
        if list.windows(2).any(|pair| pair[0].width >= pair[1].width) {
            return refuse("strictly ascending widths");
        }
        if !list.iter().all(|g| is_name(&g.name)) {
            return refuse("names of a letter, then letters, digits, `-` or `_`");
        }
        let repeated = |(i, g): (usize, &Granularity)| list[..i].iter().any(|h| h.name == g.name);
        if list.iter().enumerate().any(repeated) {
            return refuse("a different name for each");
        }
        Ok(Self(list))
    }
}

impl From<Granularities> for Vec<Granularity> {
    fn from(granularities: Granularities) -> Self {
        granularities.0
    }
}

impl<'a> IntoIterator for &'a Granularities {
    type Item = &'a Granularity;
    type IntoIter = std::slice::Iter<'a, Granularity>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Names start with a letter, because the first character of a submodel's text form decides its
/// meaning.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_are_named_s_to_xl_and_others_are_numbered() {
        let four = Granularities::default_for(512).unwrap();
        assert_eq!(four.names(), ["S", "M", "L", "XL"]);
        assert_eq!(four.widths(), [64, 128, 256, 512]);
        assert_eq!(four.name_of(128), Some("M"));
        assert_eq!(four.name_of(96), None);
        assert_eq!(four.get("L").unwrap().width, 256);
        let three = Granularities::new(&[1, 2, 9]).unwrap();
        assert_eq!(three.names(), ["g1", "g2", "g3"]);
        assert_eq!((three.smallest().width, three.largest().width), (1, 9));
    }

    #[test]
    fn widths_that_are_not_positive_and_ascending_are_refused() {
        for widths in [&[][..], &[0, 1], &[2, 2], &[4, 2]] {
            assert!(Granularities::new(widths).is_err(), "{widths:?}");
        }
        assert!(Granularities::default_for(12).is_err());
        assert!(Granularities::default_for(0).is_err());
    }

    #[test]
    fn files_hold_a_plain_list_that_is_checked() {
        let json = r#"[{"name":"small","width":8},{"name":"big","width":32}]"#;
        let read: Granularities = serde_json::from_str(json).unwrap();
        assert_eq!(read.names(), ["small", "big"]);
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
        for bad in [
            r#"[]"#,
            r#"[{"name":"a","width":8},{"name":"a","width":32}]"#,
            r#"[{"name":"60%","width":8}]"#,
            r#"[{"name":"","width":8}]"#,
            r#"[{"name":"a","width":9},{"name":"b","width":8}]"#,
            r#"[{"name":"a","width":9,"depth":1}]"#,
        ] {
            assert!(serde_json::from_str::<Granularities>(bad).is_err(), "{bad}");
        }
    }
}
