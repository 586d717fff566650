//! Kernels of batch normalisation over the real frames of padded sequences, with what follows it. Each reads the frames once: moments
//! or sums over parts of them, what these come to, and a unit for each value.

#![allow(clippy::collapsible_if)] // a kernel computes both sides of `&&`, and must not read past the end

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::rows::{COLUMNS, ROWS, parts, sum_of_column};
use super::window::{UNITS, cubes};
use super::{empty, shape};
use crate::nn::After;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub after: After,
    /// Whether there is a mask to look at.
    pub masked: bool,
}

#[cube]
fn is_real(mask: &Tensor<f32>, row: usize, #[comptime] form: Form) -> bool {
    let mut real = true;
    if comptime!(form.masked) {
        real = mask[row] > 0.0f32;
    }
    real
}

/// Count, mean and the sum of squared deviations of some values of a channel.
#[derive(CubeType, Clone, Copy)]
struct Moments {
    count: f32,
    mean: f32,
    square: f32,
}

/// Those of both together (Chan et al. 1979).
#[cube]
fn merged(one: Moments, other: Moments) -> Moments {
    let total = one.count + other.count;
    let share = other.count / f32::max(total, 1.0f32);
    let difference = other.mean - one.mean;
    Moments {
        count: total,
        mean: one.mean + difference * share,
        square: one.square + other.square + difference * difference * one.count * share,
    }
}

/// `[parts, 3, channels]` from `[rows, channels]`: a unit takes every so manieth row of its channel, the first unit of a channel what its
/// others found.
#[cube(launch)]
fn frame_moments(
    x: &Tensor<f32>,
    mask: &Tensor<f32>,
    found: &mut Tensor<f32>,
    rows: u32,
    channels: u32,
    parts: u32,
    #[comptime] form: Form,
) {
    let mut counts = Shared::<[f32]>::new_slice(comptime!(ROWS * COLUMNS));
    let mut means = Shared::<[f32]>::new_slice(comptime!(ROWS * COLUMNS));
    let mut squares = Shared::<[f32]>::new_slice(comptime!(ROWS * COLUMNS));
    let unit = UNIT_POS_X as usize;
    let lane = unit / comptime!(COLUMNS);
    let channel = CUBE_POS_X as usize * comptime!(COLUMNS) + unit % comptime!(COLUMNS);
    let (rows, channels, parts) = (rows as usize, channels as usize, parts as usize);
    let mut count = 0.0f32;
    let mut mean = 0.0f32;
    let mut square = 0.0f32;
    if channel < channels {
        let mut row = CUBE_POS_Y as usize * comptime!(ROWS) + lane;
        while row < rows {
            if is_real(mask, row, form) {
                let value = x[row * channels + channel];
                let before = value - mean;
                count += 1.0f32;
                mean += before / count;
                square += before * (value - mean);
            }
            row += parts * comptime!(ROWS);
        }
    }
    counts[unit] = count;
    means[unit] = mean;
    squares[unit] = square;
    sync_cube();
    if lane == 0 && channel < channels {
        #[unroll]
        for other in 1..comptime!(ROWS) {
            let at = unit + other * comptime!(COLUMNS);
            let next = Moments { count: counts[at], mean: means[at], square: squares[at] };
            let all = merged(Moments { count, mean, square }, next);
            count = all.count;
            mean = all.mean;
            square = all.square;
        }
        let at = CUBE_POS_Y as usize * 3 * channels + channel;
        found[at] = count;
        found[at + channels] = mean;
        found[at + 2 * channels] = square;
    }
}

/// What the parts come to, a unit for each channel: mean and (biased) variance, and `[2, channels]`: one over the deviation, and the
/// count.
#[cube(launch)]
fn frame_statistics(
    found: &Tensor<f32>,
    mean: &mut Tensor<f32>,
    variance: &mut Tensor<f32>,
    rest: &mut Tensor<f32>,
    parts: u32,
    epsilon: f32,
) {
    let channel = ABSOLUTE_POS;
    let channels = mean.len();
    if channel < channels {
        let mut count = 0.0f32;
        let mut centre = 0.0f32;
        let mut square = 0.0f32;
        for part in 0..parts as usize {
            let at = part * 3 * channels + channel;
            let next = Moments { count: found[at], mean: found[at + channels], square: found[at + 2 * channels] };
            let all = merged(Moments { count, mean: centre, square }, next);
            count = all.count;
            centre = all.mean;
            square = all.square;
        }
        mean[channel] = centre;
        variance[channel] = square / count;
        rest[channel] = 1.0f32 / (square / count + epsilon).sqrt();
        rest[channels + channel] = count;
    }
}

/// `after(scale x + shift)`, zero in the padding. `rest` is one over the deviation, or where statistics are `running` the variance.
#[cube(launch)]
fn frames_normalised(
    x: &Tensor<f32>,
    mask: &Tensor<f32>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    mean: &Tensor<f32>,
    rest: &Tensor<f32>,
    y: &mut Tensor<f32>,
    frames: u32,
    epsilon: f32,
    #[comptime] form: Form,
    #[comptime] running: bool,
) {
    let channels = mean.len();
    if ABSOLUTE_POS < y.len() {
        let channel = ABSOLUTE_POS % channels;
        let row = ABSOLUTE_POS / channels;
        let mut inverse = rest[channel];
        if comptime!(running) {
            inverse = 1.0f32 / (inverse + epsilon).sqrt();
        }
        let scale = gamma[channel] * inverse;
        let shift = beta[channel] - mean[channel] * scale;
        let mut value = 0.0f32;
        if is_real(mask, row, form) {
            value = x[ABSOLUTE_POS] * scale + shift;
            if comptime!(form.after != After::Nothing) {
                value = f32::max(value, 0.0f32);
            }
            if comptime!(form.after == After::ReluMax) {
                if row % frames as usize + 1 < frames as usize {
                    if is_real(mask, row + 1, form) {
                        value = f32::max(value, x[ABSOLUTE_POS + channels] * scale + shift);
                    }
                }
            }
        }
        y[ABSOLUTE_POS] = value;
    }
}

/// What a channel's values are multiplied by, and what is added.
#[derive(CubeType, Clone, Copy)]
struct Line {
    scale: f32,
    shift: f32,
}

/// From the gradient after what follows to that of `scale x + shift`, of one value in a real frame. A frame keeps its gradient where it is
/// not below the next, and gets the previous one's where it is above that.
#[cube]
fn slope_at(
    x: &Tensor<f32>,
    mask: &Tensor<f32>,
    gradient: &Tensor<f32>,
    at: usize,
    frames: usize,
    channels: usize,
    line: Line,
    #[comptime] form: Form,
) -> f32 {
    let Line { scale, shift } = line;
    let row = at / channels;
    let mut slope = gradient[at];
    if comptime!(form.after == After::ReluMax) {
        if row % frames + 1 < frames {
            if is_real(mask, row + 1, form) {
                if x[at] * scale < x[at + channels] * scale {
                    slope = 0.0f32;
                }
            }
        }
        if row % frames >= 1 {
            if x[at] * scale > x[at - channels] * scale {
                slope += gradient[at - channels];
            }
        }
    }
    if comptime!(form.after != After::Nothing) {
        if x[at] * scale + shift <= 0.0f32 {
            slope = 0.0f32;
        }
    }
    slope
}

/// Over parts of the rows, `[parts, 2, channels]`, the sums of the gradient of `scale x + shift` and of that times `x - mean`.
#[cube(launch)]
fn frame_slopes(
    x: &Tensor<f32>,
    mask: &Tensor<f32>,
    gradient: &Tensor<f32>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    mean: &Tensor<f32>,
    rest: &Tensor<f32>,
    found: &mut Tensor<f32>,
    rows: u32,
    frames: u32,
    parts: u32,
    #[comptime] form: Form,
) {
    let unit = UNIT_POS_X as usize;
    let lane = unit / comptime!(COLUMNS);
    let channel = CUBE_POS_X as usize * comptime!(COLUMNS) + unit % comptime!(COLUMNS);
    let (rows, frames, parts) = (rows as usize, frames as usize, parts as usize);
    let channels = mean.len();
    let mut sum = 0.0f32;
    let mut product = 0.0f32;
    if channel < channels {
        let scale = gamma[channel] * rest[channel];
        let centre = mean[channel];
        let shift = beta[channel] - centre * scale;
        let mut row = CUBE_POS_Y as usize * comptime!(ROWS) + lane;
        while row < rows {
            if is_real(mask, row, form) {
                let slope = slope_at(
                    x,
                    mask,
                    gradient,
                    row * channels + channel,
                    frames,
                    channels,
                    Line { scale, shift },
                    form,
                );
                sum += slope;
                product += slope * (x[row * channels + channel] - centre);
            }
            row += parts * comptime!(ROWS);
        }
    }
    let sum = sum_of_column(sum);
    let product = sum_of_column(product);
    if lane == 0 && channel < channels {
        let at = CUBE_POS_Y as usize * 2 * channels + channel;
        found[at] = sum;
        found[at + channels] = product;
    }
}

/// The gradients of scale and offset: what the parts come to, a unit for each channel.
#[cube(launch)]
fn frame_slopes_total(
    found: &Tensor<f32>,
    rest: &Tensor<f32>,
    for_gamma: &mut Tensor<f32>,
    for_beta: &mut Tensor<f32>,
    parts: u32,
) {
    let channel = ABSOLUTE_POS;
    let channels = for_gamma.len();
    if channel < channels {
        let mut sum = 0.0f32;
        let mut product = 0.0f32;
        for part in 0..parts as usize {
            let at = part * 2 * channels + channel;
            sum += found[at];
            product += found[at + channels];
        }
        for_beta[channel] = sum;
        for_gamma[channel] = product * rest[channel];
    }
}

/// The gradient of `x`, zero in the padding.
#[cube(launch)]
fn frames_back(
    x: &Tensor<f32>,
    mask: &Tensor<f32>,
    gradient: &Tensor<f32>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    mean: &Tensor<f32>,
    rest: &Tensor<f32>,
    for_gamma: &Tensor<f32>,
    for_beta: &Tensor<f32>,
    for_x: &mut Tensor<f32>,
    frames: u32,
    #[comptime] form: Form,
) {
    let channels = mean.len();
    if ABSOLUTE_POS < for_x.len() {
        let channel = ABSOLUTE_POS % channels;
        let row = ABSOLUTE_POS / channels;
        let mut value = 0.0f32;
        if is_real(mask, row, form) {
            let inverse = rest[channel];
            let count = rest[channels + channel];
            let scale = gamma[channel] * inverse;
            let shift = beta[channel] - mean[channel] * scale;
            let slope =
                slope_at(x, mask, gradient, ABSOLUTE_POS, frames as usize, channels, Line { scale, shift }, form);
            let normalised = (x[ABSOLUTE_POS] - mean[channel]) * inverse;
            value = scale * (slope - (for_beta[channel] + normalised * for_gamma[channel]) / count);
        }
        for_x[ABSOLUTE_POS] = value;
    }
}

/// Cubes that take so many channels in parts of the rows.
fn in_parts(channels: usize, parts: usize) -> CubeCount {
    CubeCount::Static(channels.div_ceil(COLUMNS) as u32, parts as u32, 1)
}

/// See [`super::norm::Norms::masked_norm`].
pub(super) fn masked_norm(operands: [CubeTensor; 4], epsilon: f32, form: Form) -> [CubeTensor; 4] {
    let [x, mask, gamma, beta] = operands.map(into_contiguous);
    let [batch, frames, channels] = shape(&x);
    let (rows, parts) = (batch * frames, parts(batch * frames));
    let found = empty(&x, &[parts, 3, channels]);
    let client = x.client.clone();
    frame_moments::launch(
        &client,
        in_parts(channels, parts),
        CubeDim::new_1d((ROWS * COLUMNS) as u32),
        x.clone().into_tensor_arg(),
        mask.clone().into_tensor_arg(),
        found.clone().into_tensor_arg(),
        rows as u32,
        channels as u32,
        parts as u32,
        Form { after: After::Nothing, ..form },
    );
    let [mean, variance] = [(); 2].map(|()| empty(&x, &[channels]));
    let rest = empty(&x, &[2, channels]);
    frame_statistics::launch(
        &client,
        cubes(&mean),
        CubeDim::new_1d(UNITS),
        found.into_tensor_arg(),
        mean.clone().into_tensor_arg(),
        variance.clone().into_tensor_arg(),
        rest.clone().into_tensor_arg(),
        parts as u32,
        epsilon,
    );
    let y = normalised([x, mask, gamma, beta, mean.clone(), rest.clone()], epsilon, form, false);
    [y, mean, variance, rest]
}

/// See [`super::norm::Norms::running_norm`].
pub(super) fn running_norm(operands: [CubeTensor; 6], epsilon: f32, form: Form) -> CubeTensor {
    normalised(operands.map(into_contiguous), epsilon, form, true)
}

fn normalised(operands: [CubeTensor; 6], epsilon: f32, form: Form, running: bool) -> CubeTensor {
    let [x, mask, gamma, beta, mean, rest] = operands;
    let [batch, frames, channels] = shape(&x);
    let y = empty(&x, &[batch, frames, channels]);
    frames_normalised::launch(
        &y.client,
        cubes(&y),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        mask.into_tensor_arg(),
        gamma.into_tensor_arg(),
        beta.into_tensor_arg(),
        mean.into_tensor_arg(),
        rest.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        frames as u32,
        epsilon,
        form,
        running,
    );
    y
}

/// See [`super::norm::Norms::masked_norm_back`].
pub(super) fn masked_norm_back(operands: [CubeTensor; 7], form: Form) -> [CubeTensor; 3] {
    let [gradient, x, mask, gamma, beta, mean, rest] = operands.map(into_contiguous);
    let [batch, frames, channels] = shape(&x);
    let (rows, parts) = (batch * frames, parts(batch * frames));
    let found = empty(&x, &[parts, 2, channels]);
    let client = x.client.clone();
    frame_slopes::launch(
        &client,
        in_parts(channels, parts),
        CubeDim::new_1d((ROWS * COLUMNS) as u32),
        x.clone().into_tensor_arg(),
        mask.clone().into_tensor_arg(),
        gradient.clone().into_tensor_arg(),
        gamma.clone().into_tensor_arg(),
        beta.clone().into_tensor_arg(),
        mean.clone().into_tensor_arg(),
        rest.clone().into_tensor_arg(),
        found.clone().into_tensor_arg(),
        rows as u32,
        frames as u32,
        parts as u32,
        form,
    );
    let [for_gamma, for_beta] = [(); 2].map(|()| empty(&x, &[channels]));
    frame_slopes_total::launch(
        &client,
        cubes(&for_gamma),
        CubeDim::new_1d(UNITS),
        found.into_tensor_arg(),
        rest.clone().into_tensor_arg(),
        for_gamma.clone().into_tensor_arg(),
        for_beta.clone().into_tensor_arg(),
        parts as u32,
    );
    let for_x = empty(&x, &[batch, frames, channels]);
    frames_back::launch(
        &client,
        cubes(&for_x),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        mask.into_tensor_arg(),
        gradient.into_tensor_arg(),
        gamma.into_tensor_arg(),
        beta.into_tensor_arg(),
        mean.into_tensor_arg(),
        rest.into_tensor_arg(),
        for_gamma.clone().into_tensor_arg(),
        for_beta.clone().into_tensor_arg(),
        for_x.clone().into_tensor_arg(),
        frames as u32,
        form,
    );
    [for_x, for_gamma, for_beta]
}
