//! Windows on a grid: a convolution unfolds the grid into what each window sees, and is one matrix product then. Its mirror folds
//! what a product gives, adding windows up where they overlap.
//!
//! Channels come last, so that a window's row of taps is one stretch of memory.

/// How windows lie on a grid `[rows, columns]`, whose border is padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Rows and columns of the grid.
    pub grid: [usize; 2],
    /// Taps of a window along rows and columns.
    pub taps: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// Zeros before the grid.
    pub before: [usize; 2],
    /// Windows along rows and columns.
    pub count: [usize; 2],
    /// Whether the taps along columns are kept from the last to the first.
    pub mirrored: bool,
}

#[cfg(feature = "cube")]
impl Window {
    /// Windows in all: `[batch * count, taps * channels]`, for a grid of `channels`.
    pub fn unfolded(&self, batch: usize, channels: usize) -> [usize; 2] {
        [batch * self.count[0] * self.count[1], self.taps[0] * self.taps[1] * channels]
    }

    /// The samples whose windows these are, for as many rows and columns of what [`unfolded`](Self::unfolded) gives.
    pub fn folded(&self, rows: usize, columns: usize) -> [usize; 4] {
        let [batch, channels] = [rows / (self.count[0] * self.count[1]), columns / (self.taps[0] * self.taps[1])];
        [batch, self.grid[0], self.grid[1], channels]
    }
}
