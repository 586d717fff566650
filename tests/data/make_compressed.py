"""Makes decode/*.flac, decode/*.mp3 and decode/compressed.npz: what libsndfile decodes them to, channels averaged.

    python make_compressed.py

Needs numpy and soundfile in the versions of requirements.txt.
"""

import pathlib

import numpy as np
import soundfile

HERE = pathlib.Path(__file__).parent / "decode"


def sound(rate, channels, seconds=0.15):
    """A glide with a little noise, another one in each channel."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(rate).standard_normal((len(time), channels))
    pitch = 200.0 * (1 + np.arange(channels)) + 1500.0 * time[:, None]
    return 0.4 * np.sin(2 * np.pi * pitch * time[:, None]) + 0.01 * noise


def main():
    files = [
        ("mono_16.flac", 16_000, 1, "PCM_16"),
        ("stereo_24.flac", 44_100, 2, "PCM_24"),
        ("mono_8.flac", 8_000, 1, "PCM_S8"),
        ("mono.mp3", 16_000, 1, "MPEG_LAYER_III"),
        ("stereo.mp3", 44_100, 2, "MPEG_LAYER_III"),
        ("mono_32k.mp3", 32_000, 1, "MPEG_LAYER_III"),
    ]
    expected = {}
    for name, rate, channels, subtype in files:
        soundfile.write(HERE / name, sound(rate, channels), rate, subtype=subtype)
        samples, found = soundfile.read(HERE / name, dtype="float32", always_2d=True)
        expected[name] = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
        expected[f"{name} rate"] = np.int64(found)
    np.savez_compressed(HERE / "compressed.npz", **expected)


if __name__ == "__main__":
    main()
