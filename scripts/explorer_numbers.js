"use strict";
// What the explorer of a page computes, held against the command line's numbers for the same weights and codes. A browser runs this
// by check_explorer.py; node runs it as
//
//     node explorer_numbers.js FOLDER
//
// with `explorer.js`, `data.json` and `reference.json` in FOLDER, where it leaves `explorer.npz` and `explorer.wav`. The last line
// of output is JSON: `[{what, found, most}]`. Tolerances: float sums in another order give 1e-5 nats; 1e-3 is what nobody hears.

async function explorerNumbers(data, reference) {
  const engine = await explorerEngine(data);
  const { frames, gain } = reference;
  const mels = data.features.n_filterbank;
  const largest = (found, wanted) => {
    if (found.length !== wanted.length) return NaN;
    return found.reduce((most, value, i) => Math.max(most, Math.abs(value - wanted[i])), 0);
  };
  const mean = (found, wanted) => found.reduce((sum, value, i) => sum + Math.abs(value - wanted[i]), 0) / found.length;
  const wanted = (name) => Float32Array.from(reference[name]);

  const result = (steps) => {
    for (;;) {
      const { done, value } = steps.next();
      if (done) return value;
    }
  };

  const heard = engine.encode(wanted("samples"));
  const extracted = engine.features.extract(wanted("samples"));
  const decoded = engine.decode(wanted("mean"), frames);
  const mel = engine.sound.powerOf(wanted("decoded"));
  const target = wanted("decoded");
  const level = (sound) => {
    const emphasised = Float64Array.from(sound, (x, n) => (x - (n ? data.features.preemphasis * sound[n - 1] : 0)) / gain);
    return engine.features.logmel(emphasised);
  };
  // Spectral convergence over mel magnitudes: how far one spectrogram is from the other, in parts of it.
  const convergence = (found, wanted) => {
    const magnitude = (log) => Math.exp(log / 2);
    const error = found.reduce((sum, log, i) => sum + (magnitude(log) - magnitude(wanted[i])) ** 2, 0);
    return 10 * Math.log10(error / wanted.reduce((sum, log) => sum + magnitude(log) ** 2, 0));
  };

  const [checks, notes] = [[], []];
  const check = (what, found, most) => checks.push({ what, found, most });
  check("log-mels of a recording, nats", largest(extracted.logmel, wanted("logmel")), 1e-3);
  check("gain of a recording, relative", Math.abs(extracted.gain / gain - 1), 1e-6);
  check("codes of a recording", largest(heard.codes, wanted("mean")), 1e-3);
  check("decoded log-mels, nats", largest(decoded, target), 1e-3);

  // Spectra and sounds with and without the inverter. What is compared of sounds are log-mels at the level of the features: a sound
  // is as loud as its source.
  let samples;
  const ways = [["mel inverse", { linear: reference.linear, sound: reference.sound }], ["inverter", reference.inverter]];
  for (const [way, theirs] of ways.filter(([, theirs]) => theirs)) {
    const quality = { iterations: 100, inversions: 30, inverted: way === "inverter" };
    const linear = result(engine.sound.linearOf(target, mel, frames, quality)).map(Math.log);
    check(`${way}, nats`, largest(linear, Float32Array.from(theirs.linear)), 1e-3);
    samples = result(engine.make(target, frames, quality)).map((value) => value * gain);
    const [our, their] = [level(samples), level(Float32Array.from(theirs.sound))];
    const [ourError, theirError] = [mean(our, target), mean(their, target)];
    check(`${way}: frames too many or few`, Math.abs(our.length - their.length) / mels, 0);
    check(`${way}: sound further from the decoded log-mels than the command line's, nats`, ourError - theirError, 0.01);
    check(`${way}: sound's log-mels from the command line's, mean, nats`, mean(our, their), 0.05);
    notes.push(
      `${way}: sound's log-mels from the decoded ones: ${ourError.toFixed(4)} nats, the command line's ${theirError.toFixed(4)}; ` +
        `spectral convergence over mel bands: to the decoded ${convergence(our, target).toFixed(1)} dB, the command line's ` +
        `${convergence(their, target).toFixed(1)} dB; to the command line's ${convergence(our, their).toFixed(1)} dB`,
    );
  }
  return { samples, checks, notes };
}

// What has closed forms: ways between codes, walks of the prior, words for a shell. Throws at the first that is not as it should be.
function explorerForms(data) {
  const { mix, draw, head } = explorerCodes(data);
  const { latents, segment_frames: length } = data.model;
  const hop = Math.floor(length / 2);
  const near = (what, found, wanted, most = 1e-6) => {
    if (!(Math.abs(found - wanted) <= most)) throw new Error(`${what} is ${found}, not ${wanted}`);
  };
  const code = (segments, value) => {
    const codes = Float32Array.from({ length: segments * latents }, (_, i) => value(i % latents, Math.floor(i / latents)));
    return { codes, frames: length + (segments - 1) * hop, gain: 1 };
  };
  const [one, other] = [code(1, (latent) => Number(latent === 0)), code(1, (latent) => 3 * Number(latent === 1))];
  near("half of a straight line", mix(one, other, 0.5, "linear").codes[0], 0.5);
  near("half of a circle", mix(one, other, 0.5, "slerp").codes[0], 2 * Math.SQRT1_2); // its length is half way from 1 to 3
  near("half of a circle", mix(one, other, 0.5, "slerp").codes[1], 2 * Math.SQRT1_2);
  near("a circle through opposite codes", mix(one, code(1, (latent) => -Number(latent === 0)), 0.25, "slerp").codes[0], 0.5);
  const ramp = code(5, (_, segment) => segment);
  near("the end of a way", mix(one, ramp, 1, "slerp").codes[3 * latents], 3);
  near("the frames of half a way", mix(one, ramp, 0.5, "linear").frames, length + 2 * hop);
  near("the middle of half a way", mix(one, ramp, 0.5, "linear").codes[latents + 1], 1);
  near("the frames of a beginning", head(ramp, length + hop).frames, length + hop);
  near("the codes of a beginning", head(ramp, length + hop).codes.length, 2 * latents);
  const step = (hop * data.features.hop_size) / data.features.sample_rate;
  const { codes } = draw(20000 * step, 2 * step, 7);
  const product = (lag) => {
    const count = codes.length - lag * latents;
    let sum = 0;
    for (let i = 0; i < count; i++) sum += codes[i] * codes[i + lag * latents];
    return sum / count;
  };
  // 20 000 segments, correlated over some four, of at least 16 latents: deviations of 0.005.
  near("the variance of a walk", product(0), 1, 0.03);
  near("a walk's correlation with its next segment", product(1), Math.exp(-0.5), 0.03);
  for (const [word, wanted] of [["runs/a", "runs/a"], ["it's $x", "'it'\\''s $x'"], ["-o", "./-o"], ["", "''"]]) {
    if (explorerQuoted(word) !== wanted) throw new Error(`${word} is quoted as ${explorerQuoted(word)}, not ${wanted}`);
  }
}

// A page's script without a page: names of functions become global.
function explorerLoad(path) {
  globalThis.document = { querySelector: () => null, getElementById: () => null }; // nothing to show
  require("vm").runInThisContext(require("fs").readFileSync(path, "utf8"), { filename: path });
}

// Time of the processor, for a machine may be busy with other things: the median of the last 5 of 10.
function explorerTime(steps) {
  const times = Array.from({ length: 10 }, () => {
    const before = process.cpuUsage();
    const all = steps();
    while (!all.next().done);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  });
  return times.slice(-5).sort((a, b) => a - b)[2].toFixed(0);
}

async function explorerMain(folder) {
  const [fs, path] = ["fs", "path"].map((name) => require(name));
  const at = (name) => path.join(folder, name);
  const read = (name) => JSON.parse(fs.readFileSync(at(name), "utf8"));
  explorerLoad(at("explorer.js"));
  const [data, reference] = [read("data.json"), read("reference.json")];
  explorerForms(data);
  const { checks, notes, samples } = await explorerNumbers(data, reference);
  fs.writeFileSync(at("explorer.npz"), explorerNpz(data, { codes: reference.mean, frames: reference.frames, gain: reference.gain }));
  fs.writeFileSync(at("explorer.wav"), explorerWav(samples, data.features.sample_rate));

  // From a slider to the sound of its draft, and what the inverter adds to a sound at rest.
  const { codes, frames } = explorerCodes(data).draw(1, 0.15, 1);
  const engine = await explorerEngine(data);
  const draft = { iterations: 6, inversions: 15, inverted: false };
  const drafted = explorerTime(() => engine.make(engine.decode(codes, frames), frames, draft));
  notes.push(`a draft of 1 s takes ${drafted} ms of processor time`);
  if (data.inverter) {
    const logmel = engine.decode(codes, frames);
    notes.push(`the inverter takes ${explorerTime(() => engine.inverter.predict(logmel, frames))} ms for 1 s`);
  }
  notes.forEach((note) => console.log(note));
  console.log(JSON.stringify(checks));
}

if (typeof require === "function" && require.main === module) explorerMain(process.argv[2]);
