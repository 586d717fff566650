#!/usr/bin/env python3
"""How good the sound is at the end of every chain: Markdown rows, and JSON with --json.

    bench_sound.py --bin target/release --work DIR [--run DIR] [--vae DIR] [--inverter DIR ...] AUDIO

AUDIO is a folder of sounds, of which `test/` alone is used where there is one. The chains start from its features:

- exact linear magnitudes, with each phase recipe: what finding phases costs; once more clipped at the features' least power,
  which is what an inverter learns to give;
- exact mel bands without a network: the workshop's way (pseudo-inverse, Griffin-Lim 50), the KL inverse and then
  pghi-fast, both joined (the default);
- exact mel bands and each trained inverter that is given, with the workshop's phases and the default ones;
- with a VAE, its reconstruction through each inverter.

LSD and MCD are from `evaluate audio`, PESQ-wb and ESTOI as in `evaluate_audio.py`, all against what was analysed and averaged
over clips; where phases begin at random also over --seeds. "x real time" is the sound's length over the time that the whole
`synth` command took, starting included (for the pseudo-inverse numpy's time as well).
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import evaluate_audio

RANDOM_PHASES = ["workshop", "griffin-lim", "fast-griffin-lim"]
PHASES = RANDOM_PHASES + ["pghi", "pghi-fast"]
MEASURES = ["lsd_db", "mcd_db", "pesq_wb", "estoi", "real_time"]


def main():
    arguments = parse()
    work = arguments.work
    clear(work)
    features, seconds = extract(arguments, "features")
    unclipped, _ = extract(arguments, "unclipped", "--clip-before-log", 1e-10)
    rows = []
    for source, method, spectra, flags, is_random in chains(arguments, features, unclipped):
        runs = []
        for seed in range(arguments.seeds if is_random else 1):
            start = time.monotonic()
            inputs = spectra()
            out = work / "sounds" / f"{len(rows):02}-{seed}"
            call(arguments.bin / "synth", *flags, "--device", arguments.device, "--seed", seed, inputs, out)
            took = time.monotonic() - start
            runs.append(measure(arguments.bin, features, out) | {"real_time": seconds / took})
        mean = {name: evaluate_audio.average([run[name] for run in runs]) for name in MEASURES}
        rows.append({"source": source, "method": method, "seeds": len(runs), **mean})
        print(markdown(rows[-1], header=len(rows) == 1), flush=True)
    if arguments.json:
        about = {"audio": str(arguments.audio), "seconds": seconds, "rows": rows}
        arguments.json.write_text(json.dumps(about, indent=2) + "\n")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="a folder of sounds")
    parser.add_argument("--bin", type=Path, default=Path("target/release"), help="where the programs are")
    parser.add_argument("--work", type=Path, required=True, help="folder for features and sounds; emptied first")
    parser.add_argument("--run", type=Path, help="its `vae` and `inverter` are heard, where it has them and no other is named")
    parser.add_argument("--vae", type=Path, help="a run of train-vae")
    parser.add_argument("--inverter", type=Path, action="append", default=[], help="a run of train-inverter; may be repeated")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each chain with random phases")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the table here")
    arguments = parser.parse_args()
    if arguments.run and not arguments.inverter and (arguments.run / "inverter").is_dir():
        arguments.inverter = [arguments.run / "inverter"]
    if arguments.run and not arguments.vae and arguments.inverter and (arguments.run / "vae").is_dir():
        arguments.vae = arguments.run / "vae"
    for path in [arguments.audio, arguments.vae, *arguments.inverter]:
        if path and not path.is_dir():
            parser.error(f"{path} is not a folder")
    if arguments.vae and not arguments.inverter:
        parser.error("--vae needs an --inverter to be heard through")
    if arguments.seeds < 1:
        parser.error(f"--seeds {arguments.seeds} must be at least 1")
    return arguments


def clear(work):
    """Empties the folder of an earlier run, and no other."""
    marker = work / "bench-sound"
    if work.exists() and any(work.iterdir()) and not marker.exists():
        sys.exit(f"error: {work} holds other things and would be emptied: give another --work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    marker.touch()


def extract(arguments, name, *flags):
    """The features of the test sounds, all in one folder, and how many seconds they last."""
    audio = arguments.audio / "test" if (arguments.audio / "test").is_dir() else arguments.audio
    call(arguments.bin / "extract-features", audio, arguments.work / name, "--split", 0, *flags)
    features = arguments.work / name / "train"
    seconds = 0.0
    for path in features.rglob("*.feat.npz"):
        with np.load(path) as arrays:
            seconds += len(arrays["au"]) / json.loads(arrays["meta"].tobytes())["config"]["sample_rate"]
    return features, seconds


def chains(arguments, features, unclipped):
    """[(what is known, how it becomes sound, the folder it is in, synth's flags, whether phases begin at random)]."""
    exact, whole = lambda: features, lambda: unclipped
    for phase in PHASES:
        yield "exact magnitudes", phase, whole, ["vocode", "--inverter", "exact", "--phase", phase], phase in RANDOM_PHASES
    yield "exact magnitudes, clipped", "pghi-fast", exact, ["vocode", "--inverter", "exact"], False
    inverted = lambda: pseudo_inverse(features, arguments.work / "pinv")
    mel = "exact mel, no network"
    yield mel, "pinv, workshop", inverted, ["vocode", "--inverter", "exact", "--phase", "workshop"], True
    # At 1 exactly spectrum and phases are found together; so near to it, one after the other.
    yield mel, "KL, pghi-fast", exact, ["vocode", "--inverter", "none", "--emphasis", "1"], False
    yield mel, "joint, pghi-fast", exact, ["vocode", "--inverter", "none"], False
    for inverter in arguments.inverter:
        for phase in ["workshop", "pghi-fast"]:
            flags = ["vocode", "--inverter", inverter, "--phase", phase]
            yield f"exact mel, {describe(arguments.bin, inverter)}", phase, exact, flags, phase in RANDOM_PHASES
    if arguments.vae:
        for inverter in arguments.inverter:
            source = f"{describe(arguments.bin, arguments.vae)}, {describe(arguments.bin, inverter)}"
            yield source, "pghi-fast", exact, ["reconstruct", "--vae", arguments.vae, "--inverter", inverter], False


def describe(programs, run):
    """A run in a few words: what it is, its steps and its folder."""
    lines = dict(line.split(None, 1) for line in call(programs / "synth", "inspect", run).splitlines()[:3])
    return f"{lines['run']} {lines['steps']} steps ({run.name})"


def pseudo_inverse(features, folder):
    """Feature files whose linear spectra are the least-squares ones of their mel bands, as in the workshop of 2018."""
    for path in features.rglob("*.feat.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        config = json.loads(arrays["meta"].tobytes())["config"]
        power = np.exp(arrays["logmel"].astype(float)) @ np.linalg.pinv(mel_filterbank(config)).T
        arrays["logspec"] = np.log(np.maximum(power, config["clip_before_log"])).astype(np.float32)
        target = folder / path.relative_to(features)
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez(target, **arrays)
    return folder


def mel_filterbank(config):
    """Slaney's triangles of unit area, [bands, bins], as librosa.filters.mel."""
    to_mel = lambda hz: hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)
    mels = np.linspace(to_mel(config["f_min"]), to_mel(config["f_max"]), config["n_filterbank"] + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    hz = np.arange(config["n_fft"] // 2 + 1) * config["sample_rate"] / config["n_fft"]
    rising, falling = (hz - left) / (centre - left), (right - hz) / (right - centre)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)


def measure(programs, features, out):
    found = json.loads(call(programs / "evaluate", "audio", features, out, "--json", "-"))
    scores = []
    for name, reference, output in evaluate_audio.match(features, out):
        try:
            scores.append(evaluate_audio.score(reference, output, trimmed=False))
        except (ValueError, RuntimeError) as error:  # pesq's own are of the latter kind
            print(f"warning: {name}: {error}", file=sys.stderr)
    perceptual = {key: evaluate_audio.average([score[key] for score in scores]) for key in ("pesq_wb", "estoi")}
    return found["mean"] | perceptual


def call(program, *arguments):
    """What the program prints; ends here with its last line where it fails."""
    done = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        sys.exit(f"error: {program.name} {' '.join(map(str, arguments))}\n{said[-1]}")
    return done.stdout


def markdown(row, header):
    lines = []
    if header:
        lines = ["| from | how | LSD dB | MCD dB | PESQ-wb | ESTOI | x real time |", "|---|---|---|---|---|---|---|"]
    decimals = dict(zip(MEASURES, [2, 2, 2, 3, 0]))
    cells = ["-" if row[name] is None else f"{row[name]:.{digits}f}" for name, digits in decimals.items()]
    return "\n".join(lines + [f"| {' | '.join([row['source'], row['method'], *cells])} |"])


if __name__ == "__main__":
    main()
