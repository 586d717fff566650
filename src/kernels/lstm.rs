//! LSTM over whole sequences, its way back through time written out.

use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::{Work, sigmoid, tanh, vectorized};
use super::matrix::{Blocks, Matrix, Mode, Threads, add, column_sums, multiply};
use super::memory::build;
use super::tape::{Kernel, apply};

/// Sequences that one task carries through time.
const CHUNK: usize = 32;

/// LSTM; see [`lstm`].
#[derive(Clone, Debug)]
struct Lstm {
    batch: usize,
    inputs: usize,
    cells: usize,
    frames: usize,
    /// Whether all frames bring the same input.
    repeated: bool,
}

/// Some sequences of an [`Lstm`].
#[derive(Clone, Debug)]
struct LstmPart {
    first: usize,
    count: usize,
    /// `[frames, count, 4 * cells]`: the gates after their activations.
    gates: Vec<f32>,
    /// `[frames + 1, count, cells]`: state and memory before each step, and after the last.
    states: Vec<f32>,
    memory: Vec<f32>,
}

impl Lstm {
    /// Frames of the input.
    fn given(&self) -> usize {
        if self.repeated { 1 } else { self.frames }
    }

    fn given_frame(&self, step: usize) -> usize {
        if self.repeated { 0 } else { step }
    }

    fn run(&self, first: usize, [x, wi, bias]: [&[f32]; 3], wh: &Blocks) -> LstmPart {
        let (cells, frames, gates4, given) = (self.cells, self.frames, 4 * self.cells, self.given());
        let count = CHUNK.min(self.batch - first);
        let x = &x[first * given * self.inputs..][..count * given * self.inputs];
        let mut projected = bias.repeat(count * given);
        let (x, wi) = (Matrix::new(x, count * given, self.inputs), Matrix::new(wi, self.inputs, gates4));
        multiply(x, wi, &mut projected, gates4, Mode::Add, Threads::One);

        let size = count * cells;
        let mut gates = Vec::with_capacity(frames * 4 * size);
        let (mut states, mut memory) = (vec![0.0; (frames + 1) * size], vec![0.0; (frames + 1) * size]);
        for step in 0..frames {
            for row in 0..count {
                gates.extend_from_slice(&projected[(row * given + self.given_frame(step)) * gates4..][..gates4]);
            }
            let gates = &mut gates[step * 4 * size..];
            let (before, after) = states.split_at_mut((step + 1) * size);
            if step > 0 {
                wh.multiply(Matrix::new(&before[step * size..], count, cells), gates, gates4, Mode::Add);
            }
            let (old, new) = memory.split_at_mut((step + 1) * size);
            for row in 0..count {
                let gates = &mut gates[row * gates4..][..gates4];
                let old = &old[step * size + row * cells..][..cells];
                let new = &mut new[row * cells..][..cells];
                let state = &mut after[row * cells..][..cells];
                vectorized(LstmStep { gates, old, new, state });
            }
        }
        LstmPart { first, count, gates, states, memory }
    }

    /// Gradients at the gates, `[frames, count, 4 * cells]`; `wh` transposed.
    fn back(&self, part: &LstmPart, wh: &Blocks, gradient: &[f32]) -> Vec<f32> {
        let (cells, frames, gates4, size) = (self.cells, self.frames, 4 * self.cells, part.count * self.cells);
        let mut at_gates = vec![0.0; frames * 4 * size];
        let (mut state, mut memory) = (vec![0.0; size], vec![0.0; size]);
        for step in (0..frames).rev() {
            let at_step = &mut at_gates[step * 4 * size..][..4 * size];
            for row in 0..part.count {
                let gates = &part.gates[step * 4 * size + row * gates4..][..gates4];
                let old = &part.memory[step * size + row * cells..][..cells];
                let new = &part.memory[(step + 1) * size + row * cells..][..cells];
                let output = &gradient[((part.first + row) * frames + step) * cells..][..cells];
                let state = &state[row * cells..][..cells];
                let memory = &mut memory[row * cells..][..cells];
                let at_gates = &mut at_step[row * gates4..][..gates4];
                vectorized(LstmBack { gates, old, new, gradient: output, state, memory, at_gates });
            }
            if step > 0 {
                wh.multiply(Matrix::new(at_step, part.count, gates4), &mut state, cells, Mode::Set);
            }
        }
        at_gates
    }
}

/// `gates` become their activations.
struct LstmStep<'a> {
    gates: &'a mut [f32],
    old: &'a [f32],
    new: &'a mut [f32],
    state: &'a mut [f32],
}

impl Work for LstmStep<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { gates, old, new, state } = self;
        let n = state.len();
        let (input, rest) = gates.split_at_mut(n);
        let (forget, rest) = rest.split_at_mut(n);
        let (candidate, output) = rest.split_at_mut(n);
        let (output, old, new) = (&mut output[..n], &old[..n], &mut new[..n]);
        for j in 0..n {
            input[j] = sigmoid(input[j]);
            forget[j] = sigmoid(forget[j]);
            candidate[j] = tanh(candidate[j]);
            output[j] = sigmoid(output[j]);
            new[j] = forget[j] * old[j] + input[j] * candidate[j];
            state[j] = output[j] * tanh(new[j]);
        }
    }
}

/// `state` is the gradient that later steps send to the state after this one; `memory` that to the memory, and becomes that
/// to the memory before.
struct LstmBack<'a> {
    gates: &'a [f32],
    old: &'a [f32],
    new: &'a [f32],
    gradient: &'a [f32],
    state: &'a [f32],
    memory: &'a mut [f32],
    at_gates: &'a mut [f32],
}

impl Work for LstmBack<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { gates, old, new, gradient, state, memory, at_gates } = self;
        let n = state.len();
        let (input, forget, candidate, output) =
            (&gates[..n], &gates[n..2 * n], &gates[2 * n..3 * n], &gates[3 * n..4 * n]);
        let (old, new, gradient, memory) = (&old[..n], &new[..n], &gradient[..n], &mut memory[..n]);
        let (di, rest) = at_gates.split_at_mut(n);
        let (df, rest) = rest.split_at_mut(n);
        let (dc, dout) = rest.split_at_mut(n);
        let dout = &mut dout[..n];
        for j in 0..n {
            let d = state[j] + gradient[j];
            let level = tanh(new[j]);
            let dm = memory[j] + d * output[j] * (1.0 - level * level);
            di[j] = dm * candidate[j] * input[j] * (1.0 - input[j]);
            df[j] = dm * old[j] * forget[j] * (1.0 - forget[j]);
            dc[j] = dm * input[j] * (1.0 - candidate[j] * candidate[j]);
            dout[j] = d * level * output[j] * (1.0 - output[j]);
            memory[j] = dm * forget[j];
        }
    }
}

impl Kernel<4> for Lstm {
    type Saved = Arc<Vec<LstmPart>>;

    fn forward(&self, [x, wi, wh, bias]: [&[f32]; 4]) -> (Vec<f32>, Vec<usize>, Self::Saved) {
        let (frames, cells) = (self.frames, self.cells);
        let wh = Blocks::new(Matrix::new(wh, cells, 4 * cells));
        let firsts: Vec<usize> = (0..self.batch).step_by(CHUNK).collect();
        let parts: Vec<LstmPart> = firsts.into_par_iter().map(|first| self.run(first, [x, wi, bias], &wh)).collect();
        let output = build(self.batch * frames * cells, frames * cells, |sequence, output| {
            let part = &parts[sequence / CHUNK];
            for (step, to) in output.chunks_exact_mut(cells).enumerate() {
                let from = (step + 1) * part.count + sequence - part.first;
                to.copy_from_slice(&part.states[from * cells..][..cells]);
            }
        });
        (output, vec![self.batch, frames, cells], parts.into())
    }

    fn backward(
        &self,
        [x, wi, wh, bias]: [&[f32]; 4],
        _: &[f32],
        parts: &Self::Saved,
        gradient: &[f32],
        wanted: [bool; 4],
    ) -> [Option<Vec<f32>>; 4] {
        let (frames, cells, gates4, given) = (self.frames, self.cells, 4 * self.cells, self.given());
        let transposed = Blocks::new(Matrix::new(wh, cells, gates4).transposed());
        let done: Vec<Vec<f32>> = parts.par_iter().map(|part| self.back(part, &transposed, gradient)).collect();
        // In the order of x.
        let projected = build(self.batch * given * gates4, given * gates4, |sequence, projected| {
            let (part, at_gates) = (&parts[sequence / CHUNK], &done[sequence / CHUNK]);
            for step in 0..frames {
                let from = &at_gates[(step * part.count + sequence - part.first) * gates4..][..gates4];
                add(&mut projected[self.given_frame(step) * gates4..][..gates4], from);
            }
        });
        let mut for_wh = vec![0.0; wh.len()];
        for (part, at_gates) in parts.iter().zip(&done) {
            let states = Matrix::new(&part.states, frames * part.count, cells).transposed();
            let at_gates = Matrix::new(at_gates, frames * part.count, gates4);
            multiply(states, at_gates, &mut for_wh, gates4, Mode::Add, Threads::All);
        }
        let rows = self.batch * given;
        let at_input = Matrix::new(&projected, rows, gates4);
        let for_x = wanted[0].then(|| {
            let mut out = vec![0.0; x.len()];
            let wi = Matrix::new(wi, self.inputs, gates4).transposed();
            multiply(at_input, wi, &mut out, self.inputs, Mode::Set, Threads::All);
            out
        });
        let mut for_wi = vec![0.0; wi.len()];
        let x = Matrix::new(x, rows, self.inputs).transposed();
        multiply(x, at_input, &mut for_wi, gates4, Mode::Set, Threads::All);
        debug_assert_eq!(bias.len(), gates4);
        [for_x, Some(for_wi), Some(for_wh), Some(column_sums(&projected, gates4))]
    }
}

/// LSTM from a state of zeros, over `frames` frames; an input of one frame is brought again at each.
///
/// # Shapes
/// `x` `[batch, frames or 1, inputs]`, weights `[inputs, 4 * cells]` and `[cells, 4 * cells]`, bias `[4 * cells]` (gates: input, forget,
/// candidate, output) to `[batch, frames, cells]`.
pub(crate) fn lstm(x: Tensor<3>, weights: [Tensor<2>; 2], bias: Tensor<1>, frames: usize) -> Tensor<3> {
    let [batch, given, inputs] = x.dims();
    let [wi, wh] = weights;
    let kernel = Lstm { batch, inputs, cells: wh.dims()[0], frames, repeated: given == 1 };
    apply(kernel, [x.into(), wi.into(), wh.into(), bias.into()]).0
}
