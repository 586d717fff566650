"use strict";
// What the page asks for: recordings to codes, codes to spectrograms and sound, codes between two others, codes from the prior.
// No DOM. `explorerServe` answers messages, in a worker or in the page itself.

/** Codes without a network: between those of two sounds, drawn from the prior, the first of them. */
function explorerCodes(data) {
  const { latents, segment_frames: segmentFrames } = data.model;
  const hop = Math.floor(segmentFrames / 2);
  const segmentsOf = (frames) => explorerSegments(data.model, frames);
  const row = (codes, segment) => codes.subarray(segment * latents, (segment + 1) * latents);

  // What two codes are multiplied by on the way from one to the other; the straight line where no great circle is defined.
  function shares(one, other, at, method) {
    if (at === 0 || at === 1 || method !== "slerp") return [1 - at, at];
    const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
    const [lengthOne, lengthOther] = [Math.sqrt(dot(one, one)), Math.sqrt(dot(other, other))];
    if (lengthOne === 0 || lengthOther === 0) return [1 - at, at];
    const angle = Math.acos(Math.min(1, Math.max(-1, dot(one, other) / (lengthOne * lengthOther))));
    const sine = Math.sin(angle);
    if (!(sine > 1e-3)) return [1 - at, at];
    const length = (1 - at) * lengthOne + at * lengthOther;
    const part = (angle, of) => ((Math.sin(angle) / sine) * length) / of;
    return [part((1 - at) * angle, lengthOne), part(at * angle, lengthOther)];
  }

  function between(one, other, at, method) {
    const [ofOne, ofOther] = shares(one, other, at, method);
    return one.map((value, i) => ofOne * value + ofOther * other[i]);
  }

  function resample(codes, segments) {
    const last = codes.length / latents - 1;
    const out = new Float32Array(segments * latents);
    for (let index = 0; index < segments; index++) {
      const place = (index * last) / Math.max(segments - 1, 1);
      const first = Math.floor(place);
      out.set(between(row(codes, first), row(codes, Math.min(first + 1, last)), place - first, "linear"), index * latents);
    }
    return out;
  }

  /** The codes a part `at` of the way from one sound to another, resampled in time to a length between theirs. */
  function mix(one, other, at, method) {
    const frames = Math.round(one.frames + at * (other.frames - one.frames));
    const segments = segmentsOf(frames);
    const [from, to] = [resample(one.codes, segments), resample(other.codes, segments)];
    const codes = new Float32Array(from.length);
    for (let s = 0; s < segments; s++) codes.set(between(row(from, s), row(to, s), at, method), s * latents);
    return { codes, frames, gain: one.gain ** (1 - at) * other.gain ** at };
  }

  /** Codes drawn from the prior: a stationary walk whose correlation falls to 1/e within `smoothness` seconds. */
  function draw(seconds, smoothness, seed) {
    const { hop_size: step, sample_rate: rate } = data.features;
    const frames = Math.max(segmentFrames, Math.round((seconds * rate) / step) + 1);
    const segments = segmentsOf(frames);
    const random = explorerRandom(seed);
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const kept = Math.exp((-hop * step) / rate / smoothness);
    const fresh = Math.sqrt(1 - kept * kept);
    const codes = new Float32Array(segments * latents);
    for (let i = 0; i < codes.length; i++) codes[i] = i < latents ? normal() : kept * codes[i - latents] + fresh * normal();
    return { codes, frames };
  }

  /** The first `most` frames of codes, and no fewer than a segment's. */
  function head({ codes, frames, gain }, most) {
    if (frames <= most) return { codes, frames, gain };
    const segments = segmentsOf(Math.max(most, segmentFrames));
    return { codes: codes.subarray(0, segments * latents), frames: segmentFrames + (segments - 1) * hop, gain };
  }

  return { mix, draw, head };
}

/** Everything that one run's data makes possible, with the inverter's if there is one. */
async function explorerEngine(data) {
  const layersOf = async ({ tensors, weights }) => explorerLayers(tensors, await explorerWeights(weights));
  const network = explorerNetwork(data, await layersOf(data));
  const inverter = data.inverter && explorerInverter(data.inverter, await layersOf(data.inverter));
  const sound = explorerSound(data.features, inverter), features = explorerFeatures(data.features);

  /** Codes of samples at the run's rate. */
  function encode(samples) {
    const { logmel, frames, gain, silent } = features.extract(samples);
    return { codes: network.encode(logmel, frames), frames, gain, silent };
  }

  return { encode, decode: network.decode, make: sound.make, network, inverter, sound, features };
}

/**
 * Answers requests that `receive` is given by calls of `send`. A newer request ends an older one that is still at work, at the next
 * of its steps; encoding is never ended.
 */
function explorerServe(send) {
  let engine = null;
  let newest = 0;
  const channel = new MessageChannel();
  const waiting = [];
  channel.port1.onmessage = () => waiting.shift()();
  const pause = () => new Promise((resolve) => { waiting.push(resolve); channel.port2.postMessage(0); });

  // The sound is as loud as its source was, or at the wanted peak, and within full scale.
  function level(samples, { gain, peak }) {
    const loudest = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (!Number.isFinite(loudest)) throw new Error("these codes are beyond any sound: move them nearer to 0");
    const factor = peak ? (loudest > 0 ? peak / loudest : 1) : Math.min(gain, loudest > 0 ? 1 / loudest : 1);
    for (let n = 0; n < samples.length; n++) samples[n] *= factor;
    return samples;
  }

  async function render(request) {
    const { id, codes, frames, quality } = request;
    const began = performance.now();
    await pause();
    if (id !== newest) return;
    const logmel = engine.decode(codes, frames);
    const decoded = performance.now() - began;
    send({ kind: "spectrum", id, logmel, frames });
    const steps = engine.make(logmel, frames, quality);
    for (let step = steps.next(); ; step = steps.next()) {
      if (step.done) {
        send({ kind: "sound", id, samples: level(step.value, request), decoded, took: performance.now() - began });
        return;
      }
      await pause();
      if (id !== newest) return;
    }
  }

  return async function receive(request) {
    try {
      if (request.kind === "open") {
        engine = await explorerEngine(request.data);
        send({ kind: "ready" });
      } else if (request.kind === "encode") {
        send({ kind: "encoded", id: request.id, ...engine.encode(request.samples) });
      } else {
        newest = request.id;
        await render(request);
      }
    } catch (error) {
      send({ kind: "failed", id: request.id, message: error.message });
    }
  };
}
