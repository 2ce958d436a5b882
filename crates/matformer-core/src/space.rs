//! The space of submodels that a model can run.

use crate::{Error, Granularities, Result, Submodel};

/// The default multiple of widths: the block size of GGUF's quantized formats.
pub const DEFAULT_MULTIPLE: usize = 32;

/// The submodels that a model can run, given by its number of layers, its full FFN width, the
/// multiple that widths must have, and its trained granularities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Number of layers.
    pub n_layers: usize,
    /// Number of rows of the FFN matrices, which is the largest width of a layer.
    pub d_ff: usize,
    /// A width must be a multiple of this or the width of a granularity.
    pub multiple: usize,
    /// The trained widths.
    pub granularities: Granularities,
    /// The largest width of each layer where layers differ: those of a slice of unequal widths. A
    /// wider granularity means the whole of such a layer.
    pub layer_d_ff: Option<Vec<usize>>,
}

impl Space {
    /// Creates a space.
    ///
    /// # Errors
    /// [`Error::Space`] if `n_layers` or `multiple` is 0 or a granularity is wider than `d_ff`.
    pub fn new(
        n_layers: usize,
        d_ff: usize,
        multiple: usize,
        granularities: Granularities,
    ) -> Result<Self> {
        let refuse = |what, found, expected: String| Err(Error::Space { what, found, expected });
        if n_layers == 0 {
            return refuse("n_layers", 0, "at least 1".into());
        }
        if multiple == 0 {
            return refuse("multiple", 0, "at least 1".into());
        }
        let widest = granularities.largest();
        if widest.width > d_ff {
            return refuse("widest granularity", widest.width, format!("at most d_ff {d_ff}"));
        }
        Ok(Self { n_layers, d_ff, multiple, granularities, layer_d_ff: None })
    }

    /// The same space for layers of these largest widths, one per layer.
    pub fn with_layers(self, layer_d_ff: Option<Vec<usize>>) -> Self {
        Self { layer_d_ff, ..self }
    }

    /// The largest width of a layer.
    pub fn d_ff_of(&self, layer: usize) -> usize {
        let widths = self.layer_d_ff.as_ref();
        widths.and_then(|widths| widths.get(layer).copied()).unwrap_or(self.d_ff)
    }

    /// The submodel with each layer cut to its largest width.
    pub fn cut(&self, submodel: Submodel) -> Submodel {
        match self.layer_d_ff {
            None => submodel,
            Some(_) => {
                let layers = submodel.widths().iter().enumerate();
                Submodel::new(layers.map(|(i, width)| self.d_ff_of(i).min(*width)).collect())
            }
        }
    }

    /// This width in all layers, or the whole of those that are narrower.
    fn of_width(&self, width: usize) -> Submodel {
        self.cut(Submodel::uniform(width, self.n_layers))
    }

    /// The widest granularity in all layers: `XL`.
    pub fn largest(&self) -> Submodel {
        self.of_width(self.granularities.largest().width)
    }

    /// The narrowest granularity in all layers: `S`.
    pub fn smallest(&self) -> Submodel {
        self.of_width(self.granularities.smallest().width)
    }

    /// The granularity with this name in all layers.
    ///
    /// # Errors
    /// [`Error::UnknownName`], which lists the known names.
    pub fn uniform(&self, name: &str) -> Result<Submodel> {
        match self.granularities.get(name) {
            Some(granularity) => Ok(self.of_width(granularity.width)),
            None => Err(Error::UnknownName {
                name: name.to_owned(),
                known: self.granularities.names().into_iter().map(String::from).collect(),
            }),
        }
    }

    /// One submodel per granularity, from the narrowest to the widest.
    pub fn uniforms(&self) -> Vec<Submodel> {
        self.granularities.widths().into_iter().map(|width| self.of_width(width)).collect()
    }

    /// Checks that a model of this space can run the submodel.
    ///
    /// # Errors
    /// [`Error::LayerCount`] or [`Error::Width`].
    pub fn check(&self, submodel: &Submodel) -> Result<()> {
        if submodel.n_layers() != self.n_layers {
            return Err(Error::LayerCount {
                submodel: submodel.to_string(),
                found: submodel.n_layers(),
                expected: self.n_layers,
            });
        }
        let mut layers = submodel.widths().iter().copied().enumerate();
        match layers.find(|&(layer, width)| !self.runs_width(layer, width)) {
            None => Ok(()),
            Some((layer, width)) => Err(Error::Width {
                submodel: submodel.to_string(),
                width,
                multiple: self.multiple,
                d_ff: self.d_ff_of(layer),
            }),
        }
    }

    /// The label of a submodel: the name of a granularity (`S`) if it is that in all layers, otherwise
    /// the runs (`64x1+128x4`).
    pub fn label(&self, submodel: &Submodel) -> String {
        let widest = submodel.max_width();
        let named = self.granularities.iter().find(|g| g.width == widest);
        match named.filter(|g| self.of_width(g.width) == *submodel) {
            Some(granularity) => granularity.name.clone(),
            None => submodel.to_string(),
        }
    }

    fn runs_width(&self, layer: usize, width: usize) -> bool {
        let known =
            width.is_multiple_of(self.multiple) || self.granularities.name_of(width).is_some();
        let whole = self.d_ff_of(layer);
        width > 0 && width <= whole && (known || self.layer_d_ff.is_some() && width == whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> Space {
        Space::new(5, 512, 32, Granularities::default_for(512).unwrap()).unwrap()
    }

    #[test]
    fn names_and_labels_agree() {
        let space = demo();
        for name in space.granularities.names() {
            assert_eq!(space.label(&space.uniform(name).unwrap()), name);
        }
        assert_eq!(space.label(&Submodel::uniform(96, 5)), "96x5");
        assert_eq!(space.label(&Submodel::uniform(64, 4)), "64x4");
        assert_eq!(space.label(&Submodel::new(vec![64, 128, 128, 128, 128])), "64x1+128x4");
        assert_eq!(space.largest(), space.uniform("XL").unwrap());
        assert_eq!(space.smallest(), space.uniform("S").unwrap());
        let error = space.uniform("xs").unwrap_err().to_string();
        assert_eq!(error, "unknown submodel: `xs`, expected one of `S`, `M`, `L`, `XL`");
    }

    #[test]
    fn check_names_the_layers_or_the_width_that_do_not_fit() {
        let space = demo();
        assert!(space.check(&Submodel::uniform(96, 5)).is_ok());
        let error = |submodel| space.check(&submodel).unwrap_err().to_string();
        assert_eq!(error(Submodel::uniform(64, 4)), "layers of submodel `64x4`: 4, expected 5");
        for width in [0, 33, 544] {
            let message = error(Submodel::new(vec![64, 64, width, 64, 64]));
            assert!(message.contains(&format!("`{width}`")), "{message}");
        }
    }

    #[test]
    fn granularities_need_not_be_multiples() {
        let space = Space::new(2, 20, 32, Granularities::new(&[3, 7]).unwrap()).unwrap();
        assert!(space.check(&Submodel::new(vec![3, 7])).is_ok());
        assert!(space.check(&Submodel::uniform(20, 2)).is_err());
    }

    #[test]
    fn impossible_spaces_are_refused() {
        let granularities = || Granularities::new(&[4, 8]).unwrap();
        assert!(Space::new(0, 8, 1, granularities()).is_err());
        assert!(Space::new(1, 8, 0, granularities()).is_err());
        assert!(Space::new(1, 7, 1, granularities()).is_err());
    }

    #[test]
    fn a_granularity_is_the_whole_of_a_narrower_layer() {
        let space = demo().with_layers(Some(vec![64, 512, 96, 128, 512]));
        assert_eq!(space.largest().to_string(), "64x1+512x1+96x1+128x1+512x1");
        assert_eq!(space.uniform("M").unwrap().to_string(), "64x1+128x1+96x1+128x2");
        assert_eq!(space.smallest(), Submodel::uniform(64, 5));
        for (name, submodel) in space.granularities.names().into_iter().zip(space.uniforms()) {
            space.check(&submodel).unwrap();
            assert_eq!(space.label(&submodel), name);
        }
        assert_eq!(space.label(&Submodel::uniform(32, 5)), "32x5");
        let error = space.check(&Submodel::uniform(128, 5)).unwrap_err().to_string();
        assert!(error.contains("`128`") && error.contains("64"), "{error}");
        for submodel in crate::curve(&space) {
            space.check(&submodel).unwrap();
        }
    }
}
