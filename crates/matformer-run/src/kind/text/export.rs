//! Slices of language models in the formats of other programs.

use super::*;

impl Export for Lm {
    const TASK: &'static str = "text-generation";

    const AUTO_CLASS: &'static str = "AutoModelForCausalLM";

    const PROCESSOR: Processor =
        Processor { class: "AutoTokenizer", variable: "tokenizer", file: TOKENIZER_FILE };

    fn check_format(format: Format, dir: &Path) -> Result<(), Hinted> {
        match format {
            Format::Hf | Format::Gguf => Ok(()),
            Format::Timm => Err(Hinted {
                message: format!("{}: a language model; timm has vision models", dir.display()),
                hint: "leave --format out: the slice is a folder of Hugging Face's".to_owned(),
            }),
        }
    }

    fn write_timm(folder: &ModelFolder<Self>, _: Slice<'_, MatLm>, _: &Path) -> Result<()> {
        Self::check_format(Format::Timm, &folder.dir).bad_input()
    }

    #[cfg(feature = "gguf")]
    fn write_gguf(
        folder: &ModelFolder<Self>,
        slim: Slice<'_, MatLm>,
        gguf: &GgufOut<'_>,
    ) -> Result<()> {
        use matformer_core::Dtype;
        use matformer_formats::{gguf::GgufDtype, gguf::GgufFacts, gguf::GgufModel, gguf::write};

        use crate::slice::SliceDtype;

        let dtype = match (gguf.dtype, slim.dtype()) {
            (Some(SliceDtype::Q8_0), _) => GgufDtype::Q8_0,
            (Some(SliceDtype::F32), _) | (None, Dtype::F32) => GgufDtype::F32,
            (Some(SliceDtype::F16), _) | (None, Dtype::F16) => GgufDtype::F16,
            (Some(SliceDtype::Bf16), _) | (None, Dtype::Bf16) => GgufDtype::Bf16,
        };
        let name = folder.dir.canonicalize().unwrap_or_else(|_| folder.dir.clone());
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{name} {}", gguf.facts.submodel);
        let tokenizer = folder.tokenizer()?;
        let model = GgufModel {
            model: &slim.model,
            name: &name,
            tokenizer_dir: &folder.dir,
            tokenizer_config: Some(tokenizer.config()),
            facts: Some(GgufFacts {
                slice: gguf.facts,
                parent: &folder.manifest.weights_sha256,
                license: gguf.license.as_deref(),
            }),
        };
        let written = write(gguf.path, &model, dtype, slim.tensors);
        let written = written.map_err(|error| match error {
            // What llama.cpp cannot run.
            matformer_nn::Error::Config { .. } => crate::Error::from(Hinted {
                message: format!(
                    "--format gguf: {} is a `{}` model: {error}",
                    folder.dir.display(),
                    folder.model.config().family()
                ),
                hint: "use --format hf; --pad makes all widths equal".to_owned(),
            }),
            error => error.into(),
        });
        let written = written.bad_input()?;
        written.notes.iter().for_each(|note| say!("note: {note}"));
        Ok(())
    }

    #[cfg(not(feature = "gguf"))]
    fn write_gguf(_: &ModelFolder<Self>, _: Slice<'_, MatLm>, gguf: &GgufOut<'_>) -> Result<()> {
        Err(Hinted {
            message: format!("{}: this program was built without GGUF", gguf.path.display()),
            hint: "build it with the feature `gguf`, or leave --format out".to_owned(),
        })
        .bad_input()
    }
}
