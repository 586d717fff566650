"use strict";
// What is seen of the explorer. Sound is computed in a worker made of the functions above, or, where a page may not have one,
// here, a step at a time. Names and paths go into the page as text only.

(() => {
  const [section, source] = [document.querySelector(".explorer"), document.getElementById("explorer-data")];
  if (!section || !source) return;
  const parts = new Map(Array.from(section.querySelectorAll("[data-part]"), (element) => [element.dataset.part, element]));
  const part = (name) => parts.get(name);
  const say = (text) => { part("status").textContent = text; };
  const make = (tag, text, className) => Object.assign(document.createElement(tag), { textContent: text, className: className || "" });

  const data = JSON.parse(source.textContent);
  const { latents } = data.model;
  const { sample_rate: rate, hop_size: hop, n_filterbank: mels } = data.features;
  const colours = explorerBytes(data.colours);
  const bands = explorerFilterbank(data.features);
  const seconds = (frames) => ((frames - 1) * hop) / rate;

  const [MOVING, LONGEST] = [2, 30]; // seconds heard at a move, and of a recording
  const DRAFT = { iterations: 6, inversions: 15, inverted: false };
  const FINE = { iterations: 100, inversions: 30, inverted: true };
  const REST = 300; // ms without a move after which the sound is made well
  const [SHOWN, ACTIVE] = [8, 0.01];

  // What sounds: codes of a recording, a draw or a morph, and what the sliders add to them.
  let start = null;
  const offsets = new Float32Array(latents);
  const pins = { A: null, B: null };

  function moved() {
    const sum = start.codes.map((value, i) => value + offsets[i % latents]);
    return { codes: sum, frames: start.frames, gain: start.gain };
  }

  // Requests go to a worker, or to the same code in the page.
  const functions = [
    explorerBytes, explorerHalves, explorerWeights, explorerLayers, explorerSegments, explorerNetwork, explorerInverter, explorerFft,
    explorerStft, explorerFilterbank, explorerFeatures, explorerPhases, explorerRandom, explorerSound, explorerEngine, explorerServe,
  ];
  let send = () => {};
  let ready = false;
  const codes = explorerCodes(data); // quick enough to be worked on here

  function openHere() {
    if (ready) return;
    const receive = explorerServe((answer) => setTimeout(() => hear(answer)));
    send = (request) => { receive(request); };
    send({ kind: "open", data });
  }

  function open() {
    const text = `"use strict";\n${functions.join("\n")}\nconst receive = explorerServe((answer) => postMessage(answer));\n` +
      "onmessage = ({ data }) => { receive(data); };";
    try {
      const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
      worker.onmessage = ({ data: answer }) => hear(answer);
      worker.onerror = (event) => { event.preventDefault(); openHere(); };
      send = (request) => worker.postMessage(request);
      send({ kind: "open", data });
    } catch {
      openHere();
    }
  }

  // One draft at a time: what moved meanwhile is drawn next. A good pass gives way to any draft.
  let [id, atWork, again, rest] = [0, null, false, 0];
  let mayPlay = false;
  let sound = null;
  const encodings = new Map(); // what to do with the codes of a recording, by request

  function ask(quality) {
    const whole = moved();
    const draft = quality === DRAFT;
    const part = draft ? codes.head(whole, Math.round((MOVING * rate) / hop) + 1) : whole;
    atWork = { id: ++id, draft, frames: whole.frames, asked: performance.now() };
    send({ kind: "render", id, ...part, peak: start.peak, quality });
  }

  function change({ quiet = false } = {}) {
    if (!ready || !start) return;
    mayPlay = mayPlay || !quiet;
    describe();
    clearTimeout(rest);
    if (atWork && atWork.draft) again = true;
    else ask(DRAFT);
  }

  function hear(answer) {
    if (answer.kind === "ready") {
      if (ready) return;
      ready = true;
      begin(0, { quiet: true });
    } else if (answer.kind === "encoded") {
      encodings.get(answer.id)(answer);
      encodings.delete(answer.id);
    } else if (answer.kind === "failed") {
      if (!encodings.delete(answer.id)) atWork = null;
      say(`This did not work: ${answer.message}.`);
    } else if (atWork && answer.id === atWork.id) {
      if (answer.kind === "spectrum") draw(answer.logmel, answer.frames, atWork.frames);
      else finish(answer);
    }
  }

  function finish({ samples, took }) {
    const { draft } = atWork;
    section.dataset[draft ? "draft" : "fine"] = took.toFixed(0); // ms, for whoever measures
    atWork = null;
    sound = samples;
    part("play").disabled = part("save").disabled = false;
    if (player.playing() || (draft && mayPlay && part("follow").checked)) player.swap(samples, draft && dragging);
    mayPlay = false;
    if (draft && again) {
      again = false;
      mayPlay = true;
      ask(DRAFT);
    } else if (draft) {
      rest = setTimeout(() => ask(FINE), dragging ? REST : 0);
    }
  }

  const player = explorerPlayer(rate, {
    show(at) {
      part("play").setAttribute("aria-pressed", String(at !== null));
      part("play").setAttribute("aria-label", at === null ? "Play" : "Stop");
      part("playhead").hidden = at === null;
      if (at !== null) part("playhead").style.left = `${Math.min(100, (100 * at) / seconds(start.frames))}%`;
    },
    fail: say,
  });

  // The spectrogram, in the colours of the project's pictures.
  const lowest = Math.log(data.features.clip_before_log);
  const highest = Math.max(...data.standardizer.mean) + 2.5 * data.standardizer.std;
  function draw(logmel, frames, whole) {
    const canvas = part("picture");
    if (canvas.width !== whole || canvas.height !== mels) { canvas.width = whole; canvas.height = mels; }
    const picture = new ImageData(frames, mels);
    const sums = new Float64Array(mels);
    for (let t = 0; t < frames; t++) {
      for (let band = 0; band < mels; band++) {
        const value = logmel[t * mels + band];
        const shade = Math.round(255 * Math.min(1, Math.max(0, (value - lowest) / (highest - lowest)))) || 0;
        const at = 4 * ((mels - 1 - band) * frames + t);
        for (let c = 0; c < 3; c++) picture.data[at + c] = colours[3 * shade + c];
        picture.data[at + 3] = 255;
        sums[band] += value;
      }
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
    const loudest = bands[sums.indexOf(sums.reduce((most, sum) => Math.max(most, sum)))].centre;
    canvas.setAttribute("aria-label", `Spectrogram of ${start.name}: ${seconds(whole).toFixed(1)} s, ${mels} mel bands from ` +
      `${data.features.f_min} to ${data.features.f_max} Hz, on average loudest at ${loudest.toFixed(0)} Hz`);
  }

  // Sliders.
  let dragging = false;
  const sliders = new Map();
  const signed = (value) => (value === 0 ? "0" : `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(1)}`);
  const names = new Map((data.names || []).map((name) => [name.latent, name]));

  function meaning(latent, value) {
    const { name, unit, per_unit: step } = names.get(latent) || {};
    return name && step && unit ? `${signed(Number((step * value).toFixed(1)))} ${unit}` : "";
  }

  // The part of a slider's rail between where it starts and where it is.
  function fillRail(input, from, to) {
    const at = (part) => `calc(10px + (100% - 20px) * ${part.toFixed(4)})`;
    input.style.setProperty("--x-from", at(Math.min(from, to)));
    input.style.setProperty("--x-to", at(Math.max(from, to)));
  }

  function slider({ latent, kl }) {
    const name = names.get(latent);
    const row = make("div", "", "explorer-slider");
    const label = make("label", "");
    const [input, output] = [make("input", ""), make("output", "0")];
    input.id = `explorer-latent-${latent}`;
    label.htmlFor = output.htmlFor = input.id;
    const about = `${name ? `latent ${latent}, ` : ""}KL ${kl.toFixed(2)}`;
    label.append(make("strong", name ? name.name : `Latent ${latent}`), make("small", about));
    Object.assign(input, { type: "range", min: -3, max: 3, step: 0.1, value: 0 });
    const show = () => {
      const value = offsets[latent];
      const what = meaning(latent, value);
      output.textContent = what && value !== 0 ? `${signed(value)} (${what})` : signed(value);
      fillRail(input, 0.5, 0.5 + value / 6);
      input.setAttribute("aria-valuetext", `${signed(value)} standard deviations${what ? `, ${what}` : ""}`);
    };
    const set = (value) => { input.value = value; offsets[latent] = Number(value); show(); };
    input.addEventListener("input", () => { set(input.value); change(); });
    input.addEventListener("dblclick", () => { set(0); change(); });
    input.addEventListener("pointerdown", () => { dragging = true; });
    sliders.set(latent, { set });
    show();
    row.append(label, input, output);
    return row;
  }

  for (const type of ["pointerup", "pointercancel"]) {
    addEventListener(type, () => {
      if (!dragging) return;
      dragging = false;
      if (!atWork && ready && start) { clearTimeout(rest); ask(FINE); }
    });
  }

  function level() {
    offsets.fill(0);
    sliders.forEach(({ set }) => set(0));
  }

  // Where the inverter is in the page, it is heard when a slider rests.
  part("sounds").textContent = data.inverter
    ? `While a slider moves, sound is made without an inverter; when it rests, through ${data.inverter.run}.`
    : `Sound is made without an inverter${data.left_out ? `: the weights of ${data.left_out} are too many for a page` : ""}.`;
  part("measured").textContent = `Those ${names.size > 0 ? "with a name come first, then those that say most" : "that say most come first"}. ` +
    `KL: how far a latent's posteriors are from the prior, in nats, on average over ${data.measured}.`;
  section.classList.toggle("explorer-named", names.size > 0);
  const rows = data.latents.map((latent) => [latent, slider(latent)]);
  const first = Math.min(SHOWN, Math.max(1, rows.filter(([{ kl }]) => kl > ACTIVE).length));
  part("sliders").append(...rows.slice(0, first).map(([, row]) => row));
  part("rest").append(...rows.slice(first).map(([, row]) => row));
  const others = rows.slice(first);
  const silent = others.filter(([{ kl }]) => kl <= ACTIVE).length;
  part("more").hidden = others.length === 0;
  part("more").querySelector("summary").textContent = `${others.length} more latents` + (silent ? `, ${silent} of them unused` : "");

  // Where it starts from.
  const choices = data.examples.map(({ codes, ...about }) => {
    const bytes = explorerBytes(codes);
    return { ...about, codes: new Float32Array(bytes.buffer), peak: null };
  });
  const fill = () => {
    const morph = Object.assign(new Option("A morph", ""), { hidden: true }); // shown when chosen, by the slider between A and B
    part("start").replaceChildren(morph, ...choices.map(({ name }, index) => new Option(name, index)));
  };
  fill();

  function begin(index, options) {
    player.stop();
    part("start").value = index;
    start = choices[index];
    level();
    say("");
    change(options);
  }

  function add(choice) {
    choices.push(choice);
    fill();
    begin(choices.length - 1);
  }

  let drawn = 0;
  part("start").addEventListener("change", () => begin(Number(part("start").value)));
  part("reset").addEventListener("click", () => { level(); change(); });
  part("random").addEventListener("click", () => {
    const walk = codes.draw(MOVING, 0.15, Math.floor(Math.random() * 2 ** 32));
    add({ name: `Random ${++drawn}`, path: null, whole: true, ...walk, gain: 1, peak: 0.9 });
  });

  // Recordings of the listener's own.
  let readings = 0;
  part("file").addEventListener("change", async () => {
    const [file] = part("file").files;
    part("file").value = "";
    if (!file || !ready) return;
    try {
      say(`Reading ${file.name}…`);
      const { samples, cut } = await explorerRecording(file, rate, LONGEST);
      const number = `recording ${++readings}`;
      encodings.set(number, ({ codes, frames, gain, silent }) => {
        if (silent) return say(`${file.name} is silent.`);
        if (frames < 3) return say(`${file.name} is too short: ${(samples.length / rate).toFixed(3)} s.`);
        add({ name: file.name, path: file.name, whole: !cut, codes, frames, gain, peak: null });
        say(cut ? `${file.name} is longer than ${LONGEST} s; what comes after them was left out.` : "");
      });
      send({ kind: "encode", id: number, samples });
    } catch (problem) {
      say(typeof problem === "string" ? problem : `${file.name} cannot be read: ${problem.message}.`);
    }
  });

  // Between two sounds.
  function pin(which) {
    if (!start) return;
    pins[which] = { ...moved(), name: `${start.name}${offsets.some((value) => value !== 0) ? " (moved)" : ""}` };
    part(`name${which}`).textContent = pins[which].name;
    part("morph").disabled = !(pins.A && pins.B);
  }

  function morph() {
    if (!pins.A || !pins.B) return;
    const at = Number(part("morph").value);
    fillRail(part("morph"), 0, at);
    const name = `${Math.round(100 * at)} % of the way from ${pins.A.name} to ${pins.B.name}`;
    start = { name, path: null, whole: true, ...codes.mix(pins.A, pins.B, at, part("method").value), peak: null };
    part("start").value = "";
    part("morph").setAttribute("aria-valuetext", name);
    level();
    change();
  }

  fillRail(part("morph"), 0, 0);
  for (const which of ["A", "B"]) part(`pin${which}`).addEventListener("click", () => pin(which));
  part("morph").addEventListener("input", morph);
  part("morph").addEventListener("pointerdown", () => { dragging = true; });
  part("method").addEventListener("change", morph);

  // What is taken away.
  function describe() {
    part("name").textContent = `${start.name}, ${seconds(start.frames).toFixed(1)} s`;
    part("command").textContent = explorerCommand(data, start, offsets);
    part("hint").textContent = start.path === null
      ? "Save the codes first: explorer.npz."
      : start.whole ? "" : `It makes the whole recording; here are its first ${seconds(start.frames).toFixed(1)} s.`;
  }

  function save(bytes, name, type) {
    const link = make("a", "");
    link.href = URL.createObjectURL(new Blob([bytes], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  part("play").addEventListener("click", () => (player.playing() ? player.stop() : player.play(sound)));
  part("save").addEventListener("click", () => save(explorerWav(sound, rate), "explorer.wav", "audio/wav"));
  part("codes").addEventListener("click", () => start && save(explorerNpz(data, moved()), "explorer.npz", "application/zip"));
  part("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(part("command").textContent);
      say("Copied.");
    } catch {
      getSelection().selectAllChildren(part("command"));
      say("This browser does not let a page copy: the line is selected.");
    }
  });

  section.querySelector(".explorer-body").hidden = false;
  open();
})();
