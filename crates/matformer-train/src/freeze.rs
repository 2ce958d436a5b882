//! Parts of a model that training leaves as they are.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::Tensor,
};
use matformer_nn::params;

use crate::{Error, Result, TrainConfig};

impl TrainConfig {
    /// Checks `freeze` against the parameters of `model`, which need not be filled.
    ///
    /// # Errors
    /// [`Error::Config`] when a name is that of no part, or nothing is left to train.
    pub fn validate_freeze<M: Module>(&self, model: &M) -> Result<()> {
        let paths: Vec<String> = params::shapes(model).into_iter().map(|(path, _)| path).collect();
        let wrong = |found: String, expected: String| {
            Err(Error::Config { field: "freeze", found, expected })
        };
        if let Some(name) = self.freeze.iter().find(|name| !paths.iter().any(|p| is_in(p, name))) {
            let mut parts: Vec<&str> =
                paths.iter().filter_map(|path| path.split('.').next()).collect();
            parts.dedup();
            let expected =
                format!("one of {}, or a path below one, such as `layers.0.ffn`", parts.join(", "));
            return wrong(format!("`{name}`"), expected);
        }
        if paths.iter().all(|path| self.freezes(path)) {
            return wrong(format!("{:?}", self.freeze), "something to train".to_owned());
        }
        Ok(())
    }

    /// Whether the parameter at `path` stays as it is.
    fn freezes(&self, path: &str) -> bool {
        self.freeze.iter().any(|name| is_in(path, name))
    }

    /// The model without gradients of what stays as it is.
    pub(crate) fn freeze<M: Module>(&self, model: M) -> M {
        if self.freeze.is_empty() {
            return model;
        }
        model.map(&mut Freeze { path: Vec::new(), config: self })
    }
}

/// Whether a parameter is the part of this name, or inside of it.
fn is_in(path: &str, part: &str) -> bool {
    path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

struct Freeze<'a> {
    path: Vec<String>,
    config: &'a TrainConfig,
}

impl ModuleMapper for Freeze<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.config.freezes(&self.path.join(".")) {
            true => param.set_require_grad(false),
            false => param,
        }
    }
}
