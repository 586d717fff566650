"use strict";
// Analysis: Fourier transforms, the mel filterbank, and features as `extract-features` makes them. No DOM.

/** Real transforms of an even length, unscaled: `forward` fills `re` and `im` from `frame`, `inverse` the other way. */
function explorerFft(length) {
  const half = length / 2;
  const complex = (half & (half - 1)) === 0 ? powerOfTwo(half) : bluestein(half);
  const [re, im, frame] = [new Float64Array(half + 1), new Float64Array(half + 1), new Float64Array(length)];
  const [x, y] = [new Float64Array(half), new Float64Array(half)];
  const [cos, sin] = circle(length, half + 1);

  function circle(period, count) {
    const angle = (k) => (-2 * Math.PI * k) / period;
    return [Math.cos, Math.sin].map((wave) => Float64Array.from({ length: count }, (_, k) => wave(angle(k))));
  }

  // Radix 4 on bit-reversed input, after one radix-2 pass where the exponent is odd.
  function powerOfTwo(size) {
    const bits = Math.log2(size);
    const reversed = new Uint32Array(size);
    for (let i = 1; i < size; i++) reversed[i] = (reversed[i >> 1] >> 1) | ((i & 1) << (bits - 1));
    const stages = [];
    for (let quarter = bits % 2 ? 2 : 1; quarter < size; quarter *= 4) {
      const [c, s] = circle(4 * quarter, 3 * quarter);
      const turns = new Float64Array(6 * quarter);
      for (let j = 0; j < quarter; j++) turns.set([c[j], s[j], c[2 * j], s[2 * j], c[3 * j], s[3 * j]], 6 * j);
      stages.push({ quarter, turns });
    }
    return (x, y) => {
      for (let i = 0; i < size; i++) {
        const j = reversed[i];
        if (i < j) {
          const a = x[i], b = y[i];
          x[i] = x[j]; y[i] = y[j]; x[j] = a; y[j] = b;
        }
      }
      if (bits % 2) {
        for (let i = 0; i < size; i += 2) {
          const a = x[i + 1], b = y[i + 1];
          x[i + 1] = x[i] - a; y[i + 1] = y[i] - b; x[i] += a; y[i] += b;
        }
      }
      for (let stage = 0; stage < stages.length; stage++) pass(x, y, size, stages[stage].quarter, stages[stage].turns);
    };
  }

  function pass(x, y, size, quarter, turns) {
    for (let base = 0; base < size; base += 4 * quarter) {
      for (let j = 0, w = 0; j < quarter; j++, w += 6) {
        const p = base + j, q = p + quarter, r = q + quarter, s = r + quarter;
        const c1 = turns[w], s1 = turns[w + 1], c2 = turns[w + 2], s2 = turns[w + 3], c3 = turns[w + 4], s3 = turns[w + 5];
        const qx = x[q] * c2 - y[q] * s2, qy = x[q] * s2 + y[q] * c2;
        const rx = x[r] * c1 - y[r] * s1, ry = x[r] * s1 + y[r] * c1;
        const sx = x[s] * c3 - y[s] * s3, sy = x[s] * s3 + y[s] * c3;
        const ax = x[p] + qx, ay = y[p] + qy, bx = x[p] - qx, by = y[p] - qy;
        const cx = rx + sx, cy = ry + sy, dx = rx - sx, dy = ry - sy;
        x[p] = ax + cx; y[p] = ay + cy;
        x[q] = bx + dy; y[q] = by - dx;
        x[r] = ax - cx; y[r] = ay - cy;
        x[s] = bx - dy; y[s] = by + dx;
      }
    }
  }

  // Other lengths: a convolution with a chirp (Bluestein 1970), by powers of two.
  function bluestein(size) {
    let long = 1;
    while (long < 2 * size) long *= 2;
    const transform = powerOfTwo(long);
    const chirp = Array.from({ length: size }, (_, k) => (Math.PI * ((k * k) % (2 * size))) / size);
    const [c, s] = [Math.cos, Math.sin].map((wave) => Float64Array.from(chirp, wave));
    const [u, v] = [new Float64Array(long), new Float64Array(long)];
    for (let k = 0; k < size; k++) {
      u[k] = c[k]; v[k] = s[k];
      if (k) { u[long - k] = c[k]; v[long - k] = s[k]; }
    }
    transform(u, v);
    const [a, b] = [new Float64Array(long), new Float64Array(long)];
    return (x, y) => {
      a.fill(0); b.fill(0);
      for (let k = 0; k < size; k++) {
        a[k] = x[k] * c[k] + y[k] * s[k];
        b[k] = y[k] * c[k] - x[k] * s[k];
      }
      transform(a, b);
      for (let k = 0; k < long; k++) {
        const value = a[k] * u[k] - b[k] * v[k];
        b[k] = a[k] * v[k] + b[k] * u[k];
        a[k] = value;
      }
      transform(b, a); // parts exchanged: the inverse
      for (let k = 0; k < size; k++) {
        x[k] = (a[k] * c[k] + b[k] * s[k]) / long;
        y[k] = (b[k] * c[k] - a[k] * s[k]) / long;
      }
    };
  }

  function forward() {
    for (let k = 0; k < half; k++) { x[k] = frame[2 * k]; y[k] = frame[2 * k + 1]; }
    complex(x, y);
    for (let k = 0; k <= half; k++) {
      const i = k === half ? 0 : k, j = k === 0 ? 0 : half - k;
      const evenRe = 0.5 * (x[i] + x[j]), evenIm = 0.5 * (y[i] - y[j]);
      const oddRe = 0.5 * (y[i] + y[j]), oddIm = 0.5 * (x[j] - x[i]);
      re[k] = evenRe + cos[k] * oddRe - sin[k] * oddIm;
      im[k] = evenIm + cos[k] * oddIm + sin[k] * oddRe;
    }
  }

  function inverse() {
    im[0] = 0; im[half] = 0; // a real signal has real values there
    for (let k = 0; k < half; k++) {
      const j = half - k;
      const evenRe = re[k] + re[j], evenIm = im[k] - im[j];
      const diffRe = re[k] - re[j], diffIm = im[k] + im[j];
      const oddRe = diffRe * cos[k] + diffIm * sin[k], oddIm = diffIm * cos[k] - diffRe * sin[k];
      x[k] = evenRe - oddIm; y[k] = evenIm + oddRe;
    }
    complex(y, x);
    for (let k = 0; k < half; k++) { frame[2 * k] = x[k]; frame[2 * k + 1] = y[k]; }
  }

  return { forward, inverse, frame, re, im };
}

/** Spectra of centred frames under a periodic Hann window, and the signal nearest to such spectra. */
function explorerStft({ n_fft: length, hop_size: hop, pad_mode: mode }) {
  const fft = explorerFft(length);
  const half = length / 2;
  const window = Float64Array.from({ length }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / length));
  let envelope = new Float64Array(0);

  function padded(signal, index) {
    const size = signal.length;
    if (index >= 0 && index < size) return signal[index];
    if (mode === "constant" || size === 0) return 0;
    if (size === 1) return signal[0];
    const period = 2 * (size - 1);
    const folded = ((index % period) + period) % period;
    return signal[Math.min(folded, period - folded)];
  }

  /** The spectrum of one frame, in `fft.re` and `fft.im`. */
  function analyse(signal, t) {
    const start = t * hop - half;
    const { frame } = fft;
    if (start >= 0 && start + length <= signal.length) {
      for (let n = 0; n < length; n++) frame[n] = signal[start + n] * window[n];
    } else {
      for (let n = 0; n < length; n++) frame[n] = padded(signal, start + n) * window[n];
    }
    fft.forward();
  }

  /** Overlaps and adds: `load(t)` puts a frame's spectrum into `fft.re` and `fft.im`. Fills `signal`, `hop * (frames - 1)` long. */
  function resynthesise(frames, signal, load) {
    signal.fill(0);
    for (let t = 0; t < frames; t++) {
      load(t);
      fft.inverse();
      const start = t * hop - half;
      const first = Math.max(0, -start), last = Math.min(length, signal.length - start);
      for (let n = first; n < last; n++) signal[start + n] += fft.frame[n] * window[n];
    }
    if (envelope.length !== signal.length) envelope = envelopeOf(frames, signal.length);
    for (let n = 0; n < signal.length; n++) signal[n] *= envelope[n];
  }

  function envelopeOf(frames, size) {
    const sum = new Float64Array(size);
    for (let t = 0; t < frames; t++) {
      const start = t * hop - half;
      const first = Math.max(0, -start), last = Math.min(length, size - start);
      for (let n = first; n < last; n++) sum[start + n] += window[n] * window[n];
    }
    return sum.map((square) => 1 / (length * (square > 1.17549435e-38 ? square : 1)));
  }

  return { analyse, resynthesise, fft, bins: half + 1, hop, length, framesOf: (samples) => 1 + Math.floor(samples / hop) };
}

/** Triangles of Slaney's mel scale, each of unit area: their first bins and weights. */
function explorerFilterbank({ sample_rate: rate, n_fft: length, n_filterbank: count, f_min: low, f_max: high }) {
  const LOG_STEP = Math.log(6.4) / 27;
  const toMel = (hz) => (hz < 1000 ? (hz * 3) / 200 : 15 + Math.log(hz / 1000) / LOG_STEP);
  const toHz = (mel) => (mel < 15 ? (mel * 200) / 3 : 1000 * Math.exp((mel - 15) * LOG_STEP));
  const [from, to] = [toMel(low), toMel(high)];
  const edge = (i) => toHz(from + ((to - from) * i) / (count + 1));
  return Array.from({ length: count }, (_, i) => {
    const [left, centre, right] = [edge(i), edge(i + 1), edge(i + 2)];
    const [weights, bins] = [[], length / 2 + 1];
    let first = 0;
    for (let bin = 0; bin < bins; bin++) {
      const hz = (bin * rate) / length;
      const weight = (Math.min((hz - left) / (centre - left), (right - hz) / (right - centre)) * 2) / (right - left);
      if (weight > 0) weights.push(weight);
      else if (weights.length === 0) first = bin + 1;
    }
    return { first, weights: Float64Array.from(weights), centre };
  });
}

/** Features of samples at the configuration's own rate, as `extract-features` makes them. */
function explorerFeatures(config) {
  const [stft, bands] = [explorerStft(config), explorerFilterbank(config)];

  // The samples from the first to the last frame that is loud enough: 256 samples every 128.
  function sounding(samples, threshold) {
    const power = Array.from({ length: 1 + Math.floor(samples.length / 128) }, (_, t) => {
      let sum = 0;
      for (let n = Math.max(0, t * 128 - 128); n < Math.min(samples.length, t * 128 + 128); n++) sum += samples[n] ** 2;
      return sum / 256;
    });
    const loudest = power.reduce((most, value) => Math.max(most, value), 0);
    if (loudest <= 1e-8) return { start: 0, end: samples.length, silent: true };
    const decibel = (value) => 10 * Math.log10(Math.max(value, 1e-10));
    const sounds = power.map((value) => decibel(value) - decibel(loudest) > -threshold);
    return { start: 128 * sounds.indexOf(true), end: Math.min(samples.length, 128 * (sounds.lastIndexOf(true) + 1)) };
  }

  /** Log-mels `[frames, mels]`, what the sound was divided by, and whether it is silent throughout. */
  function extract(samples) {
    const trim = sounding(samples, config.trim_silence_db === null ? Infinity : config.trim_silence_db);
    const kept = config.trim_silence_db === null ? samples : samples.subarray(trim.start, trim.end);
    const peak = kept.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const gain = config.normalize && peak > 0 ? peak : 1;
    const signal = new Float64Array(kept.length);
    for (let n = 0; n < kept.length; n++) {
      signal[n] = kept[n] / gain - (n > 0 ? (config.preemphasis * kept[n - 1]) / gain : 0);
    }
    return { logmel: logmel(signal), frames: stft.framesOf(signal.length), gain, silent: Boolean(trim.silent) };
  }

  function logmel(signal) {
    const frames = stft.framesOf(signal.length);
    const [out, power] = [new Float32Array(frames * bands.length), new Float64Array(stft.bins)];
    const { re, im } = stft.fft;
    for (let t = 0, at = 0; t < frames; t++) {
      stft.analyse(signal, t);
      for (let bin = 0; bin < power.length; bin++) power[bin] = re[bin] * re[bin] + im[bin] * im[bin];
      for (const { first, weights } of bands) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * power[first + i];
        out[at++] = Math.log(Math.max(sum, config.clip_before_log) + 1e-10);
      }
    }
    return out;
  }

  return { extract, logmel };
}
