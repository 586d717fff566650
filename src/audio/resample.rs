//! Changing the sample rate, with rubato's synchronous FFT resampler.
//!
//! rubato's stock settings cut blocks so short that the filter falls off far below half the lower rate (-29 dB at
//! 7.6 kHz from 44.1 to 16 kHz). The block lengths here keep 95 % of the band flat.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, ResamplerConstructionError, WindowFunction};

use super::{SAMPLE_RATES, Waveform};
use crate::{Error, Result};

/// Samples per block at the source's rate, at least: the filter is as long, and the longer, the steeper.
const BLOCK: usize = 4096;
/// Samples per block at the target's rate, at least: what keeps the filter steep from high rates.
const BLOCK_OUT: usize = 1536;

/// Pairs of rates whose plans a thread keeps; folders hold one or two.
const MAX_PLANS: usize = 4;

thread_local! {
    /// Planning takes longer than resampling a second of sound does, which is all that many recordings last.
    static PLANS: RefCell<HashMap<(u32, u32), Fft<f32>>> = RefCell::new(HashMap::new());
}

pub(super) fn resample(waveform: &Waveform, rate: u32) -> Result<Waveform> {
    if let Some(bad) = [waveform.sample_rate, rate].into_iter().find(|rate| !SAMPLE_RATES.contains(rate)) {
        let (low, high) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
        return Err(Error::Config(format!("a sample rate of {bad} Hz cannot be resampled; {low} to {high} Hz can")));
    }
    let len = waveform.samples.len();
    if rate == waveform.sample_rate || len == 0 {
        return Ok(Waveform { samples: waveform.samples.clone(), sample_rate: rate });
    }
    let failed = |e: &dyn std::fmt::Display| {
        Error::Config(format!("cannot resample from {} to {rate} Hz: {e}", waveform.sample_rate))
    };
    let input = InterleavedSlice::new(&waveform.samples, 1, len).expect("one channel of len frames is len samples");
    let mut samples = PLANS.with_borrow_mut(|plans| {
        if plans.len() >= MAX_PLANS && !plans.contains_key(&(waveform.sample_rate, rate)) {
            plans.clear();
        }
        let resampler = match plans.entry((waveform.sample_rate, rate)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(plan(waveform.sample_rate, rate).map_err(|e| failed(&e))?),
        };
        // The delay is taken off and the tail is flushed by this call; it starts by forgetting the sound before.
        resampler.process_all(&input, len, None).map(|out| out.take_data()).map_err(|e| failed(&e))
    })?;
    // rubato computes the length in floating point; the definition is exact.
    samples.resize((len * rate as usize).div_ceil(waveform.sample_rate as usize), 0.0);
    Ok(Waveform { samples, sample_rate: rate })
}

/// A resampler whose filter is long enough for both rates.
fn plan(from: u32, to: u32) -> std::result::Result<Fft<f32>, ResamplerConstructionError> {
    let (from, to) = (from as usize, to as usize);
    let block = BLOCK.max((BLOCK_OUT * from).div_ceil(to));
    Fft::new_custom(from, to, block, 1, 1, WindowFunction::BlackmanHarris, FixedSync::Both)
}
