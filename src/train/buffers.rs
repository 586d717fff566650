//! Tensors of a model that no gradient moves, such as the running statistics of a norm.

use std::any::Any;
use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::kernels;
use crate::run::ModulePath;

/// `after`, whose buffers are where those of `before` lie: on a device where parameters change in place as well, and where nothing
/// that was asked for so far will read the changed ones.
pub(super) fn in_place<M: Module>(before: M, after: M) -> M {
    let device = after.devices().remove(0);
    if !kernels::on_gpu(&device) {
        return after;
    }
    kernels::flush(&device);
    let mut buffers = Buffers { path: ModulePath::default(), found: BTreeMap::new() };
    before.visit(&mut buffers);
    after.map(&mut buffers)
}

/// Those of one model by name, to be given another's values.
struct Buffers {
    path: ModulePath,
    /// A `Tensor<D>` each.
    found: BTreeMap<String, Box<dyn Any>>,
}

impl ModuleVisitor for Buffers {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.val().is_require_grad() {
            self.found.insert(self.path.name(), Box::new(param.val().inner()));
        }
    }
}

impl ModuleMapper for Buffers {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.found.remove(&self.path.name()).map(|place| place.downcast::<Tensor<D>>()) {
            Some(Ok(place)) => param.map(|new| Tensor::from_inner(kernels::assign(*place, new.inner()))),
            _ => param,
        }
    }
}
