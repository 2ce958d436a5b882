//! A weight matrix: f32 with gradients, or packed for inference.

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
        Param, ParamId,
    },
    tensor::{Device, Tensor, TensorData},
};

use crate::{Error, Packed, PackedFormat, Result, params};

/// A matrix `[out, in]`, stored as on disk.
///
/// A dense weight is visited as its parameter and adds no component to the path: `layers.0.ffn.up`,
/// not `layers.0.ffn.up.weight`. A packed one has no parameter: it is neither trained, visited nor
/// saved.
#[derive(Clone, Debug)]
pub enum Weight {
    /// f32 with gradients.
    Dense(Param<Tensor<2>>),
    /// Packed for inference. The data is in host memory; operations unpack the parts they need.
    Packed(Packed),
}

impl Weight {
    /// An uninitialised dense matrix, which uses no memory until it is filled.
    pub fn unset(shape: [usize; 2], device: &Device) -> Self {
        Self::Dense(params::unset(shape, device))
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(param) => param.lazy_shape().dims(),
            Self::Packed(packed) => packed.shape(),
        }
    }

    /// The same matrix, packed.
    ///
    /// # Errors
    /// When the format has no rows of this length, or a tensor cannot be read from its device.
    pub fn packed(&self, format: PackedFormat) -> Result<Self> {
        let [rows, cols] = self.shape();
        let values = match self {
            Self::Dense(param) => {
                param.val().try_into_vec_as::<f32>().map_err(|e| Error::read("weight", e))?
            }
            Self::Packed(packed) => packed.unpack(rows, cols),
        };
        Ok(Self::Packed(Packed::pack(format, [rows, cols], &values)?))
    }

    /// All values as a tensor on `device`; a dense matrix is where its parameter is.
    ///
    /// # Shapes
    /// - output: `[out, in]`
    pub fn values(&self, device: &Device) -> Tensor<2> {
        let [rows, cols] = self.shape();
        self.part(rows, cols, device)
    }

    /// At least the first `rows` rows and `cols` columns: all of a dense matrix, exactly these of a
    /// packed one.
    pub(crate) fn part(&self, rows: usize, cols: usize, device: &Device) -> Tensor<2> {
        match self {
            Self::Dense(param) => param.val(),
            Self::Packed(packed) => {
                let data = TensorData::new(packed.unpack(rows, cols), [rows, cols]);
                Tensor::from_data(data, device)
            }
        }
    }
}

impl From<Tensor<2>> for Weight {
    /// A matrix that was computed, with its gradient.
    fn from(values: Tensor<2>) -> Self {
        Self::Dense(Param::initialized(ParamId::new(), values))
    }
}

impl Module for Weight {
    fn collect_devices(&self, devices: Devices) -> Devices {
        match self {
            Self::Dense(param) => param.collect_devices(devices),
            Self::Packed(_) => devices,
        }
    }

    fn fork(self, device: &Device) -> Self {
        self.map_dense(|param| param.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.map_dense(|param| param.to_device(device))
    }

    fn train(self) -> Self {
        self.map_dense(Module::train)
    }

    fn valid(&self) -> Self {
        match self {
            Self::Dense(param) => Self::Dense(param.valid()),
            Self::Packed(packed) => Self::Packed(packed.clone()),
        }
    }

    fn materialize(self) -> Self {
        self.map_dense(Module::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        if let Self::Dense(param) = self {
            param.visit(visitor);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        self.map_dense(|param| Module::map(param, mapper))
    }
}

impl Weight {
    fn map_dense(self, f: impl FnOnce(Param<Tensor<2>>) -> Param<Tensor<2>>) -> Self {
        match self {
            Self::Dense(param) => Self::Dense(f(param)),
            packed => packed,
        }
    }
}

impl ModuleDisplayDefault for Weight {
    fn content(&self, content: Content) -> Option<Content> {
        match self {
            Self::Dense(param) => param.content(content),
            Self::Packed(packed) => content.add_formatted(&format!("{packed:?}")).optional(),
        }
    }
}

impl ModuleDisplay for Weight {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linear;

    #[test]
    fn a_weight_is_its_parameter_and_has_no_path_of_its_own() {
        let device = Device::flex().autodiff();
        let layer = Linear::unset(32, 3, true, &device);
        let paths = |layer: &Linear| params::shapes(layer);
        let expected = [("weight".to_owned(), vec![3, 32]), ("bias".to_owned(), vec![3])].to_vec();
        assert_eq!(paths(&layer), expected);
        assert_eq!(Module::num_params(&layer), 99);
        let filled =
            params::fill(layer, |_, shape| Ok::<_, ()>(TensorData::ones::<f32, _>(shape.to_vec())));
        let layer = filled.unwrap();
        assert!(layer.weight.values(&device).is_require_grad());
        assert!(!layer.valid().weight.values(&device).is_autodiff());
        // Packed, it has no parameter, and stays what it is.
        let packed = Linear { weight: layer.weight.packed(PackedFormat::Q8_0).unwrap(), ..layer };
        assert_eq!(paths(&packed), expected[1..]);
        assert_eq!(packed.weight.shape(), [3, 32]);
        for same in [packed.valid(), packed.clone().train(), packed.to_device(&device)] {
            let values = same.weight.values(&device);
            assert!(!values.is_require_grad());
            let values: Vec<f32> = values.inner().try_into_vec_as().unwrap();
            assert!(values.iter().all(|v| (v - 1.0).abs() < 1e-3));
        }
    }
}
