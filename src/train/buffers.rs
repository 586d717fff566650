//! Tensors of a model that no gradient moves, such as the running statistics of a norm; and putting tensors of any kind where they belong.

use std::collections::BTreeMap;

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::kernels;
use crate::run::ModulePath;

/// Tensors by the names of parameters and buffers, without autodiff.
pub(super) type ByPath = BTreeMap<String, DispatchTensor>;

/// `after`, whose buffers are where those of `before` lie: on a device where parameters change in place as well, and where nothing
/// that was asked for so far will read the changed ones.
pub(super) fn in_place<M: Module>(before: M, after: M) -> M {
    let device = after.devices().remove(0);
    if !kernels::on_gpu(&device) {
        return after;
    }
    kernels::flush(&device);
    let (names, places): (Vec<_>, Vec<_>) = of(&before).into_iter().unzip();
    let values = of(&after).into_values().collect();
    put(after, names.into_iter().zip(kernels::assign(places, values)).collect())
}

/// A model's buffers.
fn of<M: Module>(model: &M) -> ByPath {
    let mut buffers = Buffers { path: ModulePath::default(), found: BTreeMap::new() };
    model.visit(&mut buffers);
    buffers.found
}

struct Buffers {
    path: ModulePath,
    found: ByPath,
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
            self.found.insert(self.path.name(), param.val().inner().into_dispatch());
        }
    }
}

/// `model`, which takes part in autodiff, with these tensors for those of their names.
///
/// # Panics
/// If one is of another rank.
pub(super) fn put<M: Module>(model: M, tensors: ByPath) -> M {
    model.map(&mut Put { path: ModulePath::default(), tensors })
}

struct Put {
    path: ModulePath,
    tensors: ByPath,
}

impl ModuleMapper for Put {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(tensor) = self.tensors.remove(&self.path.name()) else { return param };
        param.map(|old| {
            let new = Tensor::from_inner(Tensor::<D>::from_dispatch(tensor));
            new.set_require_grad(old.is_require_grad())
        })
    }
}
