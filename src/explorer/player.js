"use strict";
// What a browser knows of sound: playing it, and reading recordings.

/**
 * Plays one sound at a time, a newer one faded in over the older. `show` is given the place in seconds while it plays and `null` when it
 * ends, `fail` a sentence. There is no context for sound before something is to be played.
 */
function explorerPlayer(rate, { show, fail }) {
  const FADE = 0.012;
  let [context, now] = [null, null];

  function position() {
    const at = context.currentTime - now.began;
    return now.loop ? at % now.seconds : at;
  }

  function end(voice) {
    voice.gain.gain.setTargetAtTime(0, context.currentTime, FADE / 3);
    voice.node.onended = null;
    voice.node.stop(context.currentTime + 2 * FADE);
  }

  function follow() {
    show(now ? position() : null);
    if (now) requestAnimationFrame(follow);
  }

  function play(samples, at, loop) {
    try {
      context = context || new AudioContext();
      context.resume();
      const buffer = context.createBuffer(1, Math.max(1, samples.length), rate);
      buffer.copyToChannel(samples, 0);
      const [node, gain] = [context.createBufferSource(), context.createGain()];
      node.buffer = buffer;
      node.loop = loop;
      gain.gain.setValueAtTime(0, context.currentTime);
      gain.gain.linearRampToValueAtTime(1, context.currentTime + FADE);
      node.connect(gain).connect(context.destination);
      const before = now;
      const from = at < buffer.duration ? at : 0;
      const voice = { node, gain, loop, began: context.currentTime - from, seconds: buffer.duration };
      now = voice;
      if (before) end(before);
      node.onended = () => { if (now === voice) now = null; };
      node.start(0, from);
      if (!before) follow();
    } catch (error) {
      now = null;
      fail(`This browser cannot play sound of ${rate} Hz: ${error.message}. It can be saved.`);
    }
  }

  return {
    playing: () => now !== null,
    play: (samples) => play(samples, 0, false),
    /** Goes on where the sound before it is; again and again if it is to `loop`. */
    swap: (samples, loop) => play(samples, now ? position() : 0, loop),
    stop() {
      if (now) end(now);
      now = null;
    },
  };
}

/** The samples of a recording at `rate`, its first `longest` seconds, and whether it was `cut`. Throws a sentence. */
async function explorerRecording(file, rate, longest) {
  const LARGEST = 200e6; // bytes
  if (file.size === 0) throw `${file.name} is empty.`;
  if (file.size > LARGEST) throw `${file.name} is larger than ${LARGEST / 1e6} MB; a shorter one is needed.`;
  let heard;
  try {
    heard = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw `${file.name} is no sound that this browser can read; .wav, .mp3, .flac and .ogg usually are.`;
  }
  const length = Math.min(heard.length, longest * rate);
  const samples = new Float32Array(length);
  for (let channel = 0; channel < heard.numberOfChannels; channel++) {
    const one = heard.getChannelData(channel);
    for (let n = 0; n < length; n++) samples[n] += one[n] / heard.numberOfChannels;
  }
  if (!samples.every(Number.isFinite)) throw `${file.name} holds samples that are not numbers.`;
  if (!samples.some((sample) => Math.abs(sample) > 1e-4)) throw `${file.name} is silent.`;
  return { samples, cut: heard.length > length };
}
