//! The optimizer's step, in place.

use burn::backend::flex::FlexTensor;
use burn::backend::{DispatchTensor, Flex};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::{Work, vectorized};
use super::memory::BLOCK;

/// The numbers of one step of Adam.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamStep {
    pub beta1: f32,
    pub beta2: f32,
    /// `1 - beta1`, not as single precision would have it of `beta1`.
    pub fresh1: f32,
    /// `1 - beta2`
    pub fresh2: f32,
    pub epsilon: f32,
    /// The learning rate over `1 - beta1^t`.
    pub rate: f32,
    /// `1 - beta2^t`.
    pub unbias: f32,
    /// What the gradient is multiplied by.
    pub clip: f32,
    /// What the parameter is multiplied by first: 1 without weight decay.
    pub keep: f32,
    /// The part of the way to the new parameter that its average goes.
    pub share: f32,
}

impl AdamStep {
    /// How many [`values`](Self::values) there are.
    pub(crate) const NUMBERS: usize = 9;

    /// All but `clip`, in this order, for a device that reads them.
    pub(crate) fn values(&self) -> [f32; Self::NUMBERS] {
        let Self { beta1, beta2, fresh1, fresh2, epsilon, rate, unbias, keep, share, clip: _ } = *self;
        [beta1, beta2, fresh1, fresh2, epsilon, rate, unbias, keep, share]
    }
}

/// What one parameter's steps leave beside it, flattened.
pub(crate) struct State {
    /// The running mean of its gradient.
    pub first: Tensor<1>,
    /// The running mean of the gradient's square.
    pub second: Tensor<1>,
    /// The running mean of the parameter itself, if one is kept.
    pub average: Option<Tensor<1>>,
}

/// A parameter, of any shape, and what a GPU's step is given with it.
#[cfg_attr(not(feature = "cube"), allow(dead_code))] // a build without GPUs makes none
pub(crate) struct Stepped {
    pub parameter: DispatchTensor,
    /// Flattened.
    pub gradient: Tensor<1>,
    pub state: State,
    /// Whether weight decay is for it.
    pub decays: bool,
}

/// One step for one parameter: it and what is kept beside it, changed where they lie if nobody else holds them.
///
/// # Panics
/// If a tensor is not on the CPU or not of the parameter's size.
pub(crate) fn adam_step<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<1>,
    state: State,
    step: AdamStep,
) -> (Tensor<D>, State) {
    let gradient = primitive(gradient);
    let gradient: &[f32] = gradient.as_slice().expect("contiguous f32");
    let mut parameter = primitive(parameter);
    let [mut first, mut second] = [state.first, state.second].map(primitive);
    let mut average = state.average.map(primitive);
    {
        let [p, m, v] = [&mut parameter, &mut first, &mut second].map(|tensor| tensor.storage_mut::<f32>());
        assert!(p.len() == gradient.len() && m.len() == gradient.len() && v.len() == gradient.len());
        let a = average.as_mut().map_or(&mut [][..], |average| average.storage_mut::<f32>());
        assert!(a.is_empty() || a.len() == gradient.len());
        // Without an average each block has an empty one.
        let a: Vec<&mut [f32]> = match a.is_empty() {
            true => gradient.chunks(BLOCK).map(|_| Default::default()).collect(),
            false => a.chunks_mut(BLOCK).collect(),
        };
        let state = p.par_chunks_mut(BLOCK).zip(m.par_chunks_mut(BLOCK)).zip(v.par_chunks_mut(BLOCK));
        state.zip(gradient.par_chunks(BLOCK)).zip(a).for_each(|((((p, m), v), g), a)| {
            vectorized(Block { step, p, m, v, g, a });
        });
    }
    let [first, second] = [first, second].map(Tensor::from_primitive::<Flex>);
    let average = average.map(Tensor::from_primitive::<Flex>);
    (Tensor::from_primitive::<Flex>(parameter), State { first, second, average })
}

/// The step of some values: parameters, both means, gradients and, if one is kept, the average.
struct Block<'a> {
    step: AdamStep,
    p: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    g: &'a [f32],
    a: &'a mut [f32],
}

impl Work for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { step, p, m, v, g, a } = self;
        let AdamStep { beta1, beta2, fresh1, fresh2, epsilon, rate, unbias, clip, keep, share } = step;
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * clip;
            *m = beta1 * *m + fresh1 * g;
            *v = beta2 * *v + fresh2 * (g * g);
            *p = keep * *p - rate * *m / ((*v / unbias).sqrt() + epsilon);
        }
        for (a, p) in a.iter_mut().zip(p) {
            *a += share * (*p - *a); // the block is still in the cache
        }
    }
}

/// Sum of squares of a tensor on the CPU.
pub(crate) fn squared_norm(x: &Tensor<1>) -> f64 {
    let x = primitive(x.clone());
    let x: &[f32] = x.as_slice().expect("contiguous f32");
    let sums: Vec<f64> = x
        .par_chunks(BLOCK)
        .map(|x| {
            let mut sums = [0.0f64; 8];
            vectorized(|| {
                for x in x.chunks(8) {
                    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
                }
            });
            sums.iter().sum()
        })
        .collect();
    sums.iter().sum()
}

fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    let tensor = tensor.try_into_primitive::<Flex>().expect("a tensor on the CPU, without autodiff");
    // A second handle to the same storage would make changing it in place a copy.
    if tensor.is_contiguous() && tensor.layout().start_offset() == 0 { tensor } else { tensor.to_contiguous() }
}
