//! The kernel that puts filters among zeros, and takes them from there.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::many::sequence;
use super::window::{UNITS, cubes};

/// Which filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filters {
    /// Taps of the narrowest.
    pub narrowest: usize,
    /// How many more each has than the one before it.
    pub more: usize,
    pub count: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Filters {
    fn taps(&self, filter: usize) -> usize {
        self.narrowest + filter * self.more
    }

    fn columns(&self) -> usize {
        self.count * self.outputs
    }

    pub fn shape(&self) -> [usize; 2] {
        [self.taps(self.count - 1) * self.inputs, self.columns()]
    }

    /// Of one filter.
    pub fn shape_of(&self, filter: usize) -> [usize; 2] {
        [self.taps(filter) * self.inputs, self.outputs]
    }

    /// Zeros above a filter: its middle tap is that of the widest.
    fn above(&self, filter: usize) -> usize {
        let before = |taps: usize| (taps - 1) / 2;
        (before(self.taps(self.count - 1)) - before(self.taps(filter))) * self.inputs
    }
}

/// A unit for each value of the matrix; `back` from it to the filters.
#[cube(launch)]
fn bank_filters(
    weights: &mut Sequence<Box<[f32]>>,
    matrix: &mut Tensor<f32>,
    #[comptime] filters: Filters,
    #[comptime] back: bool,
) {
    if ABSOLUTE_POS < matrix.len() {
        let column = ABSOLUTE_POS % comptime!(filters.columns());
        let row = ABSOLUTE_POS / comptime!(filters.columns());
        let output = column % comptime!(filters.outputs);
        let mut value = 0.0f32;
        #[unroll]
        for filter in 0..comptime!(filters.count) {
            let above = comptime!(filters.above(filter));
            let below = comptime!(filters.above(filter) + filters.shape_of(filter)[0]);
            if column / comptime!(filters.outputs) == filter && row >= above && row < below {
                let weight = &mut weights[filter];
                let at = (row - above) * comptime!(filters.outputs) + output;
                if comptime!(back) {
                    weight[at] = matrix[ABSOLUTE_POS];
                } else {
                    value = weight[at];
                }
            }
        }
        if comptime!(!back) {
            matrix[ABSOLUTE_POS] = value;
        }
    }
}

fn launch(weights: &[CubeTensor], matrix: &CubeTensor, filters: Filters, back: bool) {
    bank_filters::launch(
        &matrix.client,
        cubes(matrix),
        CubeDim::new_1d(UNITS),
        sequence(weights),
        matrix.clone().into_tensor_arg(),
        filters,
        back,
    );
}

/// See [`super::bank::Banks::filters`].
pub(super) fn together(weights: Vec<CubeTensor>, filters: Filters) -> CubeTensor {
    let weights: Vec<_> = weights.into_iter().map(into_contiguous).collect();
    let matrix = empty(&weights[0], &filters.shape());
    launch(&weights, &matrix, filters, false);
    matrix
}

/// See [`super::bank::Banks::filters_back`].
pub(super) fn apart(matrix: CubeTensor, filters: Filters) -> Vec<CubeTensor> {
    let matrix = into_contiguous(matrix);
    let weights: Vec<_> = (0..filters.count).map(|filter| empty(&matrix, &filters.shape_of(filter))).collect();
    launch(&weights, &matrix, filters, true);
    weights
}
