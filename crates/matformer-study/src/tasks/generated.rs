//! Texts that are generated greedily.

use std::ops::ControlFlow;

use matformer_core::Submodel;
use matformer_data::Tokenizer;
use matformer_engine::{EngineModel, Error as EngineError, Format, Heard, Request};
use matformer_run::{Error, ModelFolder, OrBadInput, Result, generate::engine, kind::ends};
use matformer_runfile::Lm;
use matformer_tasks::Generation;

/// Prompts that are worked on at the same time.
const SLOTS: usize = 8;

/// Generates texts with the submodels of a folder.
pub(super) struct Generator<'a> {
    folder: &'a ModelFolder<Lm>,
    tokenizer: &'a Tokenizer,
    generation: &'a Generation,
    model: EngineModel,
}

/// What is to be continued.
#[derive(Clone)]
pub(super) struct Start<'a> {
    /// What errors call it.
    pub name: &'a str,
    pub tokens: &'a [u32],
}

impl<'a> Generator<'a> {
    pub fn new(
        folder: &'a ModelFolder<Lm>,
        tokenizer: &'a Tokenizer,
        generation: &'a Generation,
    ) -> Result<Self> {
        let model = EngineModel::of(&folder.model, Format::F32)?;
        Ok(Self { folder, tokenizer, generation, model })
    }

    /// The text after each start; `done()` is called for each.
    pub fn texts(
        &self,
        submodel: &Submodel,
        starts: &[Start<'_>],
        done: &mut dyn FnMut(),
    ) -> Result<Vec<String>> {
        let stop = ends(&self.folder.model, self.tokenizer);
        let max_tokens = self.generation.max_tokens;
        let request = |start: &Start<'_>| Request {
            stop: stop.clone(),
            ..Request::new(start.tokens.to_vec(), submodel.clone(), max_tokens)
        };
        let requests: Vec<Request> = starts.iter().map(request).collect();
        let mut engine = engine(&self.model, &requests, SLOTS)?;
        let mut tokens: Vec<Vec<u32>> = vec![Vec::new(); starts.len()];
        let mut failed = Ok(());
        let answered = matformer_engine::generate(&mut engine, &requests, |at, heard| {
            let Heard::Token(token) = heard else {
                done();
                return ControlFlow::Continue(());
            };
            tokens[at].push(token);
            match self.text(&tokens[at]) {
                Ok(text) if self.generation.cut(&text).len() == text.len() => {
                    ControlFlow::Continue(())
                }
                Ok(_) => ControlFlow::Break(()),
                Err(error) => {
                    failed = Err(error);
                    ControlFlow::Break(())
                }
            }
        });
        failed?;
        answered.map_err(|error| match error {
            EngineError::NotFinite { request } => {
                Error::failed(format!("{}: the logits are NaN", starts[request].name))
            }
            error => error.into(),
        })?;
        let cut = |tokens: &Vec<u32>| Ok(self.generation.cut(&self.text(tokens)?).to_owned());
        tokens.iter().map(cut).collect()
    }

    /// Text without control tokens, and as if nothing came before it.
    fn text(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.continuation(&[], tokens).bad_input()
    }
}
