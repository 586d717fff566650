#!/usr/bin/env python3
"""PESQ (wide band) and ESTOI of sounds against their references, at 16 kHz.

    evaluate_audio.py REF OUT                    two files, or two folders whose files match by relative name
    evaluate_audio.py --features FEATURES OUT    the reference is what was analysed: `au` of X.feat.npz, de-emphasised

Sounds are read, paired and aligned as `evaluate audio` does: averaged to mono, resampled to 16 kHz, compared from their
first samples on over the length of the shorter, levels aligned by root mean square; a delay is not compensated.
`--trim` trims a wav or flac reference as `extract-features` does by default (20 dB, frames of 256, hop 128), which outputs
made from features need. An output is never trimmed or shifted.

PESQ-wb is ITU-T P.862.2 (1.0 worst to 4.64 best), ESTOI is Jensen and Taal 2016 (1 is best; none for less
than 0.4 s of speech). Pinned packages:
`pip install -r scripts/requirements.txt`.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
import soxr
from pesq import pesq
from pystoi import stoi

RATE = 16000
SOUNDS = {".wav", ".flac", ".ogg", ".mp3"}
FEATURES = ".feat.npz"
# An output is up to a hop shorter than its source; more than this means that one was trimmed and the other not.
LENGTHS_MAY_DIFFER_SECONDS = 0.05


def main():
    arguments = parse()
    reference, output = arguments.reference, arguments.output
    pairs = match(reference, output)
    if not pairs:
        sys.exit(f"error: no file of {output} has a reference of the same name in {reference}")
    rows, failed = [], False
    for name, reference_path, output_path in pairs:
        try:
            rows.append({"file": name, **score(reference_path, output_path, arguments.trim)})
        except (ValueError, OSError, RuntimeError) as error:  # those of soundfile and pesq among them
            failed = True
            print(f"error: {output_path}: {error}", file=sys.stderr)
    if not rows:
        sys.exit(1)
    mean = {key: average([row[key] for row in rows]) for key in ("pesq_wb", "estoi")}
    if arguments.json:
        print(json.dumps({"files": rows, "mean": mean}, indent=2))
    else:
        width = max(len(row["file"]) for row in rows + [{"file": "mean"}])
        print(f"{'file':{width}}  PESQ-wb  ESTOI")
        for row in rows + [{"file": "mean", **mean}]:
            estoi = "    -" if row["estoi"] is None else f"{row['estoi']:.3f}"
            print(f"{row['file']:{width}}  {row['pesq_wb']:7.3f}  {estoi}")
    sys.exit(3 if failed else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="REF OUT", help="files or folders; OUT alone with --features")
    parser.add_argument("--features", type=Path, help=f"an X{FEATURES} file or a folder of them, instead of REF")
    parser.add_argument("--trim", action="store_true", help="trim silence from a sound REF as features are trimmed")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if len(arguments.paths) != (1 if arguments.features else 2):
        parser.error("needs REF and OUT, or --features and OUT")
    arguments.output = arguments.paths[-1]
    arguments.reference = arguments.features or arguments.paths[0]
    for path in (arguments.reference, arguments.output):
        if not path.exists():
            parser.error(f"{path} does not exist")
    return arguments


def match(reference, output):
    """[(name, reference path, output path)] of the outputs that have a reference, sorted by name."""
    if reference.is_file() and output.is_file():
        return [(output.name, reference, output)]
    if reference.is_file() or output.is_file():
        sys.exit(f"error: {reference} and {output}: one is a file, the other a folder")
    references = {stem(path, reference): path for path in sorted(reference.rglob("*")) if known(path)}
    outputs = {stem(path, output): path for path in sorted(output.rglob("*")) if path.suffix.lower() in SOUNDS}
    missing = sorted(outputs.keys() - references.keys())
    if missing:
        print(f"warning: {len(missing)} outputs without a reference, {missing[0]} among them", file=sys.stderr)
    return [(name, references[name], outputs[name]) for name in sorted(outputs.keys() & references.keys())]


def known(path):
    return path.suffix.lower() in SOUNDS or path.name.endswith(FEATURES)


def stem(path, folder):
    name = path.relative_to(folder).as_posix()
    return name.removesuffix(FEATURES) if name.endswith(FEATURES) else name.removesuffix(path.suffix)


def score(reference_path, output_path, trimmed):
    if reference_path.name.endswith(FEATURES):
        reference = read_features(reference_path)
    else:
        reference = read_sound(reference_path)
        reference = trim(reference) if trimmed else reference
    output = read_sound(output_path)
    length = min(len(reference), len(output))
    difference = (len(output) - len(reference)) / RATE
    if abs(difference) > LENGTHS_MAY_DIFFER_SECONDS:
        print(f"warning: {output_path} is {difference:+.2f} s longer than its reference (--trim?)", file=sys.stderr)
    reference, output = reference[:length], output[:length]
    if length < RATE // 4 or not reference.any() or not output.any():
        raise ValueError("PESQ needs a quarter of a second that is not silence")
    output = output * np.sqrt(np.mean(reference**2) / np.mean(output**2))
    # Both measures quantise or clip nothing here, but pesq works on 16-bit values: leave it headroom.
    headroom = 0.9 / max(np.abs(reference).max(), np.abs(output).max())
    reference, output = reference * headroom, output * headroom
    return {
        "pesq_wb": float(pesq(RATE, reference, output, "wb")),
        "estoi": intelligibility(reference, output),
    }


def intelligibility(reference, output):
    """ESTOI, or None for speech under 0.4 s, of which it cannot be computed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(stoi(reference, output, RATE, extended=True))
        except RuntimeWarning:
            return None


def average(values):
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


def read_sound(path):
    samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    samples = samples.mean(axis=1)
    if not np.isfinite(samples).all():
        raise ValueError("has samples that are not finite")
    return samples if rate == RATE else soxr.resample(samples, rate, RATE, quality="VHQ")


def read_features(path):
    with np.load(path) as arrays:
        emphasised = arrays["au"].astype(np.float64)
        config = json.loads(arrays["meta"].tobytes())["config"]
    samples = scipy.signal.lfilter([1.0], [1.0, -config["preemphasis"]], emphasised)
    rate = config.get("sample_rate", RATE)
    return samples if rate == RATE else soxr.resample(samples, rate, RATE, quality="VHQ")


def trim(samples):
    """Without the silence at both ends: what lies 20 dB below the loudest frame of 256 samples."""
    frame, hop = 256, 128
    padded = np.pad(samples, frame // 2)
    power = np.array([np.mean(padded[start : start + frame] ** 2) for start in range(0, len(samples) + 1, hop)])
    if power.max() <= 1e-8:
        return samples
    loud = np.flatnonzero(power > power.max() * 10 ** (-20 / 10))
    return samples[hop * loud[0] : min(len(samples), hop * (loud[-1] + 1))]


if __name__ == "__main__":
    main()
