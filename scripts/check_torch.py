#!/usr/bin/env python3
"""Holds exported models in PyTorch against what `synth predict` makes of the same recording.

    check_torch.py BIN_DIR FEATURES.feat.npz RUN...      (pip install -r scripts/requirements-bench.txt)

Fails unless every value of every run agrees within 1e-4.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import torch_models

TOLERANCE = 1e-4

binary, features, runs = Path(sys.argv[1]) / "synth", sys.argv[2], sys.argv[3:]
assert runs, "no run was named"
worst = 0.0
with tempfile.TemporaryDirectory() as folder:
    for run in runs:
        export, ours = Path(folder) / "model.safetensors", Path(folder) / "ours.npz"
        subprocess.run([binary, "export", run, export], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([binary, "predict", run, "--device", "cpu", features, ours], check=True, stdout=subprocess.DEVNULL)
        model, about = torch_models.load(export)
        ours = np.load(ours)
        theirs = torch_models.predict(model, about, torch.from_numpy(ours["logmel"]))
        for name, tensor in theirs.items():
            assert ours[name].shape == tuple(tensor.shape), (run, name, ours[name].shape, tensor.shape)
            error = np.abs(ours[name] - tensor.numpy()).max()
            worst = max(worst, error)
            spread = np.ptp(ours[name])
            assert np.isfinite(error) and spread > 0, (run, name)
            shape = " x ".join(map(str, tensor.shape))
            print(f"{run}: {type(model).__name__} {name:8} {shape:10} spread {spread:8.4f}  largest difference {error:.1e}")
if worst > TOLERANCE:
    sys.exit(f"PyTorch and synth differ by {worst:.1e}, more than {TOLERANCE:.0e}")
