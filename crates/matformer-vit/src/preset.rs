//! Named shapes: the paper's and ViT's own, and small ones.

use crate::MatVitConfig;

/// Names of the presets, smallest first: `small28` and `small64` for images of 28×28 in grey and of
/// 64×64 in color, and the shapes of ViT and DeiT at 224×224 with patches of 16 (arXiv 2010.11929
/// Table 1, 2012.12877 Table 1), of which the paper trains B/16 and L/16.
pub const PRESETS: [&str; 6] = ["small28", "small64", "ti16", "s16", "b16", "l16"];

/// The shape of a preset, if there is one of that name.
pub fn preset(name: &str) -> Option<MatVitConfig> {
    let small = MatVitConfig::default();
    let at_224 = |d_model: usize, n_layers, n_heads| MatVitConfig {
        image_size: 224,
        channels: 3,
        patch_size: 16,
        classes: 1000,
        d_model,
        n_layers,
        n_heads,
        d_ff: 4 * d_model,
        width_multiple: 32,
        ..MatVitConfig::default()
    };
    Some(match name {
        "small28" => small,
        "small64" => MatVitConfig {
            image_size: 64,
            channels: 3,
            patch_size: 8,
            d_model: 192,
            d_ff: 768,
            ..small
        },
        "ti16" => at_224(192, 12, 3),
        "s16" => at_224(384, 12, 6),
        "b16" => at_224(768, 12, 12),
        "l16" => at_224(1024, 24, 16),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use matformer_core::Resource;
    use matformer_nn::ModelConfig;

    use super::*;
    use crate::costs;

    #[test]
    fn sizes_are_those_that_the_papers_print() {
        // Millions: DeiT Table 1, and ViT Table 1 (B 86, L 307).
        for (name, millions) in [("ti16", 5.7), ("s16", 22.0), ("b16", 86.6), ("l16", 304.3)] {
            let config = preset(name).unwrap();
            let largest = config.space().unwrap().largest();
            let found = costs(&config).get(Resource::Params).unwrap().cost(&largest).unwrap() / 1e6;
            assert!((found - millions).abs() < 0.05 * millions.max(1.0), "{name}: {found}");
        }
    }

    #[test]
    fn every_preset_makes_a_model() {
        for name in PRESETS {
            let config = preset(name).unwrap();
            config.validate().unwrap();
            assert_eq!(config.space().unwrap().granularities.len(), 4, "{name}");
        }
        assert!(preset("h14").is_none());
    }
}
