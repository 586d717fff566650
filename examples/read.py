"""Features, codes and weights in numpy: python examples/read.py RUN   (the folder of a `make demo`; pip install numpy)"""

import json
import sys
from pathlib import Path

import numpy as np


def meta_of(npz):
    """The description inside a feature or codes file."""
    return json.loads(npz["meta"].tobytes())


def weights(path):
    """The f32 tensors of a safetensors file by name; `safetensors.numpy.load_file` does the same."""
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    part = lambda entry: body[slice(*entry["data_offsets"])]
    return {name: np.frombuffer(part(entry), "<f4").reshape(entry["shape"]) for name, entry in header.items()}


run = Path(sys.argv[1])

path = sorted(run.glob("features/test/**/*.feat.npz"))[0]
features = np.load(path)
meta = meta_of(features)
print(path)
print("  au", features["au"].shape, "logspec", features["logspec"].shape, "logmel", features["logmel"].shape)
print("  loudest bin", features["logmel"].max(), "nats; source was", meta["source_rate"], "Hz, gain", meta["gain"])

codes_path = run / "out" / "codes.npz"
codes = np.load(codes_path)
print(codes_path)
print("  mean", codes["mean"].shape, "scale", codes["scale"].shape, "one segment every", meta_of(codes)["hop"], "frames")
# Edited codes sound through `synth decode`: every array has to be written back, `meta` unchanged.
mean = codes["mean"].copy()
mean[:, 0] = np.linspace(-2, 2, len(mean))
np.savez(run / "out" / "edited.npz", mean=mean, scale=codes["scale"], meta=codes["meta"])

checkpoint = sorted((run / "vae").glob("step-????????"))[-1]
model = weights(checkpoint / "model.safetensors")
about = json.loads((checkpoint / "run.json").read_text())
print(checkpoint, "at step", about["step"], "test", about["test"])
for name, tensor in model.items():
    print(f"  {name:28} {str(tensor.shape):20} {np.abs(tensor).mean():.4f}")
