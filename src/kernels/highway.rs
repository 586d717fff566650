//! Highway layer.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::{sigmoid, vectorized};
use super::matrix::{Matrix, Mode, Threads, column_sums, multiply};
use super::memory::{BLOCK, zeros};
use super::tape::{Kernel, apply};

#[derive(Clone, Debug)]
struct Highway {
    channels: usize,
    shape: Vec<usize>,
}

/// The gate and the transform before its ReLU, `[rows, channels]` each.
type Branches = std::sync::Arc<[Vec<f32>; 2]>;

impl Kernel<5> for Highway {
    type Saved = Branches;

    fn forward(&self, [x, wt, bt, wg, bg]: [&[f32]; 5]) -> (Vec<f32>, Vec<usize>, Branches) {
        let channels = self.channels;
        let rows = x.len() / channels;
        let branch = |weight: &[f32], bias: &[f32]| {
            let mut out = bias.repeat(rows);
            let (x, weight) = (Matrix::new(x, rows, channels), Matrix::new(weight, channels, channels));
            multiply(x, weight, &mut out, channels, Mode::Add, Threads::All);
            out
        };
        let (mut gate, transform) = (branch(wg, bg), branch(wt, bt));
        let mut y = zeros(x.len());
        let parts = y.par_chunks_mut(BLOCK).zip(gate.par_chunks_mut(BLOCK));
        parts.zip(transform.par_chunks(BLOCK)).zip(x.par_chunks(BLOCK)).for_each(|(((y, gate), transform), x)| {
            vectorized(|| {
                for (((y, gate), transform), x) in y.iter_mut().zip(gate).zip(transform).zip(x) {
                    *gate = sigmoid(*gate);
                    *y = x + *gate * (transform.max(0.0) - x);
                }
            });
        });
        (y, self.shape.clone(), [gate, transform].into())
    }

    fn backward(
        &self,
        [x, wt, _, wg, _]: [&[f32]; 5],
        _: &[f32],
        saved: &Branches,
        gradient: &[f32],
        _: [bool; 5],
    ) -> [Option<Vec<f32>>; 5] {
        let channels = self.channels;
        let rows = x.len() / channels;
        let [gate, transform] = &**saved;
        let [mut for_x, mut at_gate, mut at_transform] = [(); 3].map(|()| zeros(x.len()));
        let outputs =
            for_x.par_chunks_mut(BLOCK).zip(at_gate.par_chunks_mut(BLOCK)).zip(at_transform.par_chunks_mut(BLOCK));
        let inputs =
            (gate.par_chunks(BLOCK), transform.par_chunks(BLOCK), x.par_chunks(BLOCK), gradient.par_chunks(BLOCK));
        outputs.zip(inputs.into_par_iter()).for_each(|(((for_x, at_gate), at_transform), (gate, transform, x, d))| {
            vectorized(|| {
                let outputs = for_x.iter_mut().zip(at_gate).zip(at_transform);
                let inputs = gate.iter().zip(transform).zip(x).zip(d);
                for (((for_x, at_gate), at_transform), (((gate, transform), x), d)) in outputs.zip(inputs) {
                    *for_x = d * (1.0 - gate);
                    *at_gate = d * (transform.max(0.0) - x) * gate * (1.0 - gate);
                    *at_transform = if *transform > 0.0 { d * gate } else { 0.0 };
                }
            });
        });
        let for_weight = |at: &[f32]| {
            let mut out = vec![0.0; channels * channels];
            let (x, at) = (Matrix::new(x, rows, channels).transposed(), Matrix::new(at, rows, channels));
            multiply(x, at, &mut out, channels, Mode::Set, Threads::All);
            out
        };
        for (at, weight) in [(&at_gate, wg), (&at_transform, wt)] {
            let (at, weight) = (Matrix::new(at, rows, channels), Matrix::new(weight, channels, channels).transposed());
            multiply(at, weight, &mut for_x, channels, Mode::Add, Threads::All);
        }
        let (for_wt, for_wg) = (for_weight(&at_transform), for_weight(&at_gate));
        let (for_bt, for_bg) = (column_sums(&at_transform, channels), column_sums(&at_gate, channels));
        [Some(for_x), Some(for_wt), Some(for_bt), Some(for_wg), Some(for_bg)]
    }
}

/// `gate relu(x transform) + (1 - gate) x`, each branch a weight `[channels, channels]` and a bias `[channels]`.
///
/// # Shapes
/// `[.., channels]` in and out.
pub(crate) fn highway(x: Tensor<3>, transform: (Tensor<2>, Tensor<1>), gate: (Tensor<2>, Tensor<1>)) -> Tensor<3> {
    let shape = x.dims().to_vec();
    let kernel = Highway { channels: shape[2], shape };
    apply(kernel, [x.into(), transform.0.into(), transform.1.into(), gate.0.into(), gate.1.into()]).0
}
