//! The cases: models of default sizes made from a seed, their training tasks over a little data, and signal processing.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ndarray::Array2;
use realfft::num_complex::Complex;
use serde_json::{Value, json};
use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::data::{Augment, Dataset, FeatureSet, PairDataset, Position, Room, SegmentDataset, Standardizer};
use vae_workshop::dsp::phase::{Phase, reconstruct};
use vae_workshop::dsp::stft::{PadMode, Stft};
use vae_workshop::features::{FeatureConfig, FeatureExtractor, FeatureFile, Features};
use vae_workshop::models::{CbhgConfig, ConvVaeConfig, LstmVaeConfig, Scale, Vae, VaeConfig, parameter_count};
use vae_workshop::nn::Lengths;
use vae_workshop::run::{
    AdamConfig, BatchConfig, BetaVae, Clipping, InverterRecipe, ModelConfig, Objective, RunConfig, Schedule,
};
use vae_workshop::synth::{Vocoder, VocoderConfig};
use vae_workshop::train::{InverterTask, Session, Shown, Task, VaeTask, bin_weights};
use vae_workshop::{Error, Result};

use crate::sound;

pub const NAMES: [&str; 16] = [
    "conv-vae",
    "lstm-vae",
    "cbhg-32x128",
    "cbhg-32x400",
    "cbhg-infer-60s",
    "vae-encode-60s",
    "vae-decode-60s",
    "cbhg-batch",
    "stft",
    "mel-inverse",
    "pghi-fast",
    "griffin-lim-50",
    "read-wav",
    "resample-44100",
    "features",
    "write-npz",
];

/// So many of them, the first, are training steps.
pub const TRAINING: usize = 4;

/// Something to do again and again.
pub struct Case {
    /// Trained values of the model; none without a model.
    pub parameters: Option<usize>,
    pub configuration: Value,
    work: Box<dyn Work>,
    device: Device,
}

trait Work {
    fn step(&mut self);
    /// A number that tells what the last step computed.
    fn value(&self) -> Option<f64>;
    fn replays(&self) -> bool {
        false
    }
}

impl Case {
    /// The case of this name, on `device` (without autodiff); signal processing is the CPU's on every device.
    ///
    /// # Errors
    /// If the data cannot be written to a temporary folder.
    ///
    /// # Panics
    /// If no case has the name.
    pub fn open(name: &str, seed: u64, device: &Device) -> Result<Self> {
        match name {
            "conv-vae" => vae(conv_vae(), seed, device),
            "lstm-vae" => vae(
                VaeConfig::Lstm(LstmVaeConfig {
                    segment_frames: 20,
                    n_mels: 80,
                    cells: 256,
                    latents: 32,
                    scale: Scale::Softplus,
                }),
                seed,
                device,
            ),
            "cbhg-32x128" => inverter(BatchConfig { size: 32, frames: 128, augment: None }, seed, device),
            "cbhg-32x400" => inverter(BatchConfig { size: 32, frames: 400, augment: None }, seed, device),
            "cbhg-infer-60s" => Ok(inference(6000, seed, device)),
            "vae-encode-60s" => {
                Ok(network(conv_vae(), [300, 20, 80], seed, device, |vae, x: Tensor<3>| vae.encode(x).mean()))
            }
            "vae-decode-60s" => {
                Ok(network(conv_vae(), [300, 32], seed, device, |vae, z: Tensor<2>| vae.decode(z).mean()))
            }
            "cbhg-batch" => cbhg_batch(device),
            "stft" => Ok(stft(device)),
            "mel-inverse" => mel_inverse(device),
            "pghi-fast" => Ok(phase(Phase::PghiFast, device)),
            "griffin-lim-50" => Ok(phase(Phase::GriffinLim, device)),
            "read-wav" => read_wav(device),
            "resample-44100" => Ok(resample(device)),
            "features" => features(device),
            "write-npz" => write_npz(device),
            other => panic!("there is no case {other}"),
        }
    }

    /// Does it `steps` times and waits for the device.
    pub fn run(&mut self, steps: u32) {
        (0..steps).for_each(|_| self.work.step());
        self.device.sync().expect("the device finishes what it was given");
    }

    /// A loss, or a mean of the result: finite, and the same for the same input.
    pub fn value(&self) -> Option<f64> {
        self.work.value()
    }

    /// Whether a step is one launch of what was recorded on a GPU.
    pub fn replays(&self) -> bool {
        self.work.replays()
    }

    /// What the device's allocator holds, where it says.
    pub fn device_bytes(&self) -> Option<u64> {
        self.device.memory_pool_usage().map(|usage| usage.bytes_reserved)
    }
}

/// The default batch and optimizer of `train-vae`.
fn vae(model: VaeConfig, seed: u64, device: &Device) -> Result<Case> {
    let (set, _folder) = data()?;
    let standardizer = Standardizer::of(&set)?;
    let objective = BetaVae::new(8.0);
    let config = RunConfig {
        model: model.clone().into(),
        objective: Objective::BetaVae(objective.clone()),
        optimizer: AdamConfig::default(),
        schedule: Schedule::constant(1e-3),
        batch: BatchConfig { size: 128, frames: model.segment_frames(), augment: None },
        seed,
        features: set.config().clone(),
        data: set.identity(),
        test_data: None,
        origin: None,
    };
    let load = || SegmentDataset::load(&set, &standardizer, model.segment_frames(), &mut Room::unlimited());
    let (size, latents) = (config.batch.size, model.latents());
    let task = VaeTask::new(load()?, load()?, objective, size, latents, standardizer.std, seed, device)?;
    Ok(training(task, Session::start(model.init(seed, &device.clone().autodiff()), config, standardizer), device))
}

/// The default network and optimizer of `train-inverter`, correction recipe.
fn inverter(batch: BatchConfig, seed: u64, device: &Device) -> Result<Case> {
    let (set, _folder) = data()?;
    let standardizer = Standardizer::of(&set)?;
    let load = || PairDataset::load(&set, Some(&standardizer), &mut Room::unlimited());
    let task = InverterTask::new(load()?, load()?, &batch, bin_weights(set.config(), None), seed, device)?;
    let config = RunConfig {
        model: ModelConfig::Cbhg(cbhg()),
        objective: Objective::SpectrumL1 { recipe: InverterRecipe::Correction, knee: None },
        optimizer: AdamConfig { clipping: Clipping::GlobalNorm(1.0), ..AdamConfig::default() },
        schedule: Schedule::cosine(1e-3, 1e-5, 40_000),
        batch,
        seed,
        features: set.config().clone(),
        data: set.identity(),
        test_data: None,
        origin: None,
    };
    Ok(training(task, Session::start(cbhg().init(seed, &device.clone().autodiff()), config, standardizer), device))
}

fn cbhg() -> CbhgConfig {
    CbhgConfig {
        n_mels: 80,
        bins: 513,
        bank_size: 16,
        channels: 128,
        highway_layers: 4,
        gru_cells: 128,
        small_output: true,
    }
}

fn conv_vae() -> VaeConfig {
    VaeConfig::Conv(ConvVaeConfig { segment_frames: 20, n_mels: 80, channels: [32, 64, 64], hidden: 256, latents: 32 })
}

/// One way through a VAE without training.
fn network<const D: usize, const E: usize>(
    config: VaeConfig,
    shape: [usize; D],
    seed: u64,
    device: &Device,
    forward: fn(&Vae, Tensor<D>) -> Tensor<E>,
) -> Case {
    let trained = config.init(seed, &device.clone().autodiff());
    let (parameters, model) = (Some(parameter_count(&trained)), trained.valid());
    let x = waves(shape, device);
    Case {
        parameters,
        configuration: json!({ "model": ModelConfig::from(config), "input": shape.to_vec() }),
        work: Box::new(Repeated {
            make: move || forward(&model, x.clone()),
            tell: |output: &Tensor<E>| f64::from(output.clone().mean().into_scalar::<f32>()),
            last: None,
        }),
        device: device.clone(),
    }
}

fn waves<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|index| (index as f32 * 0.37).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Forward of one utterance of this length.
fn inference(frames: usize, seed: u64, device: &Device) -> Case {
    let config = cbhg();
    let model = config.init(seed, &device.clone().autodiff()).valid();
    let x: Tensor<3> = waves([1, frames, config.n_mels], device);
    let lengths = Lengths::new(vec![frames], frames, device);
    Case {
        parameters: Some(parameter_count(&config.init(seed, &device.clone().autodiff()))),
        configuration: json!({ "model": config, "frames": frames }),
        work: Box::new(Repeated {
            make: move || model.forward(x.clone(), &lengths),
            tell: |output: &Tensor<3>| f64::from(output.clone().mean().into_scalar::<f32>()),
            last: None,
        }),
        device: device.clone(),
    }
}

/// What one loader thread does for a training step of the inverter, 32 x 128 frames, half of them augmented as by default.
fn cbhg_batch(device: &Device) -> Result<Case> {
    let (set, folder) = data()?;
    let standardizer = Standardizer::of(&set)?;
    let pairs = PairDataset::load(&set, Some(&standardizer), &mut Room::unlimited())?;
    let pairs = pairs.augmented(&set, Augment { share: 0.5, semitones: 3, decibels: 6.0 }, 1)?;
    let items = pairs.items(128).into_iter().filter(|item| item.frames == 128).cycle().take(32).collect::<Vec<_>>();
    let make = move || {
        let _ = &folder; // goes with the case
        pairs.batch(&items, Position::default()).expect("the files stay as they are")
    };
    Ok(plain(device, make, |_| 0.0))
}

fn stft(device: &Device) -> Case {
    let (samples, stft) = (sound::voice(10.0, 130.0).samples, transform());
    plain(device, move || stft.forward(&samples), |spectrum| mean(spectrum.iter().map(|bin: &Complex<f32>| bin.norm())))
}

fn phase(phase: Phase, device: &Device) -> Case {
    let stft = transform();
    let magnitude = stft.forward(&sound::voice(10.0, 130.0).samples).mapv(|bin| bin.norm());
    plain(
        device,
        move || reconstruct(magnitude.view(), &stft, &phase.config(0)),
        |samples: &Vec<f32>| mean(samples.iter().map(|sample| sample.abs())),
    )
}

/// From log-mels to the linear spectrum as `synth` without an inverter has it.
fn mel_inverse(device: &Device) -> Result<Case> {
    let vocoder = VocoderConfig { phase: Phase::PghiFast.config(0), emphasis: None, peak: None };
    let vocoder = Vocoder::without_network(&FeatureConfig::default(), vocoder)?;
    let features = FeatureExtractor::new(FeatureConfig::default())?.extract(&sound::voice(10.0, 130.0))?;
    let linear = move || vocoder.linear(features.logmel.view());
    Ok(plain(device, linear, |spectrum: &Array2<f32>| mean(spectrum.iter().copied())))
}

fn read_wav(device: &Device) -> Result<Case> {
    let folder = temporary()?;
    let path = folder.path().join("voice.wav");
    sound::voice(10.0, 130.0).write(&path)?;
    let read = move || {
        let _ = &folder; // goes with the case
        Waveform::read(&path).expect("the file stays as it was written")
    };
    Ok(plain(device, read, |wave: &Waveform| mean(wave.samples.iter().map(|sample| sample.abs()))))
}

fn resample(device: &Device) -> Case {
    let samples = sound::voice(10.0 * 44_100.0 / f64::from(sound::RATE), 130.0).samples;
    let voice = Waveform { samples, sample_rate: 44_100 };
    let resample = move || voice.resample(sound::RATE).expect("both rates are in range");
    plain(device, resample, |wave: &Waveform| mean(wave.samples.iter().map(|sample| sample.abs())))
}

fn write_npz(device: &Device) -> Result<Case> {
    let folder = temporary()?;
    let features = FeatureExtractor::new(FeatureConfig::default())?.extract(&sound::voice(10.0, 130.0))?;
    let path = folder.path().join("voice.feat.npz");
    let write = move || {
        let _ = &folder; // goes with the case
        FeatureFile::write(&path, &features).expect("the folder can be written")
    };
    Ok(plain(device, write, |()| 0.0))
}

fn features(device: &Device) -> Result<Case> {
    let (extractor, voice) = (FeatureExtractor::new(FeatureConfig::default())?, sound::voice(10.0, 130.0));
    let extract = move || extractor.extract(&voice).expect("the voice is a sound");
    Ok(plain(device, extract, |features: &Features| mean(features.logmel.iter().copied())))
}

fn transform() -> Stft<f32> {
    let config = FeatureConfig::default();
    Stft::new(config.n_fft, config.hop_size, PadMode::Reflect)
}

fn mean(values: impl ExactSizeIterator<Item = f32>) -> f64 {
    let count = values.len() as f64;
    values.map(f64::from).sum::<f64>() / count
}

fn data() -> Result<(FeatureSet, TempDir)> {
    let folder = temporary()?;
    Ok((sound::feature_set(folder.path())?, folder))
}

fn temporary() -> Result<TempDir> {
    TempDir::new().map_err(Error::io(&std::env::temp_dir()))
}

/// A step of the trainers' own loop.
struct Training<T: Task> {
    task: T,
    session: Session<T::Model>,
    last: Option<Shown>,
}

fn training<T: Task + 'static>(task: T, session: Session<T::Model>, device: &Device) -> Case {
    let config = &session.about.config;
    Case {
        parameters: Some(parameter_count(session.model())),
        configuration: json!({ "model": config.model, "batch": config.batch, "optimizer": config.optimizer }),
        work: Box::new(Training { task, session, last: None }),
        device: device.clone(),
    }
}

impl<T: Task> Work for Training<T> {
    fn step(&mut self) {
        self.last = self.session.advance(&mut self.task).expect("the files stay as they are");
    }

    fn value(&self) -> Option<f64> {
        self.last.as_ref().map(|shown| shown.read()[0].1)
    }

    fn replays(&self) -> bool {
        self.session.replays()
    }
}

/// The same computation over and over.
struct Repeated<O, F: FnMut() -> O> {
    make: F,
    tell: fn(&O) -> f64,
    last: Option<O>,
}

fn plain<O: 'static>(device: &Device, make: impl FnMut() -> O + 'static, tell: fn(&O) -> f64) -> Case {
    let configuration = json!({ "seconds": 10, "features": FeatureConfig::default() });
    let work = Box::new(Repeated { make, tell, last: None });
    Case { parameters: None, configuration, work, device: device.clone() }
}

impl<O, F: FnMut() -> O> Work for Repeated<O, F> {
    fn step(&mut self) {
        self.last = Some((self.make)());
    }

    fn value(&self) -> Option<f64> {
        self.last.as_ref().map(self.tell)
    }
}
