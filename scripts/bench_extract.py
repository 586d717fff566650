#!/usr/bin/env python3
"""`extract-features` as a whole command against one librosa process with the same recipe, in turns on the same folder.

    bench_extract.py AUDIO_DIR --ours target/release/extract-features     (pip install -r scripts/requirements-bench.txt)

Theirs reads each recording (soundfile, resampled by soxr), trims, normalises, emphasises, transforms and writes an uncompressed
npz of the same arrays; its imports and a first recording are not timed, ours is timed from its start to its end. Targets are
removed before each turn. Where TARGET (--target, default a temporary folder) lies, in memory or on a disk, is part of what is
measured. Ratios are medians of theirs / ours: above 1 ours is faster.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ENDINGS = {".wav", ".ogg", ".flac", ".mp3"}
RATE, N_FFT, HOP, BANDS = 16000, 1024, 160, 80


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--ours", type=Path, required=True)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.audio.rglob("*") if path.suffix.lower() in ENDINGS)
    work = Path(tempfile.mkdtemp(dir=arguments.target))
    try:
        ways = {
            "all arrays": lambda: ours(arguments, work),
            "all arrays, one job": lambda: ours(arguments, work, "--jobs", "1"),
            "logmel alone": lambda: ours(arguments, work, "--only", "logmel"),
            "librosa": lambda: theirs(files, arguments.audio, work),
        }
        theirs(files[:1], arguments.audio, work)
        found, audio = {name: [] for name in ways}, None
        for turn in range(arguments.rounds):
            for name in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
                shutil.rmtree(work / "out", ignore_errors=True)
                seconds, heard = ways[name]()
                found[name].append(seconds)
                audio = heard or audio
    finally:
        shutil.rmtree(work)
    print(f"{len(files)} recordings, {audio / 60:.1f} minutes")
    print("way                    seconds  x real time  ratio to librosa")
    for name, seconds in found.items():
        ratio = statistics.median(b / a for a, b in zip(seconds, found["librosa"]))
        middle = statistics.median(seconds)
        print(f"{name:22} {middle:7.2f} {audio / middle:12.0f} {ratio:17.2f}")


def ours(arguments, work, *flags):
    start = time.perf_counter()
    subprocess.run([arguments.ours, arguments.audio, work / "out", "--quiet", *flags], check=True)
    return time.perf_counter() - start, None


def theirs(files, root, work):
    """Seconds taken, and seconds of sound."""
    import librosa
    import numpy as np

    weights = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=BANDS, fmin=125, fmax=7600, dtype=np.float64)
    log = lambda power: np.log(np.maximum(power, 1e-4) + 1e-10).astype(np.float32)
    start, audio = time.perf_counter(), 0
    for path in files:
        y, _ = librosa.load(path, sr=RATE)
        audio += len(y) / RATE
        kept, _ = librosa.effects.trim(y.astype(np.float64), top_db=20, frame_length=256, hop_length=128)
        au = librosa.util.normalize(kept)
        au = np.append(au[0], au[1:] - 0.97 * au[:-1])
        spectrum = librosa.stft(au, n_fft=N_FFT, hop_length=HOP, pad_mode="reflect", dtype=np.complex128)
        power = spectrum.real**2 + spectrum.imag**2
        out = (work / "out" / path.relative_to(root)).with_suffix(".npz")
        out.parent.mkdir(parents=True, exist_ok=True)
        # Time first, as in feature files; the transposes are views, which numpy writes as they lie.
        np.savez(out, au=au.astype(np.float32), logspec=log(power).T, logmel=log(weights @ power).T)
    return time.perf_counter() - start, audio


if __name__ == "__main__":
    main()
