"use strict";
// The spectrogram inverter: a CBHG (Wang et al. 2017, "Tacotron", section 3.1) from log-mels to linear spectra. No DOM.

/** An inverter, from what the page knows of it and what makes layers of its weights. */
function explorerInverter({ model, recipe, standardizer }, layers) {
  const EPSILON = 1e-3; // of batch normalisation
  const { n_mels: mels, bins, bank_size: widths, channels, highway_layers: depth, gru_cells: cells } = model;
  const { tensor, matrix, dense, temporal, overTime, apply, applySlowly, buffer } = layers;
  const standalone = recipe === "workshop"; // it gives the spectrum, where others correct the mel inverse

  // Batch normalisation with running statistics is part of the convolution before it.
  function normalised(name, from, width, inputs, outputs, weight, slope) {
    const [gamma, beta, mean, variance] = ["gamma", "beta", "running_mean", "running_variance"].map(
      (part) => tensor(`${name}.${part}`).values.subarray(from, from + outputs),
    );
    const scale = Float64Array.from(gamma, (value, o) => value / Math.sqrt(variance[o] + EPSILON));
    return temporal(width, inputs, outputs, (k, o) => weight(k, o) * scale[o], (o) => beta[o] - mean[o] * scale[o], slope);
  }

  const bank = Array.from({ length: widths }, (_, index) => {
    const { values } = tensor(`bank.weights.${index}`);
    return normalised("bank_norm", index * channels, index + 1, mels, channels, (k, o) => values[k * channels + o], 0);
  });
  function projection(name, norm, inputs, outputs, slope) {
    const { values } = tensor(`${name}.weight`); // `[inputs, taps * outputs]`
    const weight = (k, o) => values[((k % inputs) * 3 + Math.floor(k / inputs)) * outputs + o];
    return normalised(norm, 0, 3, inputs, outputs, weight, slope);
  }
  const down = projection("project_down", "down_norm", widths * channels, channels, 0);
  const back = projection("project_back", "back_norm", channels, mels, 1);
  const widen = dense("widen", 1);
  const highway = Array.from({ length: depth }, (_, index) => {
    return { transform: dense(`highway.${index}.transform`, 0), gate: dense(`highway.${index}.gate`, 1) };
  });
  // The two directions of the GRU, each the product with its input and that with its state.
  const gru = [0, 1].map((direction) => ["input", "hidden"].map((of) => {
    const { shape: [, inputs, outputs], values } = tensor(`gru.weight_${of}`);
    const own = values.subarray(direction * inputs * outputs);
    const bias = tensor(`gru.bias_${of}`).values.subarray(direction * outputs);
    return matrix(inputs, outputs, (k, o) => own[k * outputs + o], (o) => bias[o]);
  }));
  const output = dense("output", 1);

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  // One direction: states into its half of each row of `states`.
  function* recur([ofInput, ofHidden], x, frames, backward, states) {
    const input = yield* applySlowly(ofInput, x, frames, buffer("gates", frames * 3 * cells));
    const state = buffer("state", cells).fill(0);
    const hidden = buffer("hidden", 3 * cells);
    for (let step = 0; step < frames; step++) {
      const t = backward ? frames - 1 - step : step;
      apply(ofHidden, state, 1, hidden);
      for (let i = 0, at = 3 * t * cells; i < cells; i++, at++) {
        const reset = sigmoid(input[at] + hidden[i]);
        const update = sigmoid(input[at + cells] + hidden[cells + i]);
        const fresh = Math.tanh(input[at + 2 * cells] + reset * hidden[2 * cells + i]);
        state[i] = fresh + update * (state[i] - fresh);
        states[(2 * t + (backward ? 1 : 0)) * cells + i] = state[i];
      }
      if (step % 64 === 63) yield;
    }
  }

  /**
   * What the network says of log-mels `[frames, mels]`: linear ln power `[frames, bins]`, or a correction to that of the mel inverse.
   * A generator: it yields between pieces of work.
   */
  function* predict(logmel, frames) {
    const x = buffer("standardised", frames * mels);
    for (let i = 0; i < frames * mels; i++) {
      x[i] = standalone ? logmel[i] : (logmel[i] - standardizer.mean[i % mels]) / standardizer.std;
    }
    const columns = widths * channels;
    const banked = buffer("bank", frames * columns);
    for (let index = 0; index < widths; index++) {
      yield* applySlowly(overTime(bank[index], frames, columns, index * channels), x, 1, banked);
    }
    for (let i = 0; i < (frames - 1) * columns; i++) banked[i] = Math.max(banked[i], banked[i + columns]);
    const narrow = yield* applySlowly(overTime(down, frames), banked, 1, buffer("down", frames * channels));
    const added = yield* applySlowly(overTime(back, frames), narrow, 1, buffer("back", frames * mels));
    for (let i = 0; i < frames * mels; i++) added[i] += x[i];
    const [h, change, gates] = ["highway", "change", "gate"].map((key) => buffer(key, frames * channels));
    yield* applySlowly(widen, added, frames, h);
    for (const { transform, gate } of highway) {
      yield* applySlowly(transform, h, frames, change);
      yield* applySlowly(gate, h, frames, gates);
      for (let i = 0; i < frames * channels; i++) h[i] += sigmoid(gates[i]) * (change[i] - h[i]);
    }
    const states = buffer("states", frames * 2 * cells);
    yield* recur(gru[0], h, frames, false, states);
    yield* recur(gru[1], h, frames, true, states);
    return yield* applySlowly(output, states, frames, buffer("output", frames * bins));
  }

  return { predict, standalone };
}
