#!/usr/bin/env python3
"""Reads what a demo run left with the programs that users read it with: TensorBoard and numpy.

    check_peers.py RUN      (pip install -r scripts/requirements-peers.txt)
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

REPOSITORY = Path(__file__).resolve().parent.parent


def scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def check_pictures(run):
    events = EventAccumulator(str(run / "test"))
    events.Reload()
    tags = events.Tags()["images"]
    assert tags, run
    for tag in tags:
        for event in events.Images(tag):
            assert event.encoded_image_string.startswith(b"\x89PNG") and event.width > 0 and event.height > 0, (run, tag)
    events = EventAccumulator(str(run / "train"))
    events.Reload()
    assert events.SummaryMetadata("configuration").plugin_data.plugin_name == "text", run
    (text,) = events.Tensors("configuration")[0].tensor_proto.string_val
    json.loads(text.decode().removeprefix("```json").removesuffix("```"))


def check_events(run):
    for part in ["train", "test"]:
        found = scalars(run / part)
        assert "loss/total" in found, (run, part, sorted(found))
        for tag, values in found.items():
            steps = [step for step, _ in values]
            assert values and steps == sorted(set(steps)), (run, part, tag, steps)
            assert np.isfinite([value for _, value in values]).all(), (run, part, tag)
    check_pictures(run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["phase"] == "test"] == [step for step, _ in found["loss/total"]], run
    last = json.loads((sorted(run.glob("step-*"))[-1] / "run.json").read_text())
    assert abs(found["loss/total"][-1][1] - last["test"]["total"]) < 1e-3 * abs(last["test"]["total"])


def check_features(run):
    paths = sorted(run.glob("features/**/*.feat.npz"))
    assert paths
    for path in paths:
        with np.load(path) as found:
            meta = json.loads(found["meta"].tobytes())
            config = meta["config"]
            frames = 1 + len(found["au"]) // config["hop_size"]
            assert found["logmel"].shape == (frames, config["n_filterbank"]), path
            assert found["logspec"].shape == (frames, config["n_fft"] // 2 + 1), path
            assert np.allclose(found["logmel"].sum(0, dtype=np.float64), meta["bands"]["sum"]), path


run = Path(sys.argv[1])
check_events(run / "vae")
check_events(run / "inverter")
check_features(run)
subprocess.run([sys.executable, REPOSITORY / "examples" / "read.py", run], check=True, stdout=subprocess.DEVNULL)
assert (run / "out" / "edited.npz").exists()
print(f"{run}: TensorBoard reads both runs, numpy reads features, codes and weights")
