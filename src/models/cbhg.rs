//! CBHG: convolution bank, highway layers, bidirectional GRU; here from mel bands to linear frequency bins.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::require_size;
use crate::Result;
use crate::nn::{After, BatchStatistics, BiGru, ConvBank, Highway, Init, Lengths, MaskedBatchNorm, TimeConv, dense};

/// Sizes of a [`Cbhg`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CbhgConfig {
    /// Mel bands of the input.
    pub n_mels: usize,
    /// Frequency bins of the output.
    pub bins: usize,
    /// Widths 1 to `bank_size` of the convolution bank.
    pub bank_size: usize,
    /// Channels of each convolution and of the highway layers.
    pub channels: usize,
    /// Number of highway layers.
    pub highway_layers: usize,
    /// Cells of the GRU in each direction.
    pub gru_cells: usize,
    /// Whether the last layer starts near zero: for a network that corrects an estimate rather than making one.
    pub small_output: bool,
}

impl CbhgConfig {
    /// Checks that no size is zero or absurd.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the flags.
    pub fn validate(&self) -> Result<()> {
        require_size("--n-filterbank", self.n_mels, 1, 4096)?;
        require_size("--n-fft", 2 * self.bins.saturating_sub(1), 2, 1 << 16)?;
        require_size("--bank-size", self.bank_size, 1, 64)?;
        require_size("--channels", self.channels, 1, 4096)?;
        require_size("--highway-layers", self.highway_layers, 0, 64)?;
        require_size("--gru-cells", self.gru_cells, 1, 4096)
    }

    /// A new model, its parameters a function of `seed`.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, seed: u64, device: &Device) -> Cbhg {
        self.validate().expect("sizes are validated before a model is made");
        let init = &mut Init::new(seed, device);
        let channels = self.channels;
        let mut output = init.linear(2 * self.gru_cells, self.bins);
        if self.small_output {
            output.weight = init.normal([2 * self.gru_cells, self.bins], 0.01 / (2.0 * self.gru_cells as f64).sqrt());
            output.bias = Some(init.constant([self.bins], 0.0));
        }
        Cbhg {
            bank: ConvBank::new(self.n_mels, channels, self.bank_size, init),
            bank_norm: MaskedBatchNorm::new(self.bank_size * channels, init),
            project_down: TimeConv::new(self.bank_size * channels, channels, 3, init),
            down_norm: MaskedBatchNorm::new(channels, init),
            project_back: TimeConv::new(channels, self.n_mels, 3, init),
            back_norm: MaskedBatchNorm::new(self.n_mels, init),
            widen: init.linear(self.n_mels, channels),
            highway: (0..self.highway_layers).map(|_| Highway::new(channels, init)).collect(),
            gru: BiGru::new(channels, self.gru_cells, init),
            output,
        }
    }
}

/// The network of Wang et al. 2017 ("Tacotron", section 3.1), whose post-processing net it was.
#[derive(Module, Debug)]
pub struct Cbhg {
    bank: ConvBank,
    bank_norm: MaskedBatchNorm,
    project_down: TimeConv,
    down_norm: MaskedBatchNorm,
    project_back: TimeConv,
    back_norm: MaskedBatchNorm,
    widen: Linear,
    highway: Vec<Highway>,
    gru: BiGru,
    output: Linear,
}

impl Cbhg {
    /// Inference: batch normalisation uses the running statistics.
    ///
    /// # Shapes
    /// `[batch, frames, mels] -> [batch, frames, bins]`; what comes back in the padding means nothing.
    pub fn forward(&self, x: Tensor<3>, lengths: &Lengths) -> Tensor<3> {
        self.layers(x, lengths, |norm, x, after| norm.forward(x, lengths, after))
    }

    /// Training: batch normalisation uses this batch's statistics and updates the running ones.
    ///
    /// # Shapes
    /// As [`forward`](Self::forward).
    pub fn forward_train(&mut self, x: Tensor<3>, lengths: &Lengths) -> Tensor<3> {
        let mut statistics = Vec::new();
        let y = self.layers(x, lengths, |norm, x, after| norm.forward_train(x, lengths, after, &mut statistics));
        self.absorb(statistics);
        y
    }

    fn layers(
        &self,
        x: Tensor<3>,
        lengths: &Lengths,
        mut norm: impl FnMut(&MaskedBatchNorm, Tensor<3>, After) -> Tensor<3>,
    ) -> Tensor<3> {
        let x = lengths.zero_padding(x);
        let h = norm(&self.bank_norm, self.bank.forward(x.clone()), After::ReluMax); // [batch, frames, bank_size * channels]
        let h = norm(&self.down_norm, self.project_down.forward(h), After::Relu); // [batch, frames, channels]
        let h = norm(&self.back_norm, self.project_back.forward(h), After::Nothing); // [batch, frames, mels]
        let mut h = dense(&self.widen, h + x, None); // [batch, frames, channels]
        for layer in &self.highway {
            h = layer.forward(h);
        }
        dense(&self.output, self.gru.forward(h, lengths), None) // [batch, frames, bins]
    }

    fn absorb(&mut self, statistics: Vec<BatchStatistics>) {
        let norms = [&mut self.bank_norm, &mut self.down_norm, &mut self.back_norm];
        for (norm, batch) in norms.into_iter().zip(statistics) {
            norm.absorb(batch);
        }
    }
}
