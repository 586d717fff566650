//! Signal processing as pure functions over slices and arrays: no files, no tensors, no logging.
//!
//! Arrays are time-major, `[frames, bins]` or `[frames, bands]`. Logarithms are natural unless decibels are named.

pub mod emphasis;
mod frame_pair;
pub mod griffin_lim;
pub mod mel;
pub mod mel_inverse;
pub mod pghi;
pub mod phase;
mod projection;
pub mod stft;
pub mod trim;

use realfft::FftNum;

/// A real sample type: `f32`, or `f64` where a tolerance needs it.
pub trait Real: FftNum + Into<f64> {
    /// `value` rounded to this type.
    fn of(value: f64) -> Self;
}

impl<T: FftNum + Into<f64>> Real for T {
    fn of(value: f64) -> Self {
        T::from_f64(value).expect("f32 and f64 take any f64, if only as an infinity")
    }
}
