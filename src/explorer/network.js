"use strict";
// The VAE: log-mels to codes and back. No DOM.

/** How many segments, one every half segment, hold so many frames. */
function explorerSegments({ segment_frames: length }, frames) {
  return Math.ceil(Math.max(frames - length, 0) / Math.floor(length / 2)) + 1;
}

/** Encoder and decoder of log-mel spectrograms, from the page's data and what makes layers of its weights. */
function explorerNetwork(data, layers) {
  const SLOPE = 0.1;
  const { tensor, matrix, dense, convolution, transposed, apply, run, buffer } = layers;
  const { segment_frames: frames, n_mels: mels, latents } = data.model;

  function convolutional() {
    const [rows, columns] = [frames / 4, mels / 8];
    const pixels = rows * columns;
    const channels = data.model.channels[2];
    // The model flattens channels first, grids here have them last.
    const order = (flat) => (flat % channels) * pixels + Math.floor(flat / channels);
    const encoder = [
      convolution("encoder.0", frames, mels, 2, SLOPE),
      convolution("encoder.1", frames / 2, mels / 2, 2, SLOPE),
      convolution("encoder.2", rows, mels / 4, 1, SLOPE),
      [dense("encoder_hidden", SLOPE, order)],
      [dense("mean", 1)],
    ];
    const decoder = [
      [dense("decoder_hidden", SLOPE)],
      [dense("decoder_grid", SLOPE, undefined, order)],
      transposed("decoder.0", rows, columns, 1, SLOPE),
      transposed("decoder.1", rows, mels / 4, 2, SLOPE),
      transposed("decoder.2", frames / 2, mels / 2, 2, 1, 1), // of the mean; the scale is not asked for
    ];
    return {
      encode: (x, segments) => run(encoder, x, segments, "encoder"),
      decode: (z, segments) => run(decoder, z, segments, "decoder"),
    };
  }

  function recurrent() {
    const cells = data.model.cells;
    const gates = (name) => {
      const bias = tensor(`${name}.bias`).values;
      const product = ({ shape: [inputs, outputs], values }, bias) => matrix(inputs, outputs, (k, o) => values[k * outputs + o], bias);
      return [product(tensor(`${name}.weight_input`), (o) => bias[o]), product(tensor(`${name}.weight_hidden`), () => 0)];
    };
    const sigmoid = (x) => 1 / (1 + Math.exp(-x));
    // Calls `visit` with the states after each frame, `[segments, cells]`.
    function walk([ofInput, ofHidden], inputAt, segments, visit) {
      const size = segments * cells;
      const state = buffer("state", size).fill(0);
      const memory = buffer("memory", size).fill(0);
      const [input, hidden] = [buffer("input", 4 * size), buffer("hidden", 4 * size)];
      for (let t = 0; t < frames; t++) {
        const x = inputAt(t);
        if (x) apply(ofInput, x, segments, input);
        apply(ofHidden, state, segments, hidden);
        for (let i = 0; i < size; i++) {
          const at = Math.floor(i / cells) * 4 * cells + (i % cells);
          const gate = (index) => input[at + index * cells] + hidden[at + index * cells];
          memory[i] = sigmoid(gate(1)) * memory[i] + sigmoid(gate(0)) * Math.tanh(gate(2));
          state[i] = sigmoid(gate(3)) * Math.tanh(memory[i]);
        }
        visit(t, state);
      }
      return state;
    }
    const [encoder, decoder, mean, bins] = [gates("encoder"), gates("decoder"), dense("mean", 1), dense("bin_mean", 1)];
    return {
      encode(x, segments) {
        const frame = buffer("frame", segments * mels);
        const at = (t) => {
          for (let s = 0; s < segments; s++) {
            for (let band = 0; band < mels; band++) frame[s * mels + band] = x[(s * frames + t) * mels + band];
          }
          return frame;
        };
        return apply(mean, walk(encoder, at, segments, () => {}), segments, buffer("codes", segments * latents));
      },
      decode(z, segments) {
        const [frame, out] = [buffer("frame", segments * mels), buffer("segments", segments * frames * mels)];
        walk(decoder, (t) => (t === 0 ? z : null), segments, (t, state) => {
          apply(bins, state, segments, frame);
          for (let s = 0; s < segments; s++) {
            for (let band = 0; band < mels; band++) out[(s * frames + t) * mels + band] = frame[s * mels + band];
          }
        });
        return out;
      },
    };
  }

  const network = data.model.architecture === "conv-vae" ? convolutional() : recurrent();
  const hop = Math.floor(frames / 2);
  const { mean: bandMean, std } = data.standardizer;

  /** Codes `[segments, latents]` of a log-mel spectrogram `[count, mels]`: segments begin every half segment. */
  function encode(logmel, count) {
    const segments = explorerSegments(data.model, count);
    const x = buffer("standardised", segments * frames * mels);
    for (let s = 0, at = 0; s < segments; s++) {
      for (let t = 0; t < frames; t++) {
        const from = Math.min(s * hop + t, count - 1) * mels;
        for (let band = 0; band < mels; band++, at++) x[at] = (logmel[from + band] - bandMean[band]) / std;
      }
    }
    return Float32Array.from(network.encode(x, segments).subarray(0, segments * latents));
  }

  /** The log-mel spectrogram `[count, mels]` that codes decode to, segments cross-faded by a raised cosine. */
  function decode(codes, count) {
    const segments = codes.length / latents;
    if (segments !== explorerSegments(data.model, count)) throw new Error(`${segments} codes for ${count} frames`);
    const y = network.decode(Float64Array.from(codes), segments);
    const weights = Float64Array.from({ length: frames }, (_, t) => Math.sin((Math.PI * (t + 0.5)) / frames) ** 2);
    const [logmel, total] = [new Float32Array(count * mels), new Float64Array(count)];
    const sum = buffer("sum", count * mels).fill(0);
    for (let s = 0; s < segments; s++) {
      for (let t = 0; t < frames && s * hop + t < count; t++) {
        const to = (s * hop + t) * mels, from = (s * frames + t) * mels, weight = weights[t];
        for (let band = 0; band < mels; band++) sum[to + band] += weight * y[from + band];
        total[s * hop + t] += weight;
      }
    }
    for (let t = 0, at = 0; t < count; t++) {
      for (let band = 0; band < mels; band++, at++) logmel[at] = (sum[at] / total[t]) * std + bandMean[band];
    }
    return logmel;
  }

  return { encode, decode };
}
