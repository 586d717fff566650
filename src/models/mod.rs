//! The models. They know tensors and sizes, not files or sample rates.

mod cbhg;
mod conv_vae;
mod discriminator;
mod gaussian;
mod lstm_vae;
mod vae;

pub use cbhg::{Cbhg, CbhgConfig};
pub use conv_vae::{ConvVae, ConvVaeConfig};
pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use gaussian::Gaussian;
pub(crate) use gaussian::softplus;
pub use lstm_vae::{LstmVae, LstmVaeConfig, Scale};
pub use vae::{Vae, VaeConfig};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::{Error, Result};

/// Refuses sizes that no machine holds, and zero, before memory is asked for.
fn require_size(flag: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Config(format!("{flag} {value}: must be {least} to {most}")))
}

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

/// Half the squared Euclidean norm of each of the model's tensors, averaged over the tensors, `[1]`: an L2 penalty.
///
/// A mean over tensors, whatever their sizes, is how the 2018 workshop weighed it. Buffers count as well; the VAEs have none.
///
/// # Panics
/// If the model has no tensors.
pub fn mean_half_squared_norm<M: Module>(model: &M) -> Tensor<1> {
    struct Collect(Vec<Tensor<1>>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().square().sum());
        }
    }
    let mut collect = Collect(Vec::new());
    model.visit(&mut collect);
    Tensor::cat(collect.0, 0).mean().mul_scalar(0.5)
}
