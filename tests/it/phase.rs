//! Phase reconstruction and mel inversion, on babbling from the corpus generator and on signals whose answer is known.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, array, s};
use realfft::num_complex::Complex;
use vae_workshop::corpus::{CorpusConfig, speak};
use vae_workshop::dsp::griffin_lim::{griffin_lim, spectral_convergence};
use vae_workshop::dsp::mel::MelFilterbank;
use vae_workshop::dsp::mel_inverse::{FLOOR, ITERATIONS, MelInverse, joint_reconstruct};
use vae_workshop::dsp::phase::{Phase, PhaseConfig, reconstruct, start};
use vae_workshop::dsp::stft::{PadMode, Stft};
use vae_workshop::random;

fn stft() -> Stft<f32> {
    Stft::new(1024, 160, PadMode::Reflect)
}

fn filterbank() -> MelFilterbank {
    MelFilterbank::new(16_000, 1024, 80, 125.0, 7600.0).unwrap()
}

/// About 1.5 s of a woman's babbling, pre-emphasised and cut to whole hops.
fn speech() -> Vec<f32> {
    let config = CorpusConfig { speakers: 2, ..CorpusConfig::default() };
    let sound = speak(&config.voices()[1], 1.5, 16_000, &mut random::stream(3, "test", 0)).sound;
    let emphasised = sound.samples.windows(2).map(|pair| pair[1] - 0.97 * pair[0]);
    emphasised.take(sound.samples.len() / 160 * 160 - 160).collect()
}

/// No frames whose spectrum is known.
fn nothing() -> Array2<Complex<f32>> {
    Array2::zeros((0, 513))
}

fn magnitudes(signal: &[f32]) -> Array2<f32> {
    stft().power(signal).mapv(f32::sqrt)
}

fn convergence(magnitude: &Array2<f32>, config: &PhaseConfig) -> f64 {
    let signal = reconstruct(magnitude.view(), &stft(), config);
    spectral_convergence(&signal, magnitude.view(), &stft())
}

#[test]
fn griffin_lim_never_moves_away_from_the_magnitudes() {
    let magnitude = magnitudes(&speech());
    let errors: Vec<f64> = [0, 1, 2, 3, 5, 8, 13, 21]
        .into_iter()
        .map(|iterations| convergence(&magnitude, &PhaseConfig { iterations, ..Phase::GriffinLim.config(1) }))
        .collect();
    assert!(errors.windows(2).all(|pair| pair[1] < pair[0]), "{errors:?}");
}

#[test]
fn momentum_and_a_good_start_each_pay_at_equal_iterations() {
    let magnitude = magnitudes(&speech());
    let error = |phase: Phase, iterations| convergence(&magnitude, &PhaseConfig { iterations, ..phase.config(1) });
    let [plain, fast, pghi] = [Phase::GriffinLim, Phase::FastGriffinLim, Phase::PghiFast].map(|phase| error(phase, 30));
    assert!(fast < plain - 2.0, "fast {fast:.1} dB, plain {plain:.1} dB");
    assert!(pghi < fast - 2.0, "from PGHI {pghi:.1} dB, from random phases {fast:.1} dB");
    let [random, integrated] = [error(Phase::GriffinLim, 0), error(Phase::Pghi, 0)];
    assert!(integrated < random - 8.0, "PGHI {integrated:.1} dB, random {random:.1} dB");
}

#[test]
fn the_loop_agrees_with_its_obvious_twin_in_f64() {
    let signal = speech();
    let magnitude = magnitudes(&signal);
    let config = Phase::FastGriffinLim.config(5);
    let first = start(magnitude.view(), nothing().view(), &stft(), &config, 0);
    let fast = griffin_lim(magnitude.view(), first.clone(), nothing().view(), &stft(), 4, 0.99);

    let slow = Stft::<f64>::new(1024, 160, PadMode::Reflect);
    let impose = |spectrum: &Array2<Complex<f64>>| {
        Array2::from_shape_fn(spectrum.dim(), |at| spectrum[at] / spectrum[at].norm() * f64::from(magnitude[at]))
    };
    let mut spectrum = impose(&first.mapv(|bin| Complex::new(f64::from(bin.re), f64::from(bin.im))));
    let mut before: Option<Array2<Complex<f64>>> = None;
    for _ in 0..4 {
        let now = slow.forward(&slow.inverse(spectrum.view()));
        let step = before.map_or(now.clone(), |before| &now + &((&now - &before).mapv(|change| change * 0.99)));
        spectrum = impose(&step);
        before = Some(now);
    }
    let twin = slow.inverse(spectrum.view());
    let error: f64 = fast.iter().zip(&twin).map(|(&a, &b)| (f64::from(a) - b).powi(2)).sum();
    let total: f64 = twin.iter().map(|value| value * value).sum();
    // f32 carries seven digits, and the phase of a near-empty bin is worth fewer.
    assert!(error < 1e-6 * total, "{:e}", error / total);
}

#[test]
fn true_phases_stay_and_give_the_signal_back() {
    let signal = speech();
    let truth = stft().forward(&signal);
    for momentum in [0.0, 0.99] {
        let result = griffin_lim(magnitudes(&signal).view(), truth.clone(), nothing().view(), &stft(), 5, momentum);
        assert_eq!(result.len(), signal.len());
        assert!(result.iter().zip(&signal).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

#[test]
fn pghi_turns_a_steady_tone_by_its_frequency() {
    // 1003 Hz lies between bins 64 and 65.
    let radians = std::f32::consts::TAU * 1003.0 / 16_000.0;
    let tone: Vec<f32> = (0..8000).map(|n| (n as f32 * radians).cos()).collect();
    let spectrum = start(magnitudes(&tone).view(), nothing().view(), &stft(), &Phase::Pghi.config(0), 0);
    for frame in 10..40 {
        let turned = spectrum[[frame + 1, 64]] * (spectrum[[frame, 64]] * Complex::cis(160.0 * radians)).conj();
        assert!(turned.arg().abs() < 0.05, "frame {frame}: {} radians off", turned.arg());
    }
}

#[test]
fn every_recipe_makes_finite_sound_of_the_right_length_from_anything() {
    let mut lone = Array2::zeros((7, 513));
    lone[[3, 100]] = 1.0;
    let mut broken = Array2::from_elem((5, 513), 0.1);
    (broken[[2, 9]], broken[[3, 0]], broken[[4, 512]]) = (f32::NAN, f32::INFINITY, -1.0);
    let inputs = [
        Array2::zeros((0, 513)),
        Array2::zeros((1, 513)),
        Array2::ones((1, 513)),
        Array2::ones((2, 513)),
        Array2::zeros((20, 513)),
        lone,
        broken,
    ];
    for phase in Phase::ALL {
        for magnitude in &inputs {
            let signal = reconstruct(magnitude.view(), &stft(), &PhaseConfig { iterations: 3, ..phase.config(1) });
            assert_eq!(signal.len(), 160 * magnitude.nrows().saturating_sub(1));
            assert!(signal.iter().all(|value| value.is_finite()), "{phase} from {:?}", magnitude.dim());
            if magnitude.sum() == 0.0 {
                assert!(signal.iter().all(|&value| value == 0.0), "{phase}: silence has no sound");
            }
        }
    }
}

#[test]
fn the_seed_decides_the_samples() {
    let magnitude = magnitudes(&speech()[..8000]);
    let run = |phase: Phase, seed| {
        reconstruct(magnitude.view(), &stft(), &PhaseConfig { iterations: 2, ..phase.config(seed) })
    };
    for phase in Phase::ALL {
        assert_eq!(run(phase, 1), run(phase, 1), "{phase}");
    }
    for phase in [Phase::Workshop, Phase::GriffinLim, Phase::FastGriffinLim] {
        assert_ne!(run(phase, 1), run(phase, 2), "{phase}");
    }
}

#[test]
fn recipes_are_found_by_their_names() {
    for phase in Phase::ALL {
        assert_eq!(phase.to_string().parse(), Ok(phase));
    }
    assert!("nonsense".parse::<Phase>().unwrap_err().contains("fast-griffin-lim"));
}

/// The update of the reference, on a dense matrix in f64.
fn dense_inverse(mel: ArrayView2<f32>, iterations: usize) -> Array2<f64> {
    let bank = filterbank();
    let mut weights = Array2::<f64>::zeros((80, 513));
    for (band, mut row) in bank.bands().iter().zip(weights.rows_mut()) {
        for (offset, &weight) in band.weights.iter().enumerate() {
            row[band.first + offset] = weight;
        }
    }
    let mel = mel.mapv(f64::from);
    let per_bin = weights.sum_axis(Axis(0)).mapv(|sum| sum.max(1e-12));
    let mut power = (&mel / &weights.sum_axis(Axis(1))).dot(&weights) / &per_bin;
    for _ in 0..iterations {
        let ratio = &mel / &power.dot(&weights.t()).mapv(|found| found.max(1e-12));
        power = power * (ratio.dot(&weights) / &per_bin);
    }
    power
}

#[test]
fn the_mel_inverse_agrees_with_dense_matrices_in_f64() {
    let power = stft().power(&speech());
    let mel = filterbank().apply(power.view()).mapv(|value| value.max(1e-4));
    let fast = MelInverse::new(&filterbank()).power(mel.view(), ITERATIONS);
    let slow = dense_inverse(mel.view(), ITERATIONS);
    for (&fast, &slow) in fast.iter().zip(&slow) {
        // Thirty roundings of 6e-8 each, and room for their growth.
        assert!((f64::from(fast) - slow.max(f64::from(FLOOR))).abs() <= 1e-4 * slow + 2e-10, "{fast:e} for {slow:e}");
    }
}

#[test]
fn the_mel_inverse_has_the_mel_spectrum_asked_for() {
    let mel = filterbank().apply(stft().power(&speech()).view()).mapv(|value| value.max(1e-4));
    let inverse = MelInverse::new(&filterbank());
    let error = |iterations| {
        let found = filterbank().apply(inverse.power(mel.view(), iterations).view());
        let total: f32 = found.iter().zip(&mel).map(|(found, wanted)| (found / wanted).ln().abs()).sum();
        total / mel.len() as f32
    };
    let errors = [0, 3, 10, ITERATIONS].map(error);
    assert!(errors.windows(2).all(|pair| pair[1] < pair[0]), "{errors:?}");
    // In nats: 0.01 is 0.04 dB.
    assert!(errors[3] < 0.01, "{errors:?}");
}

#[test]
fn a_flat_spectrum_is_a_fixed_point_of_the_mel_inverse_and_scales_with_its_input() {
    let inverse = MelInverse::new(&filterbank());
    let flat = Array2::from_elem((1, 513), 2.0f32);
    let mel = filterbank().apply(flat.view());
    let power = inverse.power(mel.view(), ITERATIONS);
    let inside = power.slice(s![.., 9..=486]);
    assert!(inside.iter().all(|value| (value - 2.0).abs() < 1e-4));
    assert!(power.slice(s![.., ..8]).iter().chain(power.slice(s![.., 488..])).all(|&value| value == FLOOR));
    let louder = inverse.power((&mel * 1024.0).view(), ITERATIONS);
    assert!(
        louder.slice(s![.., 9..=486]).iter().zip(inside).all(|(loud, soft)| (loud / soft / 1024.0 - 1.0).abs() < 1e-4)
    );
}

#[test]
fn frames_are_inverted_independently_of_their_neighbours() {
    let mel = filterbank().apply(stft().power(&speech()).view());
    let inverse = MelInverse::new(&filterbank());
    let mel = mel.slice(s![..35, ..]);
    let together = inverse.power(mel, 5);
    for frame in [0, 15, 16, 31, 32, 34] {
        let alone = inverse.power(mel.slice(s![frame..frame + 1, ..]), 5);
        assert_eq!(alone.row(0), together.row(frame));
    }
}

#[test]
fn the_mel_inverse_of_silence_and_nonsense_is_finite() {
    let inverse = MelInverse::new(&filterbank());
    let mut mel = Array2::zeros((4, 80));
    mel.row_mut(1).fill(1e-4);
    (mel[[2, 0]], mel[[2, 1]], mel[[2, 2]]) = (f32::NAN, f32::INFINITY, -5.0);
    mel[[3, 40]] = 1e6;
    let power = inverse.power(mel.view(), ITERATIONS);
    assert!(power.iter().all(|&value| value.is_finite() && value >= FLOOR));
    assert!(power.row(0).iter().all(|&value| value == FLOOR));
    assert_eq!(inverse.power(Array2::zeros((0, 80)).view(), 3).dim(), (0, 513));
}

/// All of what [`joint_reconstruct`] gives.
fn joint(mel: &Array2<f32>, magnitude: &Array2<f32>, inverse: &MelInverse, config: &PhaseConfig) -> Vec<f32> {
    let mut signal = Vec::new();
    let slices = |range: Range<usize>| {
        Ok((mel.slice(s![range.clone(), ..]).to_owned(), magnitude.slice(s![range, ..]).to_owned()))
    };
    let give = |part: &[f32]| {
        signal.extend_from_slice(part);
        Ok(())
    };
    joint_reconstruct(mel.nrows(), slices, inverse, &stft(), config, give).unwrap();
    signal
}

#[test]
fn joint_reconstruction_keeps_the_mel_spectrum_better_than_inverting_first() {
    let mel = filterbank().apply(stft().power(&speech()).view()).mapv(|value| value.max(1e-4));
    let inverse = MelInverse::new(&filterbank());
    let magnitude = inverse.power(mel.view(), ITERATIONS).mapv(f32::sqrt);
    let config = Phase::PghiFast.config(1);
    let apart = reconstruct(magnitude.view(), &stft(), &config);
    let joint = joint(&mel, &magnitude, &inverse, &config);
    let error = |signal: &[f32]| {
        let found = filterbank().apply(stft().power(signal).view()).mapv(|value| value.max(1e-4));
        found.iter().zip(&mel).map(|(found, wanted)| (found / wanted).ln().abs()).sum::<f32>() / mel.len() as f32
    };
    assert!(error(&joint) < 0.5 * error(&apart), "joint {}, apart {}", error(&joint), error(&apart));
}

#[test]
fn joint_reconstruction_survives_silence_and_single_frames() {
    let inverse = MelInverse::new(&filterbank());
    for frames in [1, 2, 9] {
        for level in [0.0, 1e-4, f32::NAN] {
            let mel = Array2::from_elem((frames, 80), level);
            let config = PhaseConfig { iterations: 3, ..Phase::PghiFast.config(1) };
            let magnitude = Array2::from_elem((frames, 513), level);
            let signal = joint(&mel, &magnitude, &inverse, &config);
            assert_eq!(signal.len(), 160 * (frames - 1));
            assert!(signal.iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn convergence_of_a_signal_with_its_own_magnitudes_is_far_below_hearing() {
    let signal = speech();
    assert!(spectral_convergence(&signal, magnitudes(&signal).view(), &stft()) < -100.0);
    let small = Stft::<f32>::new(4, 2, PadMode::Constant);
    let silence = array![[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]];
    assert_eq!(spectral_convergence(&[0.0, 0.0], silence.view(), &small), f64::NEG_INFINITY);
}

/// 50 s: more than one block.
fn long_speech() -> Vec<f32> {
    let config = CorpusConfig { speakers: 2, ..CorpusConfig::default() };
    let sound = speak(&config.voices()[1], 50.0, 16_000, &mut random::stream(3, "test", 1)).sound;
    sound.samples[..160 * 4900].windows(2).map(|pair| pair[1] - 0.97 * pair[0]).chain([0.0]).collect()
}

#[test]
fn a_signal_made_in_blocks_has_no_seam() {
    let truth = long_speech();
    let magnitude = magnitudes(&truth);
    let config = PhaseConfig { iterations: 10, ..Phase::PghiFast.config(1) };
    let signal = reconstruct(magnitude.view(), &stft(), &config);
    assert_eq!(signal.len(), truth.len());
    // Of one second, whose own frames are those within it.
    let error = |second: usize| {
        let first = 100 * second;
        let piece = &signal[160 * (first - 4)..160 * (first + 104)];
        let found = stft().forward(piece);
        let (found, wanted) = (found.slice(s![4..105, ..]), magnitude.slice(s![first..first + 101, ..]));
        let difference: f32 = found.iter().zip(wanted).map(|(found, wanted)| (found.norm() - wanted).powi(2)).sum();
        10.0 * (difference / wanted.iter().map(|wanted| wanted * wanted).sum::<f32>()).log10()
    };
    let mut errors: Vec<f32> = (1..48).map(error).collect();
    // The first block ends after 3000 frames: in the last frames of one second and the first of the next.
    let seam = errors[28].max(errors[29]);
    errors.sort_by(f32::total_cmp);
    assert!(seam <= errors[40], "{seam:.1} dB at the seam, others {errors:.1?}");
}

#[test]
fn integration_goes_on_from_phases_that_are_known() {
    let signal = speech();
    let truth = stft().forward(&signal);
    let magnitude = truth.mapv(|bin| bin.norm());
    let known = truth.slice(s![..60, ..]);
    let config = Phase::Pghi.config(1);
    // Along one harmonic, how far the phase of the frames that follow is from the true one, as the mean of |e^ia - e^ib|.
    let distance = |found: &Array2<Complex<f32>>| {
        let after = s![60..64, 4..40];
        let pairs = found.slice(after).to_owned().into_iter().zip(truth.slice(after).to_owned());
        let loud = pairs.filter(|(_, wanted)| wanted.norm() > 3.0).map(|(a, b)| (a / a.norm() - b / b.norm()).norm());
        let distances: Vec<f32> = loud.collect();
        distances.iter().sum::<f32>() / distances.len() as f32
    };
    let on = start(magnitude.view(), known, &stft(), &config, 0);
    let anew = start(magnitude.view(), nothing().view(), &stft(), &config, 0);
    assert!(
        on.slice(s![..60, ..]).iter().zip(known).all(|(on, known)| (on - known).norm() <= 1e-3 * known.norm() + 1e-3)
    );
    assert!(distance(&on) < 0.6 && distance(&on) < 0.5 * distance(&anew), "{} {}", distance(&on), distance(&anew));
}
