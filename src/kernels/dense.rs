//! Fully connected layer with leaky ReLU.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::{leaky_relu, leaky_relu_back, vectorized};
use super::matrix::{Matrix, Mode, Threads, column_sums, multiply};
use super::memory::{BLOCK, build, zeros};
use super::tape::{Kernel, apply};

#[derive(Clone, Debug)]
struct Dense {
    /// Sizes of the input and of the output.
    inputs: usize,
    outputs: usize,
    slope: f32,
    /// The output's shape.
    shape: Vec<usize>,
}

impl Kernel<3> for Dense {
    type Saved = ();

    fn forward(&self, [x, weight, bias]: [&[f32]; 3]) -> (Vec<f32>, Vec<usize>, ()) {
        let &Self { inputs, outputs, slope, .. } = self;
        let rows = x.len() / inputs;
        let mut y = zeros(rows * outputs);
        let (x, weight) = (Matrix::new(x, rows, inputs), Matrix::new(weight, inputs, outputs));
        multiply(x, weight, &mut y, outputs, Mode::Set, Threads::All);
        y.par_chunks_mut(outputs * BLOCK.div_ceil(outputs)).for_each(|rows| {
            vectorized(move || {
                for row in rows.chunks_exact_mut(outputs) {
                    for (y, bias) in row.iter_mut().zip(bias) {
                        *y = leaky_relu(*y + bias, slope);
                    }
                }
            });
        });
        (y, self.shape.clone(), ())
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        output: &[f32],
        _: &(),
        gradient: &[f32],
        wanted: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let &Self { inputs, outputs, slope, .. } = self;
        let rows = x.len() / inputs;
        let masked = (slope != 1.0).then(|| {
            build(gradient.len(), BLOCK, |index, d| {
                let from = index * BLOCK;
                let (gradient, output) = (&gradient[from..from + d.len()], &output[from..from + d.len()]);
                vectorized(move || {
                    for ((d, g), y) in d.iter_mut().zip(gradient).zip(output) {
                        *d = leaky_relu_back(*y, *g, slope);
                    }
                });
            })
        });
        let d = Matrix::new(masked.as_deref().unwrap_or(gradient), rows, outputs);
        let product = |a: Matrix, b: Matrix, rows: usize, columns: usize| {
            let mut out = zeros(rows * columns);
            multiply(a, b, &mut out, columns, Mode::Set, Threads::All);
            out
        };
        [
            wanted[0].then(|| product(d, Matrix::new(weight, inputs, outputs).transposed(), rows, inputs)),
            wanted[1].then(|| product(Matrix::new(x, rows, inputs).transposed(), d, inputs, outputs)),
            wanted[2].then(|| column_sums(masked.as_deref().unwrap_or(gradient), outputs)),
        ]
    }
}

/// `leaky_relu(x weight + bias)` over the last dimension (`slope` 1: no activation).
///
/// # Shapes
/// `x` `[.., inputs]`, `weight` `[inputs, outputs]`, `bias` `[outputs]` to `[.., outputs]`
pub(crate) fn dense<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>, slope: f64) -> Tensor<D> {
    let [inputs, outputs] = weight.dims();
    let mut shape = x.dims().to_vec();
    shape[D - 1] = outputs;
    let kernel = Dense { inputs, outputs, slope: slope as f32, shape };
    apply(kernel, [x.into(), weight.into(), bias.into()]).0
}
