//! Large buffers, filled by all threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Values that one task passes over.
pub(super) const BLOCK: usize = 1 << 15;

/// `len` values, made in parallel in chunks of `chunk`: each begins as zeros and is given to `write` with its index.
pub(super) fn build(len: usize, chunk: usize, write: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    let spare = &mut values.spare_capacity_mut()[..len];
    spare.par_chunks_mut(chunk).enumerate().for_each(|(index, part)| {
        part.fill(MaybeUninit::new(0.0));
        // SAFETY: `MaybeUninit<f32>` has the layout of `f32`, and every value of the part was just written.
        write(index, unsafe { &mut *(part as *mut [MaybeUninit<f32>] as *mut [f32]) });
    });
    // SAFETY: the chunks cover the first `len` values, and each was filled.
    unsafe { values.set_len(len) };
    values
}

/// `len` zeros.
pub(super) fn zeros(len: usize) -> Vec<f32> {
    build(len, BLOCK, |_, _| {})
}
