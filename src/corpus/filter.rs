//! Second-order sections: the resonances and anti-resonances of a vocal tract.
//!
//! # Reference
//! Klatt, "Software for a cascade/parallel formant synthesizer", 1980, equations 1 to 4.

use std::f64::consts::{PI, TAU};

/// A resonance with gain 1 at 0 Hz (or, in [`Resonator::undo`], its inverse). Its frequency may move while it sounds.
#[derive(Debug, Clone, Default)]
pub struct Resonator {
    gain: f64,
    first: f64,
    second: f64,
    /// The two previous outputs, or inputs in `undo`.
    memory: [f64; 2],
}

impl Resonator {
    /// Moves the resonance; both numbers are in cycles per sample, `frequency` below 0.5.
    pub fn tune(&mut self, frequency: f64, bandwidth: f64) {
        let radius = (-PI * bandwidth).exp();
        self.second = -radius * radius;
        self.first = 2.0 * radius * (TAU * frequency).cos();
        self.gain = 1.0 - self.first - self.second;
    }

    /// The next output of the resonance.
    pub fn step(&mut self, input: f64) -> f64 {
        let output = self.gain * input + self.first * self.memory[0] + self.second * self.memory[1];
        self.memory = [output, self.memory[0]];
        output
    }

    /// The next output of the anti-resonance: what [`Resonator::step`] would have needed as input.
    pub fn undo(&mut self, input: f64) -> f64 {
        let output = (input - self.first * self.memory[0] - self.second * self.memory[1]) / self.gain;
        self.memory = [input, self.memory[0]];
        output
    }
}

/// A band of noise around a centre: two resonances of the same frequency, and zeros at 0 Hz and at half the sample rate.
///
/// The second resonance makes the skirts as steep as those of an s; one pair of zeros leaves it its high end.
#[derive(Debug, Clone, Default)]
pub struct Band {
    gain: f64,
    first: f64,
    second: f64,
    inputs: [f64; 2],
    /// The two previous outputs of each resonance.
    outputs: [[f64; 2]; 2],
}

impl Band {
    /// Moves the band; both numbers are in cycles per sample, `centre` below 0.5.
    ///
    /// White noise of variance 1 leaves with a variance below 1, about as much however narrow the band.
    pub fn tune(&mut self, centre: f64, bandwidth: f64) {
        let radius = (-PI * bandwidth).exp();
        self.second = -radius * radius;
        self.first = 2.0 * radius * (TAU * centre).cos();
        // Peaks of 1: first with the zeros, then without.
        let with_zeros = (1.0 - radius * radius) / 2.0;
        let without = (1.0 - radius) * (1.0 - 2.0 * radius * (2.0 * TAU * centre).cos() + radius * radius).sqrt();
        // A peak of 1 passes pi/2 times its width, on both sides of 0.
        self.gain = with_zeros * without / (PI * bandwidth).min(1.0).sqrt();
    }

    /// The next output.
    pub fn step(&mut self, input: f64) -> f64 {
        let mut signal = self.gain * (input - self.inputs[1]);
        self.inputs = [input, self.inputs[0]];
        for memory in &mut self.outputs {
            signal += self.first * memory[0] + self.second * memory[1];
            *memory = [signal, memory[0]];
        }
        signal
    }
}
