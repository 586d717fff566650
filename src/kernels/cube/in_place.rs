//! Kernels that change tensors where they lie, and one that adds up squares: of many tensors in one launch, where a model has dozens
//! and most are small.

use burn::backend::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::many::sequence;
use super::sums::{sum, sum_of_cube};
use super::window::UNITS;

/// How the cubes of a launch are shared among tensors.
///
/// Kernels that are given several take them as buffers, which on CUDA may be longer than what is in them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Share {
    /// The first cube of each, and at the end how many there are.
    first: Vec<u32>,
    /// Values of each.
    sizes: Vec<usize>,
}

impl Share {
    /// A cube for each stretch of so many `values` of a tensor, but not more than so many. A unit goes on to what is left.
    fn of(tensors: &[CubeTensor], values: usize, most: usize) -> Self {
        let sizes: Vec<_> = tensors.iter().map(|tensor| tensor.shape().num_elements()).collect();
        let mut first = vec![0];
        for size in &sizes {
            first.push(first[first.len() - 1] + size.div_ceil(values).clamp(1, most) as u32);
        }
        Self { first, sizes }
    }

    fn count(&self) -> u32 {
        self.first[self.first.len() - 1]
    }

    /// Units of the cubes of a tensor.
    fn units(&self, tensor: usize) -> usize {
        ((self.first[tensor + 1] - self.first[tensor]) * UNITS) as usize
    }
}

/// Values that are worth a cube of their own.
const VALUES: usize = 4 * UNITS as usize;
/// The most cubes of a tensor; those of a launch are fewer than the 65 535 that wgpu takes.
const CUBES: usize = 512;

#[cube(launch)]
fn assign_values(to: &mut Sequence<Box<[f32]>>, from: &Sequence<Box<[f32]>>, #[comptime] share: Share) {
    #[unroll]
    for tensor in 0..comptime!(share.sizes.len()) {
        let first = comptime!(share.first[tensor]);
        let end = comptime!(share.first[tensor + 1]);
        if CUBE_POS_X >= first && CUBE_POS_X < end {
            let (to, from) = (&mut to[tensor], &from[tensor]);
            let mut index = ((CUBE_POS_X - first) * UNITS + UNIT_POS_X) as usize;
            while index < comptime!(share.sizes[tensor]) {
                to[index] = from[index];
                index += comptime!(share.units(tensor));
            }
        }
    }
}

/// `averages` are as many as parameters or none, `clips` as many, one or none.
#[cube(launch)]
fn adam_steps(
    parameters: &mut Sequence<Box<[f32]>>,
    firsts: &mut Sequence<Box<[f32]>>,
    seconds: &mut Sequence<Box<[f32]>>,
    averages: &mut Sequence<Box<[f32]>>,
    gradients: &Sequence<Box<[f32]>>,
    clips: &Sequence<Box<[f32]>>,
    numbers: &Tensor<f32>,
    #[comptime] share: Share,
    #[comptime] decays: Vec<bool>,
) {
    #[unroll]
    for tensor in 0..comptime!(decays.len()) {
        let first = comptime!(share.first[tensor]);
        let end = comptime!(share.first[tensor + 1]);
        if CUBE_POS_X >= first && CUBE_POS_X < end {
            let mut clip = 1.0f32;
            if comptime!(clips.len() > 0) {
                let of_tensor = &clips[comptime!(if clips.len() == 1 { 0 } else { tensor })];
                clip = of_tensor[0];
            }
            let gradient = &gradients[tensor];
            let parameter = &mut parameters[tensor];
            let mean = &mut firsts[tensor];
            let square = &mut seconds[tensor];
            let mut index = ((CUBE_POS_X - first) * UNITS + UNIT_POS_X) as usize;
            while index < comptime!(share.sizes[tensor]) {
                let slope = gradient[index] * clip;
                let new_mean = numbers[0] * mean[index] + numbers[2] * slope;
                let new_square = numbers[1] * square[index] + numbers[3] * slope * slope;
                mean[index] = new_mean;
                square[index] = new_square;
                let mut new = parameter[index];
                if comptime!(decays[tensor]) {
                    new *= numbers[7];
                }
                new -= numbers[5] * new_mean / ((new_square / numbers[6]).sqrt() + numbers[4]);
                parameter[index] = new;
                if comptime!(averages.len() > 0) {
                    let average = &mut averages[tensor];
                    let before = average[index];
                    average[index] = before + numbers[8] * (new - before);
                }
                index += comptime!(share.units(tensor));
            }
        }
    }
}

/// Values whose squares are worth a cube of their own.
const SQUARES: usize = 4096;
/// The most cubes that add up the squares of one tensor.
const SQUARES_CUBES: usize = 64;

/// Each cube adds up the squares of every so manieth value of its tensor, and leaves the sum at its place.
#[cube(launch)]
fn add_squares(values: &Sequence<Box<[f32]>>, parts: &mut Tensor<f32>, before: u32, #[comptime] share: Share) {
    let mut sum = 0.0f32;
    #[unroll]
    for tensor in 0..comptime!(share.sizes.len()) {
        let first = comptime!(share.first[tensor]);
        let end = comptime!(share.first[tensor + 1]);
        if CUBE_POS_X >= first && CUBE_POS_X < end {
            let values = &values[tensor];
            let mut index = ((CUBE_POS_X - first) * UNITS + UNIT_POS_X) as usize;
            while index < comptime!(share.sizes[tensor]) {
                sum += values[index] * values[index];
                index += comptime!(share.units(tensor));
            }
        }
    }
    let sum = sum_of_cube(sum);
    if UNIT_POS_X == 0 {
        parts[(before + CUBE_POS_X) as usize] = sum;
    }
}

/// The most tensors that a kernel is given: addresses and lengths fit into the 4 KiB of parameters that CUDA passes.
const TENSORS: usize = 200;

/// How many parameters a launch takes, each of which comes as so many tensors, beside a few others.
fn at_once(tensors_each: usize, like: &CubeTensor) -> usize {
    let most = (like.client.properties().hardware.max_bindings as usize).min(TENSORS);
    (most.saturating_sub(4) / tensors_each).max(1)
}

/// See [`super::update::Update::squares`].
pub(super) fn squares(values: Vec<CubeTensor>) -> CubeTensor {
    let values: Vec<_> = values.into_iter().map(into_contiguous).collect();
    let share = |values: &[CubeTensor]| Share::of(values, SQUARES, SQUARES_CUBES);
    let parts = empty(&values[0], &[share(&values).count() as usize]);
    let mut done = 0;
    for values in values.chunks(at_once(1, &parts)) {
        let share = share(values);
        let count = share.count();
        add_squares::launch(
            &parts.client,
            CubeCount::Static(count, 1, 1),
            CubeDim::new_1d(UNITS),
            sequence(values),
            parts.clone().into_tensor_arg(),
            done,
            share,
        );
        done += count;
    }
    sum(parts)
}

/// See [`super::update::Update::assign`].
pub(super) fn assign(to: Vec<CubeTensor>, from: Vec<CubeTensor>) -> Vec<CubeTensor> {
    for to in &to {
        assert!(to.is_contiguous(), "what is changed in place must have been settled: {:?}", to.meta);
    }
    let from: Vec<_> = from.into_iter().map(into_contiguous).collect();
    let at_once = at_once(2, &to[0]);
    for (to, from) in to.chunks(at_once).zip(from.chunks(at_once)) {
        let share = Share::of(to, VALUES, CUBES);
        assign_values::launch(
            &to[0].client,
            CubeCount::Static(share.count(), 1, 1),
            CubeDim::new_1d(UNITS),
            sequence(to),
            sequence(from),
            share,
        );
    }
    to
}

/// See [`super::update::Update::adam`].
pub(super) fn adam(
    changed: [Vec<CubeTensor>; 4],
    read: [Vec<CubeTensor>; 2],
    numbers: CubeTensor,
    decays: Vec<bool>,
) -> [Vec<CubeTensor>; 4] {
    let contiguous = |tensors: Vec<CubeTensor>| tensors.into_iter().map(into_contiguous).collect::<Vec<_>>();
    let (changed, [gradients, clips], numbers) =
        (changed.map(contiguous), read.map(contiguous), into_contiguous(numbers));
    let each = 4 + usize::from(!changed[3].is_empty()) + usize::from(clips.len() > 1);
    let at_once = at_once(each, &numbers);
    for (group, decays) in decays.chunks(at_once).enumerate() {
        let of = |tensors: &[CubeTensor]| {
            sequence(match tensors.len() {
                0 | 1 => tensors,
                _ => &tensors[group * at_once..][..decays.len()],
            })
        };
        let share = Share::of(&gradients[group * at_once..][..decays.len()], VALUES, CUBES);
        adam_steps::launch(
            &numbers.client,
            CubeCount::Static(share.count(), 1, 1),
            CubeDim::new_1d(UNITS),
            of(&changed[0]),
            of(&changed[1]),
            of(&changed[2]),
            of(&changed[3]),
            of(&gradients),
            of(&clips),
            numbers.clone().into_tensor_arg(),
            share,
            decays.to_vec(),
        );
    }
    changed
}
