//! Slices of vision models in the formats of other programs.

use super::*;

impl Export for Vit {
    const TASK: &'static str = "image-classification";

    const AUTO_CLASS: &'static str = "AutoModelForImageClassification";

    const PROCESSOR: Processor =
        Processor { class: "AutoImageProcessor", variable: "processor", file: PREPROCESSOR_FILE };

    fn check_format(format: Format, dir: &Path) -> Result<(), Hinted> {
        match format {
            Format::Hf | Format::Timm => Ok(()),
            Format::Gguf => Err(Hinted {
                message: format!("{}: a vision model; GGUF has language models", dir.display()),
                hint: "--format hf writes a folder of Hugging Face's, --format timm one of timm's"
                    .to_owned(),
            }),
        }
    }

    fn write_timm(folder: &ModelFolder<Self>, slim: Slice<'_, MatVit>, dir: &Path) -> Result<()> {
        let c = slim.model.config();
        let preprocessor = match folder.preprocessor()? {
            Some(preprocessor) => preprocessor,
            None => {
                let (mean, std) = normalization(None).normalization(c.channels);
                Preprocessor::new(Normalization { mean, std }, None)
            }
        };
        if c.norm_eps != NORM_EPS {
            let ours = c.norm_eps;
            say!("note: timm adds {NORM_EPS:e} to the variance in norms, this model {ours:e}");
        }
        save_timm_as(&slim.model, slim.tensors, &preprocessor, dir).bad_input()
    }

    fn write_gguf(folder: &ModelFolder<Self>, _: Slice<'_, MatVit>, _: &GgufOut<'_>) -> Result<()> {
        Self::check_format(Format::Gguf, &folder.dir).bad_input()
    }
}
