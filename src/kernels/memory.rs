//! Large buffers, filled by all threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Values that one task passes over.
pub(super) const BLOCK: usize = 1 << 15;

/// `len` values, made in parallel in chunks of `chunk`: each begins as zeros and is given to `write` with its index.
pub(super) fn build(len: usize, chunk: usize, write: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    let spare = &mut values.spare_capacity_mut()[..len];
    spare.par_chunks_mut(chunk).enumerate().for_each(|(index, part)| write(index, zeroed(part)));
    // SAFETY: the chunks cover the first `len` values, and each was filled.
    unsafe { values.set_len(len) };
    values
}

/// `rows` rows of `len` values, of which `lead` stay zeros, made in parallel in blocks that take `chunk` values of each row: each
/// begins as zeros and is given to `write` with its index, a slice for each row.
pub(super) fn build_blocks(
    rows: usize,
    len: usize,
    lead: usize,
    chunk: usize,
    write: impl Fn(usize, &mut [&mut [f32]]) + Sync,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(rows * len);
    let mut blocks: Vec<Vec<&mut [MaybeUninit<f32>]>> = Vec::new();
    blocks.resize_with((len - lead).div_ceil(chunk), || Vec::with_capacity(rows));
    for row in values.spare_capacity_mut()[..rows * len].chunks_mut(len) {
        let (before, row) = row.split_at_mut(lead);
        zeroed(before);
        blocks.iter_mut().zip(row.chunks_mut(chunk)).for_each(|(block, part)| block.push(part));
    }
    blocks.into_par_iter().enumerate().for_each(|(index, block)| {
        write(index, &mut block.into_iter().map(zeroed).collect::<Vec<_>>());
    });
    // SAFETY: lead and blocks cover the rows, and each was filled.
    unsafe { values.set_len(rows * len) };
    values
}

fn zeroed(part: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    part.fill(MaybeUninit::new(0.0));
    // SAFETY: `MaybeUninit<f32>` has the layout of `f32`, and every value of the part was just written.
    unsafe { &mut *(part as *mut [MaybeUninit<f32>] as *mut [f32]) }
}

/// `len` zeros.
pub(super) fn zeros(len: usize) -> Vec<f32> {
    build(len, BLOCK, |_, _| {})
}
