"use strict";
// Layers of a network: weights of half precision to matrices, and the products with them. No DOM; runs in a page, a worker and node.
//
// Grids are [segment, row, column, channel] in doubles. Every layer is the same loop: gather the taps of some outputs into a
// block, multiply it by the weights.

/** The bytes that letters of base 85 stand for: four by five of them, the highest first. */
function explorerBytes(text) {
  const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,-./:;=?@[]^_{}";
  const digits = new Uint8Array(128);
  for (let digit = 0; digit < letters.length; digit++) digits[letters.charCodeAt(digit)] = digit;
  const words = Math.ceil(text.length / 5);
  const whole = text.padEnd(5 * words, letters[84]);
  const bytes = new Uint8Array(4 * words);
  for (let from = 0, to = 0; to < bytes.length; to += 4) {
    let word = 0;
    for (const end = from + 5; from < end; from++) word = 85 * word + digits[whole.charCodeAt(from)];
    bytes[to] = word >>> 24; bytes[to + 1] = word >>> 16; bytes[to + 2] = word >>> 8; bytes[to + 3] = word;
  }
  return bytes.subarray(0, text.length - words);
}

/** Half-precision values, the low bytes of all before the high ones. */
function explorerHalves(bytes) {
  const values = new Float32Array(bytes.length >> 1);
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  const scale = 2 ** 112; // what moving the exponent's bits without changing its bias leaves out; exact below it too
  for (let i = 0; i < values.length; i++) {
    const half = bytes[i] | (bytes[values.length + i] << 8);
    bits[0] = (half & 0x7fff) << 13;
    const value = float[0] * scale;
    values[i] = half & 0x8000 ? -value : value;
  }
  return values;
}

/** A model's weights from the page's text: halves, deflated. */
async function explorerWeights(text) {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old to unpack the weights in the page");
  const unpacked = new Blob([explorerBytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return explorerHalves(new Uint8Array(await new Response(unpacked).arrayBuffer()));
}

/** Makes and applies layers with a model's tensors, whose values are parts of `values`. */
function explorerLayers(about, values) {
  const BLOCK = 16;
  const STEP = 1e7; // products between two moments at which work may be given up: 10 ms
  const tensors = new Map(about.map(({ name, shape, offset }) => {
    const size = shape.reduce((product, length) => product * length, 1);
    return [name, { shape, values: values.subarray(offset, offset + size) }];
  }));
  const tensor = (name) => {
    if (!tensors.has(name)) throw new Error(`the page has no weights called ${name}`);
    return tensors.get(name);
  };

  // A layer: `rows` outputs a segment, each of `taps` inputs (pixel numbers, -1 for none) of `inputs` channels; `weight(k, o)`.
  function layer({ taps, inputs, outputs, rows, sources, places, inSize, outSize, weight, bias, slope }) {
    const depth = taps * inputs;
    const panels = new Float64Array(Math.ceil(outputs / 4) * depth * 4);
    const biases = new Float64Array(Math.ceil(outputs / 4) * 4);
    for (let o = 0; o < outputs; o++) {
      biases[o] = bias(o);
      for (let k = 0; k < depth; k++) panels[(o >> 2) * depth * 4 + 4 * k + (o & 3)] = weight(k, o);
    }
    const block = new Float64Array(BLOCK * depth);
    return { taps, inputs, outputs, rows, sources, places, inSize, outSize, panels, biases, slope, depth, block };
  }

  /** A matrix of `inputs` by `outputs` whose elements are `weight(k, o)`, to which `bias(o)` is added. */
  function matrix(inputs, outputs, weight, bias, slope = 1) {
    return layer({
      taps: 1, inputs, outputs, rows: 1, sources: Int32Array.of(0), places: Int32Array.of(0), inSize: inputs, outSize: outputs,
      weight, bias, slope,
    });
  }

  /** The matrix and bias called `name`, with inputs and outputs in another order than the model has them. */
  function dense(name, slope, inOrder = (k) => k, outOrder = (o) => o) {
    const { shape: [inputs, outputs], values: weights } = tensor(`${name}.weight`);
    const bias = tensor(`${name}.bias`).values;
    return matrix(inputs, outputs, (k, o) => weights[inOrder(k) * outputs + outOrder(o)], (o) => bias[outOrder(o)], slope);
  }

  /**
   * A convolution over time that keeps the length: `width` frames of `inputs` side by side, `floor((width - 1) / 2)` of them before
   * the present one. For `overTime` only.
   */
  function temporal(width, inputs, outputs, weight, bias, slope) {
    return layer({ taps: width, inputs, outputs, rows: 0, sources: [], places: [], inSize: 0, outSize: 0, weight, bias, slope });
  }

  /** A temporal layer for so many frames: its outputs go to columns `column` and on of a matrix with `columns`. */
  function overTime(layer, frames, columns = layer.outputs, column = 0) {
    const { taps, inputs } = layer;
    const before = (taps - 1) >> 1;
    const source = (t) => (t >= 0 && t < frames ? t : -1);
    const sources = Int32Array.from({ length: frames * taps }, (_, i) => source(Math.floor(i / taps) - before + (i % taps)));
    const places = Int32Array.from({ length: frames }, (_, t) => t * columns + column);
    return { ...layer, rows: frames, sources, places, inSize: frames * inputs, outSize: frames * columns };
  }

  /** A convolution that halves the columns, and the rows if their stride is 2; padding 1. */
  function convolution(name, height, width, rowStride, slope) {
    const { shape: [outputs, inputs, tall, wide], values: weights } = tensor(`${name}.weight`);
    const bias = tensor(`${name}.bias`).values;
    const [outHeight, outWidth, taps] = [height / rowStride, width / 2, tall * wide];
    const sources = new Int32Array(outHeight * outWidth * taps).fill(-1);
    const places = new Int32Array(outHeight * outWidth);
    for (let y = 0, row = 0; y < outHeight; y++) {
      for (let x = 0; x < outWidth; x++, row++) {
        places[row] = row * outputs;
        for (let tap = 0; tap < taps; tap++) {
          const [fromY, fromX] = [y * rowStride - 1 + Math.floor(tap / wide), 2 * x - 1 + (tap % wide)];
          if (fromY >= 0 && fromY < height && fromX >= 0 && fromX < width) sources[row * taps + tap] = fromY * width + fromX;
        }
      }
    }
    const weight = (k, o) => weights[(o * inputs + (k % inputs)) * taps + Math.floor(k / inputs)];
    const [inSize, outSize] = [height * width * inputs, outHeight * outWidth * outputs];
    return [layer({
      taps, inputs, outputs, rows: places.length, sources, places, inSize, outSize, weight, bias: (o) => bias[o], slope,
    })];
  }

  // Outputs of one parity share their taps: such a layer is a few plain ones side by side. Of `kept` output channels.
  function transposed(name, height, width, rowStride, slope, kept) {
    const { shape: [inputs, all, tall, wide], values: weights } = tensor(`${name}.weight`);
    const bias = tensor(`${name}.bias`).values;
    const outputs = kept || all;
    const [outHeight, outWidth] = [height * rowStride, width * 2];
    const layers = [];
    for (let parity = 0; parity < 2 * rowStride; parity++) {
      const [oddY, oddX] = [parity >> 1, parity & 1];
      const used = [];
      for (let tap = 0; tap < tall * wide; tap++) {
        if ((oddY + 1 - Math.floor(tap / wide)) % rowStride === 0 && (oddX + 1 - (tap % wide)) % 2 === 0) used.push(tap);
      }
      const [sources, places] = [[], []];
      for (let y = oddY; y < outHeight; y += rowStride) {
        for (let x = oddX; x < outWidth; x += 2) {
          places.push((y * outWidth + x) * outputs);
          for (const tap of used) {
            const [fromY, fromX] = [(y + 1 - Math.floor(tap / wide)) / rowStride, (x + 1 - (tap % wide)) / 2];
            const inside = fromY >= 0 && fromY < height && fromX >= 0 && fromX < width;
            sources.push(inside ? fromY * width + fromX : -1);
          }
        }
      }
      const weight = (k, o) => weights[((k % inputs) * all + o) * tall * wide + used[Math.floor(k / inputs)]];
      layers.push(layer({
        taps: used.length, inputs, outputs, rows: places.length, sources: Int32Array.from(sources),
        places: Int32Array.from(places), inSize: height * width * inputs, outSize: outHeight * outWidth * outputs,
        weight, bias: (o) => bias[o], slope,
      }));
    }
    return layers;
  }

  // Buffers are kept: a slider's move allocates nothing that the last one did not.
  const buffers = new Map();
  function buffer(key, size) {
    if (!buffers.has(key) || buffers.get(key).length < size) buffers.set(key, new Float64Array(size));
    return buffers.get(key);
  }

  const starts = new Int32Array(BLOCK + 1);
  function apply(layer, x, segments, y) {
    applyRows(layer, x, 0, layer.rows * segments, y);
    return y;
  }

  /** As `apply`, as a generator that yields between pieces of work. */
  function* applySlowly(layer, x, segments, y) {
    const total = layer.rows * segments;
    const step = BLOCK * Math.ceil(STEP / (BLOCK * layer.depth * layer.outputs));
    for (let first = 0; first < total; first += step) {
      applyRows(layer, x, first, Math.min(first + step, total), y);
      yield;
    }
    return y;
  }

  function applyRows(layer, x, from, to, y) {
    const { taps, inputs, rows, sources, places, inSize, outSize, depth, block } = layer;
    for (let first = from; first < to; first += BLOCK) {
      const count = Math.min(BLOCK, to - first);
      for (let r = 0; r < count; r++) {
        const segment = Math.floor((first + r) / rows);
        const row = first + r - segment * rows;
        starts[r] = segment * outSize + places[row];
        for (let tap = 0; tap < taps; tap++) {
          const source = sources[row * taps + tap];
          const into = r * depth + tap * inputs;
          if (source < 0) {
            for (let i = 0; i < inputs; i++) block[into + i] = 0;
          } else {
            const at = segment * inSize + source * inputs;
            for (let i = 0; i < inputs; i++) block[into + i] = x[at + i];
          }
        }
      }
      multiply(layer, count, y);
    }
  }

  // Two rows by four columns: as many sums as there are registers for.
  function multiply({ outputs, panels, biases, slope, depth, block }, count, y) {
    for (let o = 0; o < outputs; o += 4) {
      const panel = o * depth;
      const b0 = biases[o], b1 = biases[o + 1], b2 = biases[o + 2], b3 = biases[o + 3];
      for (let r = 0; r < count; r += 2) {
        const one = r * depth;
        const other = r + 1 < count ? one + depth : one;
        let s0 = b0, s1 = b1, s2 = b2, s3 = b3, t0 = b0, t1 = b1, t2 = b2, t3 = b3;
        for (let k = 0, w = panel; k < depth; k++, w += 4) {
          const a = block[one + k], c = block[other + k];
          const w0 = panels[w], w1 = panels[w + 1], w2 = panels[w + 2], w3 = panels[w + 3];
          s0 += a * w0; s1 += a * w1; s2 += a * w2; s3 += a * w3;
          t0 += c * w0; t1 += c * w1; t2 += c * w2; t3 += c * w3;
        }
        put(y, starts[r] + o, outputs - o, slope, s0, s1, s2, s3);
        if (r + 1 < count) put(y, starts[r + 1] + o, outputs - o, slope, t0, t1, t2, t3);
      }
    }
  }

  function put(y, at, left, slope, s0, s1, s2, s3) {
    y[at] = s0 > 0 ? s0 : slope * s0;
    if (left > 1) y[at + 1] = s1 > 0 ? s1 : slope * s1;
    if (left > 2) y[at + 2] = s2 > 0 ? s2 : slope * s2;
    if (left > 3) y[at + 3] = s3 > 0 ? s3 : slope * s3;
  }

  function run(stages, x, segments, key) {
    return stages.reduce((x, stage, index) => {
      const y = buffer(`${key} ${index}`, segments * stage[0].outSize);
      stage.forEach((layer) => apply(layer, x, segments, y));
      return y;
    }, x);
  }

  return { tensor, matrix, dense, temporal, overTime, convolution, transposed, apply, applySlowly, run, buffer };
}
