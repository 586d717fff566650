"""Makes the golden files beside this script, and holds feature files against librosa.

    pip install -r requirements.txt
    python make_goldens.py                          # writes goldens/ and decode/
    python make_goldens.py check IN.wav OUT.feat.npz  # numpy reads OUT; prints how far it is from librosa's pipeline

All sounds are synthesised here. The reference runs in f64 from f32 samples at 16 kHz, so that neither resampling nor
rounding is part of what is compared; `check` resamples with soxr and therefore agrees less closely.
"""

import json
import sys
from pathlib import Path

import librosa
import numpy as np
import soundfile

HERE = Path(__file__).parent
RATE = 16000
DEFAULTS = dict(
    sample_rate=RATE, hop_size=160, n_fft=1024, n_filterbank=80, preemphasis=0.97, clip_before_log=1e-4,
    trim_silence_db=20.0, normalize=True, pad_mode="reflect", f_min=125.0, f_max=7600.0,
)


def speech_like(seconds=0.5, rate=RATE, seed=1):
    """A gliding voice with two formants, a burst of noise and quiet ends."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 60 * np.sin(2 * np.pi * 1.7 * t)) / rate
    voice = np.zeros_like(t)
    for k in range(1, 40):
        f = 130.0 * k
        if f < 0.45 * rate:
            gain = 1 / (1 + ((f - 700) / 200) ** 2) + 0.5 / (1 + ((f - 1800) / 300) ** 2) + 0.01
            voice += gain * np.sin(k * phase + k)
    x = voice / np.abs(voice).max() + 0.05 * rng.standard_normal(len(t)) * (t > 0.6 * seconds)
    envelope = np.clip(np.minimum(t - 0.1 * seconds, 0.85 * seconds - t) / 0.02, 0, 1)
    return (0.4 * x * envelope + 1e-4 * rng.standard_normal(len(t))).astype(np.float32)


def reference(samples, config):
    """librosa's features of f32 `samples` at the configured rate, in f64."""
    y = samples.astype(np.float64)
    start, end = 0, len(y)
    if config["trim_silence_db"] is not None:
        _, (start, end) = librosa.effects.trim(y, top_db=config["trim_silence_db"], frame_length=256, hop_length=128)
    y = y[start:end]
    gain = np.abs(y).max() if config["normalize"] and np.abs(y).max() > 0 else 1.0
    sound = y / gain
    au = sound.copy()
    au[1:] -= config["preemphasis"] * sound[:-1]
    n_fft, hop = config["n_fft"], config["hop_size"]
    # librosa refuses to mirror signals shorter than the padding; numpy does it.
    padded = np.pad(au, n_fft // 2, mode=config["pad_mode"])
    spectrum = librosa.stft(padded, n_fft=n_fft, hop_length=hop, center=False, dtype=np.complex128).T
    if len(au) > n_fft:
        centred = librosa.stft(au, n_fft=n_fft, hop_length=hop, pad_mode=config["pad_mode"], dtype=np.complex128)
        assert np.allclose(spectrum, centred.T, rtol=0, atol=1e-12)
    power = np.abs(spectrum) ** 2
    mel = power @ mel_weights(config).T
    log = lambda p: np.log(np.maximum(p, config["clip_before_log"]) + 1e-10)
    return dict(au=au, logspec=log(power), logmel=log(mel), trim=np.array([start, end]), gain=np.array(gain))


def mel_weights(config):
    return librosa.filters.mel(
        sr=config["sample_rate"], n_fft=config["n_fft"], n_mels=config["n_filterbank"],
        fmin=config["f_min"], fmax=config["f_max"], dtype=np.float64,
    )


def save(path, **arrays):
    """Compressed, f64 results as f32: their rounding is far below every tolerance."""
    rounded = {k: np.float32(v) if v.dtype == np.float64 and v.ndim == 2 else v for k, v in arrays.items()}
    np.savez_compressed(path, **rounded)


def make_features(folder):
    rng = np.random.default_rng(7)
    speech = speech_like()
    signals = {
        "speech": speech,
        "silence": np.zeros(1600, np.float32),
        "one_sample": np.array([0.25], np.float32),
        "hundred_samples": (0.3 * rng.standard_normal(100)).astype(np.float32),
        "clipped": np.clip(6 * speech_like(0.3, seed=3), -1, 1),
    }
    for name, samples in signals.items():
        for pad_mode in ["reflect", "constant"]:
            save(folder / f"{name}_{pad_mode}.npz", samples=samples, **reference(samples, DEFAULTS | {"pad_mode": pad_mode}))
    other = DEFAULTS | dict(
        hop_size=200, n_fft=512, n_filterbank=40, preemphasis=0.0, clip_before_log=1e-6, trim_silence_db=None,
        normalize=False, f_min=0.0, f_max=8000.0,
    )
    save(folder / "speech_other_settings.npz", samples=speech, **reference(speech, other))


def make_mel(folder):
    for rate, n_fft, n_mels, f_min, f_max in [(16000, 1024, 80, 125, 7600), (22050, 2048, 128, 0, 11025), (8000, 512, 40, 20, 4000)]:
        config = dict(sample_rate=rate, n_fft=n_fft, n_filterbank=n_mels, f_min=f_min, f_max=f_max)
        np.savez_compressed(folder / f"mel_{rate}_{n_fft}_{n_mels}.npz", weights=mel_weights(config))


def make_decode(folder):
    """Short files in every encoding, and what libsndfile reads from them, channels averaged."""
    mono, stereo = speech_like(0.1), np.stack([speech_like(0.1, seed=4), speech_like(0.1, seed=5)], axis=1)
    files = [
        ("mono_8.wav", mono, RATE, "PCM_U8", "WAV"), ("mono_16.wav", mono, RATE, "PCM_16", "WAV"),
        ("mono_24.wav", mono, 22050, "PCM_24", "WAV"), ("mono_32.wav", mono, RATE, "PCM_32", "WAV"),
        ("mono_float.wav", 3 * mono, RATE, "FLOAT", "WAV"), ("stereo_16.wav", stereo, 44100, "PCM_16", "WAV"),
        ("stereo_float.wav", stereo, RATE, "FLOAT", "WAV"), ("stereo_24_extensible.wav", stereo, RATE, "PCM_24", "WAVEX"),
        ("mono_UPPER.WAV", mono, RATE, "PCM_16", "WAV"),
        ("mono.ogg", speech_like(1.5), RATE, "VORBIS", "OGG"), ("stereo.ogg", np.stack([speech_like(0.5, 44100, 4), speech_like(0.5, 44100, 5)], axis=1), 44100, "VORBIS", "OGG"),
        ("short.ogg", speech_like(0.05, 22050), 22050, "VORBIS", "OGG"),
    ]
    expected = {}
    for name, samples, rate, subtype, kind in files:
        path = folder / name
        soundfile.write(path, samples, rate, subtype=subtype, format=kind)
        read, rate_read = soundfile.read(path, dtype="float32", always_2d=True)
        assert rate_read == rate and len(read) == len(samples)
        expected[name] = read.astype(np.float64).mean(axis=1).astype(np.float32)
        expected[name + " rate"] = np.array(rate)
    np.savez_compressed(folder / "expected.npz", **expected)


def make_fortran(folder):
    """A feature file as numpy writes it, with its matrices in Fortran order: value = 100 row + column."""
    config = DEFAULTS | dict(n_fft=16, hop_size=8, n_filterbank=4)
    grid = lambda columns: np.asfortranarray(100.0 * np.arange(3)[:, None] + np.arange(columns), dtype=np.float32)
    logmel = grid(4)
    meta = dict(
        config=config, source_rate=RATE, source_samples=20, trim_start=2, trim_end=18, gain=0.5, frames=3, version=1,
        bands=dict(count=3, sum=logmel.sum(0).tolist(), sum_sq=(logmel.astype(float) ** 2).sum(0).tolist(), finite=True),
    )
    arrays = dict(au=np.arange(16, dtype=np.float32), logspec=grid(9), logmel=logmel)
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(folder / "fortran.feat.npz", **arrays)
    np.savez_compressed(folder / "fortran_compressed.feat.npz", **arrays)


def check(audio, features):
    with np.load(features) as found:
        assert sorted(found.files) == ["au", "logmel", "logspec", "meta"], found.files
        assert all(found[name].dtype == "<f4" for name in ["au", "logmel", "logspec"])
        meta = json.loads(found["meta"].tobytes())
        samples, rate = soundfile.read(audio, dtype="float32", always_2d=True)
        samples = samples.astype(np.float64).mean(axis=1).astype(np.float32)
        config = meta["config"]
        if rate != config["sample_rate"]:
            samples = librosa.resample(samples, orig_sr=rate, target_sr=config["sample_rate"], res_type="soxr_vhq")
        wanted = reference(samples, config)
        trim = [meta["trim_start"], meta["trim_end"]]
        print(f"{Path(audio).name}: rate {rate}, trim {trim} and {wanted['trim'].tolist()}, gain {meta['gain']:.6f} and {wanted['gain']:.6f}")
        for name in ["au", "logspec", "logmel"] if trim == wanted["trim"].tolist() else []:
            difference = np.abs(found[name] - wanted[name])
            print(f"  {name}: mean difference {difference.mean():.2e}, largest {difference.max():.2e}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(*sys.argv[2:])
    else:
        for name in ["goldens", "decode"]:
            (HERE / name).mkdir(exist_ok=True)
        make_features(HERE / "goldens")
        make_mel(HERE / "goldens")
        make_fortran(HERE / "goldens")
        make_decode(HERE / "decode")
