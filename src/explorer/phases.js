"use strict";
// Phases from magnitudes alone: phase gradient heap integration, as `synth` does it. No DOM.

/** Phases under a transform, integrated from the loudest bin outwards (Prusa, Balazs, Sondergaard 2017). */
function explorerPhases(stft) {
  const { bins, hop } = stft;

  /** Spectra `[frames, bins]` of these magnitudes, as real and imaginary parts. */
  return function phases(magnitude, frames) {
    const size = frames * bins;
    const log = new Float32Array(size);
    let loudest = 0;
    for (let index = 0; index < size; index++) if (magnitude[index] > loudest) loudest = magnitude[index];
    const bits = new Uint32Array(magnitude.buffer, magnitude.byteOffset, size);
    const floor = Math.fround(1e-6 * loudest);
    const [waiting, phase] = [new Uint8Array(size), new Float64Array(size)];
    const random = explorerRandom(0);
    let [left, seed] = [0, -1];
    for (let index = 0; index < size; index++) {
      log[index] = Math.log(Math.max(magnitude[index], 1e-10));
      if (magnitude[index] > floor) {
        waiting[index] = 1;
        left++;
        if (seed < 0 || magnitude[index] >= magnitude[seed]) seed = index;
      } else {
        phase[index] = 2 * Math.PI * random();
      }
    }
    const timeFactor = (hop * stft.length) / (0.25645 * stft.length * stft.length);
    const turn = (2 * Math.PI * hop) / stft.length;
    const inTime = (index, bin) =>
      turn * bin + (bin === 0 || bin + 1 === bins ? 0 : (timeFactor * (log[index + 1] - log[index - 1])) / 2);
    const inFrequency = (index) =>
      index < bins || index + bins >= size ? 0 : (log[index + bins] - log[index - bins]) / (-2 * timeFactor);
    // The border: a stack for each eighth of a doubling, in which each bin names the one below it.
    const [stacks, below] = [new Int32Array(1 << 11).fill(-1), new Int32Array(size)];
    let top = -1;
    function reach(index, value) {
      if (!waiting[index]) return;
      waiting[index] = 0;
      phase[index] = value;
      const step = bits[index] >>> 20;
      below[index] = stacks[step];
      stacks[step] = index;
      if (step > top) top = step;
    }
    let seeds = null;
    while (left > 0) {
      if (seed < 0) {
        // Regions apart from the loudest one are rare: only then are all that wait put in order.
        seeds ??= Int32Array.from(waiting.keys()).filter((i) => waiting[i]).sort((i, j) => magnitude[i] - magnitude[j]);
        while (!waiting[seeds[seeds.length - 1]]) seeds = seeds.subarray(0, seeds.length - 1);
        seed = seeds[seeds.length - 1];
      }
      reach(seed, 0);
      seed = -1;
      for (;;) {
        while (top >= 0 && stacks[top] < 0) top--;
        if (top < 0) break;
        const here = stacks[top];
        stacks[top] = below[here];
        left--;
        const bin = here % bins;
        const angle = phase[here], time = inTime(here, bin), frequency = inFrequency(here);
        if (here >= bins) reach(here - bins, angle - 0.5 * (time + inTime(here - bins, bin)));
        if (here + bins < size) reach(here + bins, angle + 0.5 * (time + inTime(here + bins, bin)));
        if (bin > 0) reach(here - 1, angle - 0.5 * (frequency + inFrequency(here - 1)));
        if (bin + 1 < bins) reach(here + 1, angle + 0.5 * (frequency + inFrequency(here + 1)));
      }
    }
    const [real, imaginary] = [new Float32Array(size), new Float32Array(size)];
    for (let index = 0; index < size; index++) {
      // Frames are counted from their start, not from their centre: every other bin is turned around.
      const sign = (index % bins) & 1 ? -magnitude[index] : magnitude[index];
      real[index] = sign * Math.cos(phase[index]);
      imaginary[index] = sign * Math.sin(phase[index]);
    }
    return { real, imaginary };
  };
}

/** Numbers in [0, 1) from a seed (mulberry32, public domain). */
function explorerRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
  };
}
