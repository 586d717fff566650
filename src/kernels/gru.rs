//! GRU over whole sequences, its way back through time written out.

use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::{Work, sigmoid, tanh, vectorized};
use super::matrix::{Blocks, Matrix, Mode, Threads, add, column_sums, multiply};
use super::memory::zeros;
use super::tape::{Kernel, apply};

/// Sequences that one task carries through time.
const CHUNK: usize = 32;

/// Bidirectional GRU; see [`gru`].
#[derive(Clone, Debug)]
struct Gru {
    inputs: usize,
    cells: usize,
    frames: usize,
    lengths: Vec<usize>,
}

/// One direction of some sequences.
#[derive(Clone, Debug)]
struct GruPart {
    direction: usize,
    /// The first of its sequences, and how many.
    first: usize,
    count: usize,
    /// `[frames, count, 4 * cells]`: reset, update, new, and the recurrent product that the reset gate scaled.
    gates: Vec<f32>,
    /// `[frames, count, cells]`: the state before each step.
    states: Vec<f32>,
}

impl Gru {
    fn parts(&self) -> Vec<(usize, usize, usize)> {
        let firsts = (0..self.lengths.len()).step_by(CHUNK);
        let spans = firsts.map(|first| (first, CHUNK.min(self.lengths.len() - first)));
        spans.flat_map(|(first, count)| (0..2).map(move |direction| (direction, first, count))).collect()
    }

    /// The frame that a direction reaches at `step`, if the sequence is that long.
    fn frame(&self, direction: usize, sequence: usize, step: usize) -> Option<usize> {
        let length = self.lengths[sequence];
        (step < length).then(|| if direction == 0 { step } else { length - 1 - step })
    }

    /// One direction's share of a parameter that begins with the direction.
    fn half<'a>(&self, values: &'a [f32], direction: usize) -> &'a [f32] {
        let half = values.len() / 2;
        &values[direction * half..(direction + 1) * half]
    }

    /// One direction's weights of the recurrent products.
    fn recurrent<'a>(&self, wh: &'a [f32], direction: usize) -> Matrix<'a> {
        Matrix::new(self.half(wh, direction), self.cells, 3 * self.cells)
    }

    /// The part's gates and states, and its states after each frame `[count, frames, cells]`.
    fn run(&self, part: (usize, usize, usize), inputs: [&[f32]; 4], wh: &Blocks) -> (GruPart, Vec<f32>) {
        let (direction, first, count) = part;
        let [x, wi, bi, bh] = inputs;
        let (cells, frames, gates3) = (self.cells, self.frames, 3 * self.cells);
        let [wi, bi, bh] = [wi, bi, bh].map(|values| self.half(values, direction));
        let x = &x[first * frames * self.inputs..][..count * frames * self.inputs];
        let mut projected = bi.repeat(count * frames);
        let (x, wi) = (Matrix::new(x, count * frames, self.inputs), Matrix::new(wi, self.inputs, gates3));
        multiply(x, wi, &mut projected, gates3, Mode::Add, Threads::One);

        let mut gates = vec![0.0; frames * count * 4 * cells];
        let mut states = vec![0.0; frames * count * cells];
        let mut output = vec![0.0; count * frames * cells];
        let mut state = vec![0.0; count * cells];
        let mut recurrent = vec![0.0; count * gates3];
        for step in 0..frames {
            states[step * count * cells..][..count * cells].copy_from_slice(&state);
            for row in recurrent.chunks_exact_mut(gates3) {
                row.copy_from_slice(bh);
            }
            if step > 0 {
                wh.multiply(Matrix::new(&state, count, cells), &mut recurrent, gates3, Mode::Add);
            }
            for row in 0..count {
                let Some(frame) = self.frame(direction, first + row, step) else { continue };
                let input = &projected[(row * frames + frame) * gates3..][..gates3];
                let recurrent = &recurrent[row * gates3..][..gates3];
                let gates = &mut gates[(step * count + row) * 4 * cells..][..4 * cells];
                let state = &mut state[row * cells..][..cells];
                vectorized(GruStep { input, recurrent, gates, state: &mut *state });
                output[(row * frames + frame) * cells..][..cells].copy_from_slice(state);
            }
        }
        (GruPart { direction, first, count, gates, states }, output)
    }

    /// Gradients at the gates of one part: of the projected input `[count, frames, 3 * cells]` and of the recurrent products
    /// `[frames, count, 3 * cells]`; `wh` transposed.
    fn back(&self, part: &GruPart, wh: &Blocks, gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let &GruPart { direction, first, count, .. } = part;
        let (cells, frames, gates3) = (self.cells, self.frames, 3 * self.cells);
        let mut projected = vec![0.0; count * frames * gates3];
        let mut recurrent = vec![0.0; frames * count * gates3];
        let mut state = vec![0.0; count * cells];
        for step in (0..frames).rev() {
            let at_step = &mut recurrent[step * count * gates3..][..count * gates3];
            for row in 0..count {
                let Some(frame) = self.frame(direction, first + row, step) else { continue };
                let gates = &part.gates[(step * count + row) * 4 * cells..][..4 * cells];
                let previous = &part.states[(step * count + row) * cells..][..cells];
                let output = &gradient[((first + row) * frames + frame) * 2 * cells + direction * cells..][..cells];
                let projected = &mut projected[(row * frames + frame) * gates3..][..gates3];
                let recurrent = &mut at_step[row * gates3..][..gates3];
                let state = &mut state[row * cells..][..cells];
                vectorized(GruBack { gates, previous, output, projected, recurrent, state });
            }
            if step > 0 {
                wh.multiply(Matrix::new(at_step, count, gates3), &mut state, cells, Mode::Add);
            }
        }
        (projected, recurrent)
    }
}

/// `state` becomes the next state.
struct GruStep<'a> {
    input: &'a [f32],
    recurrent: &'a [f32],
    gates: &'a mut [f32],
    state: &'a mut [f32],
}

impl Work for GruStep<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { input, recurrent, gates, state } = self;
        let n = state.len();
        let (xr, xz, xn) = (&input[..n], &input[n..2 * n], &input[2 * n..3 * n]);
        let (hr, hz, hn) = (&recurrent[..n], &recurrent[n..2 * n], &recurrent[2 * n..3 * n]);
        let (r, rest) = gates.split_at_mut(n);
        let (z, rest) = rest.split_at_mut(n);
        let (new, product) = rest.split_at_mut(n);
        let product = &mut product[..n];
        for j in 0..n {
            r[j] = sigmoid(xr[j] + hr[j]);
            z[j] = sigmoid(xz[j] + hz[j]);
            product[j] = hn[j];
            new[j] = tanh(xn[j] + r[j] * hn[j]);
            state[j] = new[j] + z[j] * (state[j] - new[j]);
        }
    }
}

/// `state` is the gradient that later steps send to the state after this one, and becomes the part of that before it which
/// does not pass through the recurrent product.
struct GruBack<'a> {
    gates: &'a [f32],
    previous: &'a [f32],
    output: &'a [f32],
    projected: &'a mut [f32],
    recurrent: &'a mut [f32],
    state: &'a mut [f32],
}

impl Work for GruBack<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { gates, previous, output, projected, recurrent, state } = self;
        let n = state.len();
        let (r, z, new, product) = (&gates[..n], &gates[n..2 * n], &gates[2 * n..3 * n], &gates[3 * n..4 * n]);
        let (previous, output) = (&previous[..n], &output[..n]);
        let (pr, rest) = projected.split_at_mut(n);
        let (pz, pn) = rest.split_at_mut(n);
        let (qr, rest) = recurrent.split_at_mut(n);
        let (qz, qn) = rest.split_at_mut(n);
        let (pn, qn) = (&mut pn[..n], &mut qn[..n]);
        for j in 0..n {
            let d = state[j] + output[j];
            let dn = d * (1.0 - z[j]) * (1.0 - new[j] * new[j]);
            let dz = d * (previous[j] - new[j]) * z[j] * (1.0 - z[j]);
            let dr = dn * product[j] * r[j] * (1.0 - r[j]);
            (pr[j], pz[j], pn[j]) = (dr, dz, dn);
            (qr[j], qz[j], qn[j]) = (dr, dz, dn * r[j]);
            state[j] = d * z[j];
        }
    }
}

impl Kernel<5> for Gru {
    type Saved = Arc<Vec<GruPart>>;

    fn forward(&self, [x, wi, wh, bi, bh]: [&[f32]; 5]) -> (Vec<f32>, Vec<usize>, Self::Saved) {
        let (frames, cells) = (self.frames, self.cells);
        let wh = [0, 1].map(|direction| Blocks::new(self.recurrent(wh, direction)));
        let run = |part: (usize, usize, usize)| self.run(part, [x, wi, bi, bh], &wh[part.0]);
        let done: Vec<(GruPart, Vec<f32>)> = self.parts().into_par_iter().map(run).collect();
        let mut output = zeros(self.lengths.len() * frames * 2 * cells);
        let mut parts = Vec::with_capacity(done.len());
        for (part, states) in done {
            let rows = output[part.first * frames * 2 * cells..].chunks_exact_mut(2 * cells);
            for (to, from) in rows.zip(states.chunks_exact(cells)) {
                to[part.direction * cells..][..cells].copy_from_slice(from);
            }
            parts.push(part);
        }
        (output, vec![self.lengths.len(), frames, 2 * cells], parts.into())
    }

    fn backward(
        &self,
        [x, wi, wh, bi, bh]: [&[f32]; 5],
        _: &[f32],
        parts: &Self::Saved,
        gradient: &[f32],
        wanted: [bool; 5],
    ) -> [Option<Vec<f32>>; 5] {
        let (frames, cells, gates3) = (self.frames, self.cells, 3 * self.cells);
        let transposed = [0, 1].map(|direction| Blocks::new(self.recurrent(wh, direction).transposed()));
        let done: Vec<_> =
            parts.par_iter().map(|part| self.back(part, &transposed[part.direction], gradient)).collect();
        let mut found =
            [vec![0.0; x.len()], vec![0.0; wi.len()], vec![0.0; wh.len()], vec![0.0; bi.len()], vec![0.0; bh.len()]];
        for (part, (projected, recurrent)) in parts.iter().zip(&done) {
            let &GruPart { direction, first, count, .. } = part;
            let rows = count * frames;
            let [for_x, for_wi, for_wh, for_bi, for_bh] = &mut found;
            let span = first * frames * self.inputs..(first + count) * frames * self.inputs;
            let at_input = Matrix::new(projected, rows, gates3);
            if wanted[0] {
                let wi = Matrix::new(self.half(wi, direction), self.inputs, gates3).transposed();
                multiply(at_input, wi, &mut for_x[span.clone()], self.inputs, Mode::Add, Threads::All);
            }
            let x = Matrix::new(&x[span], rows, self.inputs).transposed();
            let for_wi = &mut for_wi[direction * self.inputs * gates3..][..self.inputs * gates3];
            multiply(x, at_input, for_wi, gates3, Mode::Add, Threads::All);
            let states = Matrix::new(&part.states, rows, cells).transposed();
            let for_wh = &mut for_wh[direction * cells * gates3..][..cells * gates3];
            multiply(states, Matrix::new(recurrent, rows, gates3), for_wh, gates3, Mode::Add, Threads::All);
            add(&mut for_bi[direction * gates3..][..gates3], &column_sums(projected, gates3));
            add(&mut for_bh[direction * gates3..][..gates3], &column_sums(recurrent, gates3));
        }
        found.map(Some)
    }
}

/// Bidirectional GRU from states of zeros, the backward direction from each sequence's last real frame; zeros in the padding.
///
/// # Shapes
/// `x` `[batch, frames, inputs]`, weights `[2, inputs, 3 * cells]` and `[2, cells, 3 * cells]`, biases `[2, 1, 3 * cells]` (gates: reset,
/// update, new) to `[batch, frames, 2 * cells]`.
pub(crate) fn gru(x: Tensor<3>, weights: [Tensor<3>; 2], biases: [Tensor<3>; 2], lengths: &[usize]) -> Tensor<3> {
    let [_, frames, inputs] = x.dims();
    let cells = weights[1].dims()[1];
    let ([wi, wh], [bi, bh]) = (weights, biases);
    let kernel = Gru { inputs, cells, frames, lengths: lengths.to_vec() };
    apply(kernel, [x.into(), wi.into(), wh.into(), bi.into(), bh.into()]).0
}
