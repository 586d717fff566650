"""Makes goldens/metrics.npz: what librosa and numpy measure of a voice and of two changed copies.

    pip install -r requirements.txt
    python make_metric_goldens.py                # writes goldens/metrics.npz
    python make_metric_goldens.py pitch IN.wav TRACK.txt   # holds a track (a line a frame, nan without voice) against librosa.pyin

The pitch reference is librosa.pyin with one part replaced: its difference function runs over whole frames and treats what lies
beyond them as zeros, which lets the trough of a period move with the frame's energy. Here it is equation 6 of the YIN paper,
a window of 512 samples against one a period later, both around the frame's centre. `pitch` compares with librosa as it is.
"""

import importlib
import sys
from pathlib import Path

import librosa
import numpy as np
import soundfile

from make_goldens import RATE, speech_like

HERE = Path(__file__).parent
HOP, N_FFT, WINDOW = 160, 1024, 512
RANGE = dict(fmin=60.0, fmax=600.0, sr=RATE, frame_length=N_FFT, hop_length=HOP)


def yin_difference(frames, min_period, max_period):
    """Equations 6 and 8; frames are [samples, frames]."""
    difference = np.zeros((max_period + 1, frames.shape[1]))
    for period in range(1, max_period + 1):
        first = (N_FFT - WINDOW - period) // 2
        difference[period] = np.sum((frames[first : first + WINDOW] - frames[first + period :][:WINDOW]) ** 2, axis=0)
    mean = np.cumsum(difference[1:], axis=0) / np.arange(1, max_period + 1)[:, None]
    return difference[min_period:] / (mean[min_period - 1 :] + np.finfo(float).tiny)


def pitch(samples):
    """Hertz a frame, on librosa's grid of 10 cents, NaN without voice."""
    module = importlib.import_module("librosa.core.pitch")
    stock = module._cumulative_mean_normalized_difference
    module._cumulative_mean_normalized_difference = yin_difference
    try:
        return librosa.pyin(samples, **RANGE)[0]
    finally:
        module._cumulative_mean_normalized_difference = stock


def power(samples):
    return np.abs(librosa.stft(samples, n_fft=N_FFT, hop_length=HOP, pad_mode="reflect", dtype=np.complex128)) ** 2


def decibels(values, reference):
    """Floor 80 dB below the reference's largest value."""
    return librosa.power_to_db(np.maximum(values, 1e-8 * reference.max()), amin=1e-30, top_db=None)


def measures(reference, output):
    output = output * np.sqrt(np.sum(reference**2) / np.sum(output**2))
    x, y = power(reference), power(output)
    lsd = np.mean(np.sqrt(np.mean((decibels(y, x) - decibels(x, x)) ** 2, axis=0)))
    convergence = 20 * np.log10(np.linalg.norm(np.sqrt(y) - np.sqrt(x)) / np.linalg.norm(np.sqrt(x)))
    bank = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=80, fmin=125, fmax=7600, dtype=np.float64)
    # librosa's cepstrum is of dB and orthonormal; the one of ln |X| = c0 + sum c_k cos is this much smaller.
    scale = np.log(10) / 20 * np.sqrt(2 / 80)
    cepstra = [scale * librosa.feature.mfcc(S=decibels(bank @ p, bank @ x), n_mfcc=25)[1:] for p in (x, y)]
    mcd = 10 / np.log(10) * np.mean(np.sqrt(2 * np.sum((cepstra[0] - cepstra[1]) ** 2, axis=0)))
    return [lsd, mcd, convergence]


def make():
    reference = speech_like(0.8)
    rng = np.random.default_rng(9)
    # A worse voice: duller, noisy, 1 % higher. And one that is only half as loud.
    higher = np.interp(np.arange(len(reference)) * 1.01, np.arange(len(reference)), reference)
    worse = np.convolve(higher, [0.5, 0.3, 0.2])[: len(reference)] + 0.003 * rng.standard_normal(len(reference))
    signals = {"reference": reference, "worse": worse.astype(np.float32)}
    arrays = {name: samples for name, samples in signals.items()}
    arrays |= {f"{name}_f0": np.float32(pitch(samples.astype(float))) for name, samples in signals.items()}
    arrays["measures"] = np.float32(measures(*(samples.astype(float) for samples in signals.values())))
    np.savez_compressed(HERE / "goldens" / "metrics.npz", **arrays)
    print(arrays["measures"], [int(np.isfinite(arrays[f"{name}_f0"]).sum()) for name in signals])


def compare(audio, track):
    samples, rate = soundfile.read(audio, dtype="float64")
    assert rate == RATE, "give librosa the same samples: 16 kHz"
    ours = np.loadtxt(track)
    for name, theirs in [("librosa.pyin", librosa.pyin(samples, **RANGE)[0]), ("with YIN's difference", pitch(samples))]:
        assert len(ours) == len(theirs), (len(ours), len(theirs))
        both = np.isfinite(ours) & np.isfinite(theirs)
        cents = 1200 * np.log2(ours[both] / theirs[both])
        same = np.mean(np.isfinite(ours) == np.isfinite(theirs))
        print(f"{Path(audio).name}, {name}: {len(ours)} frames, equal voicing {same:.4f}, {both.sum()} voiced in both, "
              f"median |cents| {np.median(np.abs(cents)):.2f}, beyond 50 cents {np.mean(np.abs(cents) > 50):.4f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["pitch"]:
        compare(*sys.argv[2:])
    else:
        make()
