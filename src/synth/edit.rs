//! Latents changed by hand: set to a value throughout, or moved by one.

use super::Codes;

/// One latent of every segment changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edit {
    /// Which latent, from 0.
    pub latent: usize,
    /// What becomes of it.
    pub change: Change,
}

/// In latent units: the prior's standard deviation is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// It takes this value in every segment.
    Set(f32),
    /// This is added to it in every segment, so that its course is kept.
    Add(f32),
}

impl Edit {
    /// Changes the codes' means.
    ///
    /// # Panics
    /// If there is no such latent.
    pub fn apply(&self, codes: &mut Codes) {
        let mut column = codes.mean.column_mut(self.latent);
        match self.change {
            Change::Set(value) => column.fill(value),
            Change::Add(value) => column += value,
        }
    }
}
