//! Log-mel spectrograms to sound.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::{Array2, ArrayView2, s};

use crate::audio::Waveform;
use crate::data::{LinearEstimate, Standardizer, require_same};
use crate::dsp::emphasis::de_emphasis_on;
use crate::dsp::mel::MelFilterbank;
use crate::dsp::mel_inverse::joint_reconstruct;
use crate::dsp::phase::{Phase, PhaseConfig, reconstruct_ranges};
use crate::dsp::stft::Stft;
use crate::features::{FeatureConfig, Frames};
use crate::models::Cbhg;
use crate::nn::Lengths;
use crate::run::{Checkpoint, InverterRecipe, ModelConfig, Objective, load_parameters, values};
use crate::{Error, Result};

/// Frames that the network sees beyond each end of those it is asked for: more than its convolutions reach, and enough for its
/// GRU to forget where it began.
const CONTEXT: usize = 100;

/// How log power becomes sound.
#[derive(Clone, Debug)]
pub struct VocoderConfig {
    /// How phases are found.
    pub phase: PhaseConfig,
    /// Log power is multiplied by this, and phases are found for that spectrum. `None`: by [`Phase::PghiFast`], spectrum and
    /// phases are found together, so that the sound keeps to the mel bands; by others, and for a network of the workshop's
    /// recipe, as 1 and 1.2.
    pub emphasis: Option<f32>,
    /// Scales the sound so that this is its largest absolute value. `None`: the source's gain.
    pub peak: Option<f32>,
}

/// Mel to linear to wave.
pub struct Vocoder {
    config: VocoderConfig,
    features: FeatureConfig,
    filterbank: MelFilterbank,
    estimate: LinearEstimate,
    network: Option<Network>,
    /// Whether it is given linear spectra, so that there is nothing to invert.
    exact: bool,
    stft: Stft<f32>,
}

struct Network {
    model: Cbhg,
    recipe: InverterRecipe,
    standardizer: Standardizer,
    device: Device,
}

impl Vocoder {
    /// Without a network: the KL mel inverse, by [`Phase::PghiFast`] inside the phase iteration.
    ///
    /// # Errors
    /// If the feature configuration is impossible.
    pub fn without_network(features: &FeatureConfig, config: VocoderConfig) -> Result<Self> {
        features.validate()?;
        Ok(Self {
            config,
            filterbank: features.filterbank()?,
            estimate: LinearEstimate::new(features)?,
            network: None,
            exact: false,
            stft: Stft::new(features.n_fft, features.hop_size, features.pad_mode),
            features: features.clone(),
        })
    }

    /// Phases alone: what [`sound`](Self::sound) takes is the linear ln power spectrum, `[frames, bins]`.
    ///
    /// # Errors
    /// If the feature configuration is impossible.
    pub fn exact(features: &FeatureConfig, config: VocoderConfig) -> Result<Self> {
        Ok(Self { exact: true, ..Self::without_network(features, config)? })
    }

    /// With the network of the newest checkpoint of a run, or of a checkpoint folder.
    ///
    /// # Errors
    /// If there is none, it cannot be read, or it is not an inverter's.
    pub fn open(dir: &Path, config: VocoderConfig, device: &Device) -> Result<Self> {
        let (checkpoint, tensors) = Checkpoint::with_model(dir)?;
        let (ModelConfig::Cbhg(model), Objective::SpectrumL1 { recipe, .. }) =
            (checkpoint.require("inverter")?.clone(), &checkpoint.about.config.objective)
        else {
            return Err(Error::file(&checkpoint.path, "its model and its objective contradict each other"));
        };
        model.validate()?;
        let network = Network {
            model: load_parameters(model.init(0, device), &tensors, &checkpoint.model_path())?,
            recipe: *recipe,
            standardizer: checkpoint.about.standardizer.clone(),
            device: device.clone(),
        };
        let plain = Self::without_network(&checkpoint.about.config.features, config)?;
        Ok(Self { network: Some(network), ..plain })
    }

    /// The features whose log-mels this vocoder understands.
    pub fn features(&self) -> &FeatureConfig {
        &self.features
    }

    /// Checks that log-mels of `features` can be given to this vocoder.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming every difference.
    pub fn require(&self, features: &FeatureConfig, mine: &Path, theirs: &Path) -> Result<()> {
        require_same(&self.features, features, mine, theirs)
    }

    /// The linear ln power spectrum; what is given, if that is it.
    ///
    /// # Shapes
    /// `[frames, mels] -> [frames, bins]`
    pub fn linear(&self, logmel: ArrayView2<f32>) -> Array2<f32> {
        self.linear_within(logmel, 0..logmel.nrows())
    }

    /// [`linear`](Self::linear) of the frames `within` those that are `seen`.
    fn linear_within(&self, seen: ArrayView2<f32>, within: Range<usize>) -> Array2<f32> {
        let here = seen.slice(s![within.clone(), ..]);
        match &self.network {
            _ if self.exact => here.to_owned(),
            None => self.estimate.log_power(here),
            Some(network) if self.is_workshop() => network.predict(seen, within),
            Some(network) => self.estimate.log_power(here) + network.predict(seen, within),
        }
    }

    /// The power of what is given and the linear magnitudes, of a range of frames.
    ///
    /// # Shapes
    /// `[range.len(), mels]`, or as many bins, and `[range.len(), bins]`
    fn spectra(&self, spectrogram: &dyn Frames, range: Range<usize>) -> Result<(Array2<f32>, Array2<f32>)> {
        let context = if self.network.is_some() { CONTEXT } else { 0 };
        let first = range.start.saturating_sub(context);
        let seen = spectrogram.read(first..(range.end + context).min(spectrogram.frames()))?;
        let within = range.start - first..range.end - first;
        let linear = self.features.power(self.linear_within(seen.view(), within.clone()).view());
        let given = seen.slice(s![within, ..]);
        let power = match &self.network {
            // Bands that were clipped are as loud as the network's spectrum has them.
            Some(_) if !self.is_workshop() => {
                self.features.power_beside(given, self.filterbank.apply(linear.view()).view())
            }
            _ => self.features.power(given),
        };
        Ok((power, linear.mapv_into(f32::sqrt)))
    }

    /// What the network itself gives: the spectrum in the workshop's recipe, else the correction; `None` without a network.
    ///
    /// # Shapes
    /// `[frames, mels] -> [frames, bins]`
    pub fn predict(&self, logmel: ArrayView2<f32>) -> Option<Array2<f32>> {
        self.network.as_ref().map(|network| network.predict(logmel, 0..logmel.nrows()))
    }

    /// Whether the sound is to keep to the mel bands, not to one guess at the linear spectrum.
    fn keeps_to_mel(&self) -> bool {
        let free = self.config.emphasis.is_none() && self.config.phase.phase == Phase::PghiFast;
        free && !self.exact && !self.is_workshop()
    }

    fn is_workshop(&self) -> bool {
        self.network.as_ref().is_some_and(|network| network.recipe == InverterRecipe::Workshop)
    }

    /// The sound of a log-mel spectrogram, of a linear one if this is [`exact`](Self::exact); `gain` is what its source was
    /// divided by.
    ///
    /// Sound above full scale is attenuated to it, with a warning.
    ///
    /// # Errors
    /// [`Error::Config`] if there are fewer than two frames: no sound lies between them.
    pub fn sound(&self, logmel: ArrayView2<f32>, gain: f64) -> Result<Waveform> {
        let mut samples = Vec::with_capacity(self.stft.inverse_len(logmel.nrows()));
        self.stream(&logmel, |part| {
            samples.extend_from_slice(part);
            Ok(())
        })?;
        let factor = self.level(samples.iter().fold(0.0, |most, sample| sample.abs().max(most)), gain, None);
        samples.iter_mut().for_each(|sample| *sample *= factor);
        Ok(Waveform { samples, sample_rate: self.features.sample_rate })
    }

    /// Samples of the sound of so many frames.
    pub(super) fn samples(&self, frames: usize) -> usize {
        self.stft.inverse_len(frames)
    }

    /// The [`sound`](Self::sound), part by part and in bounded memory, before it is multiplied by its [`level`](Self::level).
    ///
    /// # Errors
    /// [`Error::Config`] if there are fewer than two frames, and those of `spectrogram` and `give`.
    pub(super) fn stream(&self, spectrogram: &dyn Frames, mut give: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let frames = spectrogram.frames();
        if frames < 2 {
            return Err(Error::Config(
                "a spectrogram of fewer than two frames has no sound: a longer recording is needed".into(),
            ));
        }
        let (stft, phase) = (&self.stft, &self.config.phase);
        let mut previous = 0.0;
        let give = |part: &[f32]| {
            let mut part = part.to_vec();
            de_emphasis_on(&mut part, self.features.preemphasis, &mut previous);
            give(&part)
        };
        if self.keeps_to_mel() {
            let spectra = |range| self.spectra(spectrogram, range);
            return joint_reconstruct(frames, spectra, self.estimate.inverse(), stft, phase, give);
        }
        let emphasis = self.config.emphasis.unwrap_or(if self.is_workshop() { 1.2 } else { 1.0 });
        let magnitude = |range| Ok(self.spectra(spectrogram, range)?.1.mapv_into(|value| value.powf(emphasis)));
        reconstruct_ranges(frames, magnitude, stft, phase, give)
    }

    /// What a sound is multiplied by whose largest absolute value is `peak`, with a warning if it would be beyond full scale.
    /// `source` is what the warning names.
    pub(super) fn level(&self, peak: f32, gain: f64, source: Option<&Path>) -> f32 {
        match self.config.peak {
            Some(wanted) if peak > 0.0 => wanted / peak,
            Some(_) => 1.0,
            None if peak * gain as f32 > 1.0 => {
                let of = source.map_or_else(String::new, |path| format!("{}: ", path.display()));
                tracing::warn!("{of}the sound's peak is {:.2}; it is attenuated to full scale", peak * gain as f32);
                1.0 / peak
            }
            None => gain as f32,
        }
    }
}

impl Network {
    /// What the network says of the frames `within` those that are `seen`.
    ///
    /// # Shapes
    /// `[frames, mels]` -> `[within.len(), bins]`
    fn predict(&self, seen: ArrayView2<f32>, within: Range<usize>) -> Array2<f32> {
        let input = match self.recipe {
            InverterRecipe::Workshop => seen.to_owned(),
            InverterRecipe::Correction => self.standardizer.apply(seen),
        };
        let (frames, mels) = input.dim();
        let x = Tensor::from_data(TensorData::new(input.iter().copied().collect(), [1, frames, mels]), &self.device);
        let output = self.model.forward(x, &Lengths::new(vec![frames], frames, &self.device));
        let bins = output.dims()[2];
        let output = Array2::from_shape_vec((frames, bins), values(output)).expect("the tensor's own shape");
        output.slice_move(s![within, ..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::CbhgConfig;

    /// A vocoder of 80 bands and 513 bins whose network says something else of every bin.
    fn with_some_network(recipe: InverterRecipe) -> Vocoder {
        let features = FeatureConfig::default();
        let config = VocoderConfig { phase: Phase::PghiFast.config(0), emphasis: None, peak: None };
        let model = CbhgConfig {
            n_mels: 80,
            bins: 513,
            bank_size: 2,
            channels: 8,
            highway_layers: 1,
            gru_cells: 8,
            small_output: false,
        };
        let device = Device::flex();
        let standardizer = Standardizer { mean: vec![-6.0; 80], std: 2.0 };
        let network = Network { model: model.init(0, &device), recipe, standardizer, device };
        Vocoder { network: Some(network), ..Vocoder::without_network(&features, config).unwrap() }
    }

    /// Log-mels of which the second half lies at the clip, and the others from there to 14 nats above.
    fn half_clipped() -> Array2<f32> {
        Array2::from_shape_fn((8, 80), |(frame, band)| {
            1e-4f32.ln() + if band < 40 { 0.3 * (frame + band + 1) as f32 } else { 0.0 }
        })
    }

    #[test]
    fn of_clipped_bands_the_network_says_how_loud_they_are_and_of_others_the_features() {
        let vocoder = with_some_network(InverterRecipe::Correction);
        let logmel = half_clipped();
        let (mel, magnitude) = vocoder.spectra(&logmel, 0..8).unwrap();
        let bank = vocoder.features.filterbank().unwrap();
        let mut between = 0;
        for ((frame, band), &found) in mel.indexed_iter() {
            let of = &bank.bands()[band];
            let known: f64 = (of.weights.iter().enumerate())
                .map(|(bin, weight)| weight * f64::from(magnitude[[frame, of.first + bin]]).powi(2))
                .sum();
            let given = f64::from(logmel[[frame, band]]).exp();
            let wanted = if band < 40 {
                let share = (1e-4 / given).powi(2);
                (1.0 - share) * given + share * known.clamp(3e-7, 1e-4)
            } else {
                between += usize::from((3.1e-7..9.9e-5).contains(&known));
                known.clamp(3e-7, 1e-4)
            };
            assert!(
                (f64::from(found) / wanted - 1.0).abs() < 1e-4,
                "frame {frame}, band {band}: {found}, not {wanted}"
            );
        }
        assert!(between > 60, "of {between} of 320 clipped bands the network says more than silence");
    }

    #[test]
    fn what_was_clipped_is_silence_where_no_network_corrects_the_mel_inverse() {
        let logmel = half_clipped();
        let plain = with_some_network(InverterRecipe::Workshop);
        for vocoder in [Vocoder::without_network(&plain.features, plain.config.clone()).unwrap(), plain] {
            let mel = vocoder.spectra(&logmel, 0..8).unwrap().0;
            assert!(mel.slice(s![.., 40..]).iter().all(|power| (power / 3e-7 - 1.0).abs() < 1e-4));
        }
    }
}
