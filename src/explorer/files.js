"use strict";
// What the page saves: sound as .wav, codes as the .npz that `synth decode` reads, and command lines. No DOM.

/** A 16-bit PCM file of one channel. */
function explorerWav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true); view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, n) => view.setInt16(44 + 2 * n, Math.round(32767 * Math.min(1, Math.max(-1, x))), true));
  return new Uint8Array(view.buffer);
}

/** Codes as `synth encode` writes them: `mean`, `scale` (zeros) and `meta`. */
function explorerNpz(data, { codes, frames, gain }) {
  const latents = data.model.latents;
  const meta = {
    segment_frames: data.model.segment_frames, hop: Math.floor(data.model.segment_frames / 2), frames, gain, vae: data.vae,
    features: data.features,
  };
  const bytes = new TextEncoder().encode(JSON.stringify(meta));
  const shape = `(${codes.length / latents}, ${latents})`;
  return explorerZip([
    ["mean.npy", explorerNpy("<f4", shape, new Uint8Array(Float32Array.from(codes).buffer))],
    ["scale.npy", explorerNpy("<f4", shape, new Uint8Array(4 * codes.length))],
    ["meta.npy", explorerNpy("|u1", `(${bytes.length},)`, bytes)],
  ]);
}

/** An array in numpy's format, version 1.0: the data begins at a multiple of 64. */
function explorerNpy(type, shape, bytes) {
  const header = `{'descr': '${type}', 'fortran_order': False, 'shape': ${shape}, }`;
  const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  const file = new Uint8Array(10 + padded.length + bytes.length);
  file.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, padded.length & 255, padded.length >> 8]);
  file.set(new TextEncoder().encode(padded), 10);
  file.set(bytes, 10 + padded.length);
  return file;
}

/** A zip archive of `[name, bytes]`, stored. */
function explorerZip(entries) {
  const parts = [];
  const directory = [];
  let at = 0;
  const sum = (bytes) => {
    let crc = ~0;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
    }
    return ~crc >>> 0;
  };
  const record = (size, fields) => {
    const view = new DataView(new ArrayBuffer(size));
    fields.forEach(([offset, bytes, value]) => (bytes === 4 ? view.setUint32 : view.setUint16).call(view, offset, value, true));
    return new Uint8Array(view.buffer);
  };
  const [version, day] = [20, 0x21]; // 1 January 1980, the first day there is
  for (const [name, bytes] of entries) {
    const [crc, letters] = [sum(bytes), new TextEncoder().encode(name)];
    const about = (from) => [
      [from, 2, version], [from + 8, 2, day], [from + 10, 4, crc], [from + 14, 4, bytes.length], [from + 18, 4, bytes.length],
      [from + 22, 2, letters.length],
    ];
    directory.push(record(46, [[0, 4, 0x02014b50], [4, 2, version], ...about(6), [42, 4, at]]), letters);
    const local = record(30, [[0, 4, 0x04034b50], ...about(4)]);
    parts.push(local, letters, bytes);
    at += local.length + letters.length + bytes.length;
  }
  const size = directory.reduce((total, part) => total + part.length, 0);
  const [count, end] = [entries.length, 0x06054b50];
  const last = record(22, [[0, 4, end], [8, 2, count], [10, 2, count], [12, 4, size], [16, 4, at]]);
  const all = [...parts, ...directory, last];
  const file = new Uint8Array(all.reduce((total, part) => total + part.length, 0));
  let to = 0;
  for (const part of all) { file.set(part, to); to += part.length; }
  return file;
}

/** A word as a POSIX shell reads it back. */
function explorerQuoted(word) {
  const safe = word.startsWith("-") ? `./${word}` : word;
  return /^[A-Za-z0-9_@%+:,./-]+$/.test(safe) ? safe : `'${safe.replaceAll("'", "'\\''")}'`;
}

/** The command line for a sound: `path` of a recording whose latents are moved by `offsets`, or none, for saved codes. */
function explorerCommand({ run, inverter }, { path, peak }, offsets) {
  const models = `--vae ${explorerQuoted(run)}${inverter ? ` --inverter ${explorerQuoted(inverter.run)}` : ""}`;
  if (path === null) return `synth decode ${models}${peak ? ` --peak ${peak}` : ""} explorer.npz explorer.wav`;
  const moved = Array.from(offsets, (value, latent) => (value === 0 ? "" : ` --add ${latent}=${Number(value.toFixed(3))}`)).join("");
  return `synth ${moved ? "edit" : "reconstruct"} ${models}${moved} ${explorerQuoted(path)} explorer.wav`;
}
