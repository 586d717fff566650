//! Parameters by name: out of a model, into a model, to and from safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// f32 tensors by name: shape and values in row-major order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedTensors(pub BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl NamedTensors {
    /// The content of a safetensors file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.serialize(None)
    }

    /// SHA-256 of that content, in hexadecimal: a model's name among all models.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.to_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The content of a safetensors file with this metadata.
    pub(super) fn to_bytes_with(&self, metadata: HashMap<String, String>) -> Vec<u8> {
        self.serialize(Some(metadata))
    }

    fn serialize(&self, metadata: Option<HashMap<String, String>>) -> Vec<u8> {
        let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = self
            .0
            .iter()
            .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views = bytes.iter().map(|(name, shape, data)| {
            let view = TensorView::new(Dtype::F32, (*shape).clone(), data).expect("shape and values agree");
            (name.as_str(), view)
        });
        safetensors::serialize(views, metadata).expect("f32 tensors with distinct names serialise")
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or holds other than finite f32 values.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(&std::fs::read(path).map_err(Error::io(path))?, path)
    }

    /// From the content of a safetensors file; errors name it as `path`.
    ///
    /// # Errors
    /// If it is damaged, or holds other than finite f32 values.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| Error::file(path, format!("damaged: {error}")))?;
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

    /// What is missing, superfluous or of another shape than `wanted`, one line each.
    pub(crate) fn misfits(&self, wanted: &BTreeMap<String, Vec<usize>>) -> Vec<String> {
        let wrong = |(name, shape): (&String, &Vec<usize>)| match self.0.get(name) {
            Some((found, _)) if found == shape => None,
            Some((found, _)) => Some(format!("{name} has shape {found:?}, the model needs {shape:?}")),
            None => Some(format!("{name} is missing")),
        };
        let superfluous = self.0.keys().filter(|name| !wanted.contains_key(*name));
        wanted
            .iter()
            .filter_map(wrong)
            .chain(superfluous.map(|name| format!("{name} is not part of the model")))
            .collect()
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

/// Gives every parameter and buffer of a model to `take`: its path in the module tree (`encoder.0.weight`), its shape, whether
/// it is trained, and its values, flattened.
fn for_each<M: Module>(model: &M, take: &mut dyn FnMut(String, Vec<usize>, bool, Tensor<1>)) {
    struct Visit<'a> {
        path: ModulePath,
        take: &'a mut dyn FnMut(String, Vec<usize>, bool, Tensor<1>),
    }
    impl ModuleVisitor for Visit<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.path.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.dims();
            let flat = param.val().reshape([shape.iter().product::<usize>()]);
            (self.take)(self.path.name(), shape.to_vec(), param.is_require_grad(), flat);
        }
    }
    model.visit(&mut Visit { path: ModulePath::default(), take });
}

/// Copies every parameter and buffer of a model to the host, by its path in the module tree (`encoder.0.weight`).
pub fn parameters<M: Module>(model: &M) -> NamedTensors {
    let mut found = BTreeMap::new();
    for_each(model, &mut |name, shape, _, flat| drop(found.insert(name, (shape, values(flat)))));
    NamedTensors(found)
}

/// The shape of every parameter of a model that is trained, by its path; buffers are left out.
pub fn trained_shapes<M: Module>(model: &M) -> BTreeMap<String, Vec<usize>> {
    let mut found = BTreeMap::new();
    for_each(model, &mut |name, shape, trained, _| drop(trained.then(|| found.insert(name, shape))));
    found
}

/// Puts values into every parameter and buffer of a model of the same architecture.
///
/// # Errors
/// [`Error::File`] about `path` if a tensor is missing, superfluous or of another shape; the message names it.
pub fn load_parameters<M: Module>(model: M, tensors: &NamedTensors, path: &Path) -> Result<M> {
    struct Fill<'a> {
        path: ModulePath,
        tensors: &'a NamedTensors,
    }
    impl ModuleMapper for Fill<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.path.exit(container);
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (_, values) = &self.tensors.0[&self.path.name()];
            param.map(|old| {
                let new = Tensor::from_data(TensorData::new(values.clone(), old.dims()), &old.device());
                if old.is_require_grad() { new.require_grad() } else { new }
            })
        }
    }
    let mut wanted = BTreeMap::new();
    for_each(&model, &mut |name, shape, _, _| drop(wanted.insert(name, shape)));
    let wrong = tensors.misfits(&wanted);
    if !wrong.is_empty() {
        return Err(Error::file(path, wrong.join("; ")));
    }
    Ok(model.map(&mut Fill { path: ModulePath::default(), tensors }))
}

/// The values of a tensor, row-major, on the host.
///
/// # Panics
/// If the tensor does not hold f32.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("this crate computes in f32")
}
