//! The models. They know tensors and sizes, not files or sample rates.

mod cbhg;
mod conv_vae;
mod gaussian;

pub use cbhg::{Cbhg, CbhgConfig};
pub use conv_vae::{ConvVae, ConvVaeConfig};
pub use gaussian::Gaussian;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// The number of trained values in `model`; buffers such as running statistics do not count.
pub fn parameter_count<M: Module>(model: &M) -> usize {
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0 += param.dims().iter().product::<usize>();
            }
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    count.0
}
