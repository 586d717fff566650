"use strict";
// From log-mels to sound: the KL mel inverse, an inverter's correction of it, fast Griffin-Lim that keeps to the mel bands, and
// de-emphasis, as `synth` does by default. No DOM.

/** The way from log-mels to samples under one feature configuration; `inverter` is null, or what corrects or replaces the mel inverse. */
function explorerSound(config, inverter) {
  const ITERATIONS = 30, FLOOR = 1e-10, LEAST_POWER = 1e-12, MOMENTUM = 0.99, EMPHASIS = 1.2, NO_PHASE = 1e-30, SILENCE = 0.003;
  const [stft, bands] = [explorerStft(config), explorerFilterbank(config)];
  const phases = explorerPhases(stft);
  const { bins, hop } = stft;
  const { re, im } = stft.fft;
  const clip = config.clip_before_log;
  const mels = bands.length;

  // All weights one after the other, and where each band's begin.
  const ends = Int32Array.from({ length: mels + 1 }, (_, i) => bands.slice(0, i).reduce((n, b) => n + b.weights.length, 0));
  const firsts = Int32Array.from(bands, ({ first }) => first);
  const weights = new Float64Array(ends[mels]);
  const [binScale, bandScale] = [new Float64Array(bins), new Float64Array(mels)];
  bands.forEach(({ first, weights: own }, band) => {
    weights.set(own, ends[band]);
    own.forEach((weight, i) => { binScale[first + i] += weight; });
    bandScale[band] = 1 / own.reduce((sum, weight) => sum + weight, 0);
  });
  for (let bin = 0; bin < bins; bin++) binScale[bin] = binScale[bin] > 0 ? 1 / binScale[bin] : 0;
  const [power, before, factor, ratio] = [bins, bins, bins, mels].map((size) => new Float64Array(size));

  // `factor` from `ratio`, then `power` times it: each bin by the weighted mean of its bands' ratios.
  function spread() {
    factor.fill(0);
    for (let band = 0; band < mels; band++) {
      const by = ratio[band];
      for (let w = ends[band], bin = firsts[band]; w < ends[band + 1]; w++, bin++) factor[bin] += weights[w] * by;
    }
    for (let bin = 0; bin < bins; bin++) power[bin] *= factor[bin] * binScale[bin];
  }

  // `ratio` of the wanted bands, which begin at `from`, to those of `power`.
  function compare(wanted, from) {
    for (let band = 0; band < mels; band++) {
      let found = 0;
      for (let w = ends[band], bin = firsts[band]; w < ends[band + 1]; w++, bin++) found += weights[w] * power[bin];
      ratio[band] = wanted[from + band] / (found > FLOOR ? found : FLOOR);
    }
  }

  // What was clipped on the way to a power is taken for silence.
  const unclipped = (power) => (power - clip > SILENCE * clip ? power - clip : SILENCE * clip);

  /** Power that log power stands for. */
  function powerOf(logPower) {
    const out = new Float64Array(logPower.length);
    for (let i = 0; i < out.length; i++) out[i] = unclipped(Math.exp(logPower[i]));
    return out;
  }

  /** `FeatureConfig::power_beside`: mel power of log-mels, of what was clipped that of the linear power `[frames, bins]`. */
  function bandsBeside(logmel, linear, frames) {
    const out = new Float64Array(frames * mels);
    for (let t = 0; t < frames; t++) {
      for (let band = 0; band < mels; band++) {
        let known = 0;
        for (let w = ends[band], at = t * bins + firsts[band]; w < ends[band + 1]; w++, at++) known += weights[w] * linear[at];
        const given = Math.exp(logmel[t * mels + band]);
        out[t * mels + band] = given + (Math.min(Math.max(known, SILENCE * clip), clip) - given) * Math.min(clip / given, 1) ** 2;
      }
    }
    return out;
  }

  /** Linear power `[frames, bins]`, clipped as features are, of mel power `[frames, mels]`: updates under the KL divergence. */
  function inverse(mel, frames, iterations = ITERATIONS) {
    const out = new Float64Array(frames * bins);
    for (let t = 0; t < frames; t++) {
      power.fill(1);
      for (let band = 0; band < mels; band++) ratio[band] = mel[t * mels + band] * bandScale[band];
      spread();
      for (let update = 0; update < iterations; update++) {
        compare(mel, t * mels);
        spread();
      }
      for (let bin = 0, at = t * bins; bin < bins; bin++, at++) out[at] = power[bin] > clip ? power[bin] : clip;
    }
    return out;
  }

  /**
   * Linear power `[frames, bins]` of log-mels `[frames, mels]`, and `mel` that is their power, by the mel inverse or the inverter.
   * A generator, as `make`.
   */
  function* linearOf(logmel, mel, frames, { inversions, inverted }) {
    const given = inverted && inverter ? yield* inverter.predict(logmel, frames) : null;
    if (!given) return inverse(mel, frames, inversions);
    const linear = inverter.standalone ? new Float64Array(frames * bins).fill(1) : inverse(mel, frames);
    for (let i = 0; i < linear.length; i++) linear[i] *= Math.exp(given[i]);
    return linear;
  }

  /**
   * Samples of a log-mel spectrogram `[frames, mels]`. A generator: it yields between pieces of work, so that a newer request can
   * take its place; its value is the sound. `quality` has `iterations` of fast Griffin-Lim, `inversions` of the mel inverse, and
   * whether the spectrum is to be `inverted` by the inverter, if there is one.
   */
  function* make(logmel, frames, quality) {
    const silent = powerOf(logmel);
    const linear = yield* linearOf(logmel, silent, frames, quality);
    const free = quality.inverted && inverter && inverter.standalone; // such a spectrum is kept to, not the mel bands
    const magnitude = new Float32Array(linear.length);
    for (let i = 0; i < linear.length; i++) {
      linear[i] = unclipped(linear[i]);
      magnitude[i] = free ? Math.sqrt(linear[i]) ** EMPHASIS : Math.sqrt(linear[i]);
    }
    const mel = quality.inverted && inverter && !free ? bandsBeside(logmel, linear, frames) : silent;
    yield;
    const { real, imaginary } = phases(magnitude, frames);
    const [beforeRe, beforeIm] = [new Float32Array(real.length), new Float32Array(real.length)];
    const signal = new Float64Array(hop * (frames - 1));
    yield;

    function constrain(t) {
      if (free) keep(t);
      else approach(t);
    }
    // A frame's magnitudes as they are to be.
    function keep(t) {
      for (let bin = 0, at = t * bins; bin < bins; bin++, at++) {
        const scale = magnitude[at] / Math.sqrt(Math.max(re[bin] * re[bin] + im[bin] * im[bin], NO_PHASE));
        real[at] = re[bin] * scale;
        imaginary[at] = im[bin] * scale;
      }
    }
    // One update of a frame's power towards the mel bands; bins outside them keep their magnitude.
    function approach(t) {
      for (let bin = 0; bin < bins; bin++) {
        before[bin] = power[bin] = re[bin] * re[bin] + im[bin] * im[bin] + LEAST_POWER;
      }
      compare(mel, t * mels);
      spread();
      for (let bin = 0, at = t * bins; bin < bins; bin++, at++) {
        const wanted = binScale[bin] > 0 ? power[bin] : linear[at];
        const scale = Math.sqrt(wanted / before[bin]);
        real[at] = re[bin] * scale;
        imaginary[at] = im[bin] * scale;
      }
    }
    function load(t) {
      for (let bin = 0, at = t * bins; bin < bins; bin++, at++) { re[bin] = real[at]; im[bin] = imaginary[at]; }
    }

    for (let t = 0; t < frames; t++) { load(t); constrain(t); }
    for (let iteration = 0; iteration < quality.iterations; iteration++) {
      stft.resynthesise(frames, signal, load);
      for (let t = 0; t < frames; t++) {
        stft.analyse(signal, t);
        const momentum = iteration > 0 ? MOMENTUM : 0;
        for (let bin = 0, at = t * bins; bin < bins; bin++, at++) {
          const nowRe = re[bin], nowIm = im[bin];
          re[bin] = nowRe + momentum * (nowRe - beforeRe[at]);
          im[bin] = nowIm + momentum * (nowIm - beforeIm[at]);
          beforeRe[at] = nowRe;
          beforeIm[at] = nowIm;
        }
        constrain(t);
      }
      yield;
    }
    stft.resynthesise(frames, signal, load);
    const samples = new Float32Array(signal.length);
    for (let n = 0, last = 0; n < signal.length; n++) {
      last = signal[n] + config.preemphasis * last;
      samples[n] = last;
    }
    return samples;
  }

  return { make, linearOf, inverse, powerOf };
}
