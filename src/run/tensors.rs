//! Parameters by name: out of a model, into a model, to and from safetensors files.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::{Error, Result};

/// f32 tensors by name: shape and values in row-major order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedTensors(pub BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl NamedTensors {
    /// The content of a safetensors file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = self
            .0
            .iter()
            .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views = bytes.iter().map(|(name, shape, data)| {
            let view = TensorView::new(Dtype::F32, (*shape).clone(), data).expect("shape and values agree");
            (name.as_str(), view)
        });
        safetensors::serialize(views, None).expect("f32 tensors with distinct names serialise")
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or holds other than finite f32 values.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| Error::file(path, format!("damaged: {error}")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(Error::file(path, format!("tensor {name} is {:?}, not f32", view.dtype())));
            }
            let values: Vec<f32> =
                view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if !values.iter().all(|value| value.is_finite()) {
                return Err(Error::file(path, format!("tensor {name} holds values that are not finite")));
            }
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        Ok(Self(tensors))
    }
}

/// Where a visitor is in the module tree: the names of parameters.
///
/// The variant of an enum is no part of a name: which architecture a run has is said in its configuration.
#[derive(Default)]
pub(crate) struct ModulePath(Vec<String>);

impl ModulePath {
    /// `container` is what Burn passes with the name.
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_string());
        }
    }

    pub(crate) fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    /// The path's parts with dots between them.
    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}

/// Copies every parameter and buffer of a model to the host, by its path in the module tree (`encoder.0.weight`).
pub fn parameters<M: Module>(model: &M) -> NamedTensors {
    struct Collect {
        path: ModulePath,
        found: NamedTensors,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.path.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val();
            let shape = tensor.dims().to_vec();
            self.found.0.insert(self.path.name(), (shape, values(tensor)));
        }
    }
    let mut collect = Collect { path: ModulePath::default(), found: NamedTensors::default() };
    model.visit(&mut collect);
    collect.found
}

/// Puts values into every parameter and buffer of a model of the same architecture.
///
/// # Errors
/// [`Error::File`] about `path` if a tensor is missing, superfluous or of another shape; the message names it.
pub fn load_parameters<M: Module>(model: M, tensors: &NamedTensors, path: &Path) -> Result<M> {
    struct Fill<'a> {
        path: ModulePath,
        rest: BTreeMap<&'a str, &'a (Vec<usize>, Vec<f32>)>,
        wrong: Vec<String>,
    }
    impl ModuleMapper for Fill<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.path.exit(container);
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.name();
            let wanted = param.dims();
            match self.rest.remove(name.as_str()) {
                Some((shape, values)) if *shape == wanted => param.map(|old| {
                    let new = Tensor::from_data(TensorData::new(values.clone(), wanted), &old.device());
                    if old.is_require_grad() { new.require_grad() } else { new }
                }),
                Some((shape, _)) => {
                    self.wrong.push(format!("{name} has shape {shape:?}, the model needs {wanted:?}"));
                    param
                }
                None => {
                    self.wrong.push(format!("{name} is missing"));
                    param
                }
            }
        }
    }
    let rest = tensors.0.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut fill = Fill { path: ModulePath::default(), rest, wrong: Vec::new() };
    let model = model.map(&mut fill);
    fill.wrong.extend(fill.rest.keys().map(|name| format!("{name} is not part of the model")));
    if fill.wrong.is_empty() { Ok(model) } else { Err(Error::file(path, fill.wrong.join("; "))) }
}

/// The values of a tensor, row-major, on the host.
///
/// # Panics
/// If the tensor does not hold f32.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("this crate computes in f32")
}
