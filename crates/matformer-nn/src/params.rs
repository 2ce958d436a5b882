//! Parameters by path: one way to fill them, one way to read them.
//!
//! A path is the field names in the module tree joined with dots: `layers.0.ffn.up`. Weights files,
//! initialisation and optimizer state use it as their key, so nothing depends on Burn's parameter
//! ids, which are random per process.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::{Error, Result};

/// A float parameter of this shape that waits to be filled, and takes no memory until then. Zero
/// if it never is.
pub fn unset<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let zeros = move |device: &Device, require_grad| {
        Tensor::zeros(shape, device).set_require_grad(require_grad)
    };
    Param::uninitialized(ParamId::new(), zeros, device.clone(), true, shape.into())
}

/// The device of a module's parameters.
pub fn device<M: Module>(module: &M) -> Device {
    module.devices().into_iter().next().unwrap_or_default()
}

/// Replaces every float parameter by what `value(path, shape)` returns (f32, of that shape), on
/// the parameter's device and with its gradient setting.
///
/// # Errors
/// The first error that `value` returns.
pub fn fill<M: Module, E>(
    module: M,
    value: impl FnMut(&str, &[usize]) -> std::result::Result<TensorData, E>,
) -> std::result::Result<M, E> {
    struct Fill<F, E> {
        path: Vec<String>,
        value: F,
        error: Option<E>,
    }
    impl<F, E> ModuleMapper for Fill<F, E>
    where
        F: FnMut(&str, &[usize]) -> std::result::Result<TensorData, E>,
    {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.error.is_some() {
                return param;
            }
            match (self.value)(&self.path.join("."), &param.lazy_shape().to_vec()) {
                Ok(data) => {
                    // The old value is not materialized: it may still be uninitialized.
                    let (id, tensor) = (param.id, Tensor::from_data(data, &param.lazy_device()));
                    param.transform_for_load(tensor, id)
                }
                Err(e) => {
                    self.error = Some(e);
                    param
                }
            }
        }
    }
    let mut fill = Fill { path: Vec::new(), value, error: None };
    let module = module.map(&mut fill);
    match fill.error {
        Some(e) => Err(e),
        None => Ok(module),
    }
}

/// A float parameter whose values are read from their device when they are asked for.
pub struct Parameter {
    /// Its path.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    read: Box<dyn Fn() -> Result<TensorData>>,
}

impl Parameter {
    /// Its values.
    ///
    /// # Errors
    /// [`Error::Read`] when the device does not give them back.
    pub fn read(&self) -> Result<TensorData> {
        (self.read)()
    }
}

/// All float parameters, in the module's order. No values are copied before they are read.
pub fn all<M: Module>(module: &M) -> Vec<Parameter> {
    #[derive(Default)]
    struct All {
        path: Vec<String>,
        found: Vec<Parameter>,
    }
    impl ModuleVisitor for All {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let (path, tensor) = (self.path.join("."), param.val());
            let shape = tensor.dims().to_vec();
            let name = path.clone();
            let read = Box::new(move || read_tensor(&name, &tensor));
            self.found.push(Parameter { path, shape, read });
        }
    }
    let mut all = All::default();
    module.visit(&mut all);
    all.found
}

/// Calls `see(path, values)` for every float parameter, in the module's order.
///
/// # Errors
/// [`Error::Read`] if a tensor cannot be read from the device, or any error returned by `see`.
pub fn read<M: Module>(
    module: &M,
    mut see: impl FnMut(&str, TensorData) -> Result<()>,
) -> Result<()> {
    all(module).into_iter().try_for_each(|parameter| see(&parameter.path, parameter.read()?))
}

/// Calls `see(path, gradient)` for every float parameter that `grads` has one for.
///
/// # Errors
/// [`Error::Read`] when a device does not give a tensor back, or what `see` returns.
pub fn read_gradients<M: Module>(
    module: &M,
    grads: &Gradients,
    see: impl FnMut(&str, TensorData) -> Result<()>,
) -> Result<()> {
    struct Read<'a, F> {
        path: Vec<String>,
        grads: &'a Gradients,
        see: F,
        result: Result<()>,
    }
    impl<F: FnMut(&str, TensorData) -> Result<()>> ModuleVisitor for Read<'_, F> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(grad) = param.val().grad(self.grads) else {
                return;
            };
            if self.result.is_ok() {
                let path = self.path.join(".");
                self.result = read_tensor(&path, &grad).and_then(|data| (self.see)(&path, data));
            }
        }
    }
    let mut read = Read { path: Vec::new(), grads, see, result: Ok(()) };
    module.visit(&mut read);
    read.result
}

fn read_tensor<const D: usize>(path: &str, tensor: &Tensor<D>) -> Result<TensorData> {
    tensor.try_to_data().map_err(|e| Error::read(path, e))
}

/// Paths and shapes of all float parameters, in the module's order.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    #[derive(Default)]
    struct Shapes {
        path: Vec<String>,
        found: Vec<(String, Vec<usize>)>,
    }
    impl ModuleVisitor for Shapes {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push((self.path.join("."), param.lazy_shape().to_vec()));
        }
    }
    let mut shapes = Shapes::default();
    module.visit(&mut shapes);
    shapes.found
}

/// The layer `N` of a parameter of a [`NestedFfn`](crate::NestedFfn) that a width cuts: `up`,
/// `gate`, `down` or `up_bias` somewhere below `layers.N`. Matched by name alone: every parameter
/// of such a name below `layers.N` counts.
pub fn nested_layer(path: &str) -> Option<usize> {
    let last = path.rsplit('.').next();
    let nested = matches!(last, Some("up" | "gate" | "down" | "up_bias"));
    if nested { layer_of(path) } else { None }
}

/// The layer that the parameter at `path` belongs to, if there is one: N of `layers.N`, wherever in
/// the path.
pub fn layer_of(path: &str) -> Option<usize> {
    in_layer(path).map(|(layer, _)| layer)
}

/// The layer N of a path with `layers.N.name`, wherever in it, and the name of the parameter inside
/// of the layer.
pub fn in_layer(path: &str) -> Option<(usize, &str)> {
    let mut path = path;
    loop {
        let (part, rest) = path.split_once('.')?;
        if part == "layers" {
            let (layer, name) = rest.split_once('.').unwrap_or((rest, ""));
            return Some((layer.parse().ok()?, name));
        }
        path = rest;
    }
}

/// The dimension along which a width cuts a nested parameter: of `down` the columns, of the others
/// the rows.
pub fn nested_axis(path: &str) -> usize {
    usize::from(path.rsplit('.').next() == Some("down"))
}

#[cfg(test)]
mod tests {
    use super::{in_layer, nested_axis, nested_layer};

    #[test]
    fn layers_are_found_wherever_they_are_in_a_path() {
        assert_eq!(in_layer("layers.12.ffn.up"), Some((12, "ffn.up")));
        assert_eq!(in_layer("sublayers.1.layers.3.q.weight"), Some((3, "q.weight")));
        assert_eq!(in_layer("scales.layers.0"), Some((0, "")));
        for path in ["layers", "layers.first.up", "sublayers.1.up", "head.weight"] {
            assert_eq!(in_layer(path), None, "{path}");
        }
    }

    #[test]
    fn nested_parameters_are_known_by_path() {
        assert_eq!(nested_layer("layers.12.ffn.gate"), Some(12));
        assert_eq!(nested_layer("encoder.layers.0.mlp.up_bias"), Some(0));
        let axes = ["up", "gate", "down", "up_bias"];
        assert_eq!(axes.map(|name| nested_axis(&format!("layers.1.ffn.{name}"))), [0, 0, 1, 0]);
        for path in ["layers.1.ffn.down_bias", "layers.1.attention.q.weight", "up", "embed"] {
            assert_eq!(nested_layer(path), None, "{path}");
        }
    }
}
