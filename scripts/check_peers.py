#!/usr/bin/env python3
"""Reads what a demo run left with the programs that users read it with: TensorBoard and numpy.

    check_peers.py RUN      (pip install -r scripts/requirements-peers.txt)
"""

import io
import json
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.backend_context import Context

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


def check_sounds(run):
    events = EventAccumulator(str(run / "test"))
    events.Reload()
    assert sorted(events.Tags()["audio"]) == ["audio/original", "audio/reconstruction"], (run, events.Tags()["audio"])
    for tag in events.Tags()["audio"]:
        for event in events.Audio(tag):
            assert event.content_type == "audio/wav" and event.sample_rate == 16000, (run, tag)
            with wave.open(io.BytesIO(event.encoded_audio_string)) as sound:
                assert sound.getparams()[:4] == (1, 2, 16000, event.length_frames), (run, tag, sound.getparams())
                samples = np.frombuffer(sound.readframes(event.length_frames), "<i2")
            assert 0.5 < len(samples) / 16000 < 4 and abs(samples).max() == round(0.9 * 32768), (run, tag)


def check_histograms(run):
    events = EventAccumulator(str(run / "test"))
    events.Reload()
    tags = events.Tags()["histograms"]
    each = [tag for tag in tags if tag.startswith("means/latent-")]
    assert sorted(set(tags) - set(each)) == ["latents/means", "latents/samples"] and each, (run, tags)
    segments = {events.Histograms(tag)[-1].histogram_value.num for tag in each}
    assert len(segments) == 1, (run, segments)
    for tag in tags:
        for event in events.Histograms(tag):
            found = event.histogram_value
            assert sum(found.bucket) == found.num and len(found.bucket) == len(found.bucket_limit), (run, tag)
            assert found.num == segments.copy().pop() * (1 if tag in each else len(each)), (run, tag)
            assert found.bucket_limit[-1] == found.max and found.min <= found.sum / found.num <= found.max, (run, tag)


def check_hyperparameters(folder, runs):
    """What TensorBoard's own tab shows when started in a folder: each of `runs` as a session with its settings, and losses."""
    events = EventMultiplexer().AddRunsFromDirectory(str(folder))
    events.Reload()
    tab = Context(SimpleNamespace(data_provider=MultiplexerDataProvider(events, str(folder))))
    sessions = tab.hparams_metadata(RequestContext(), "")
    assert sorted(sessions) == sorted(runs), sorted(sessions)
    for name, run in runs.items():
        config = json.loads((sorted(run.glob("step-*"))[-1] / "run.json").read_text())["config"]
        (content,) = sessions[name].values()
        told = metadata.parse_session_start_info_plugin_data(content).hparams
        assert told["batch.size"].number_value == config["batch"]["size"], name
        assert told["model.architecture"].string_value == config["model"]["architecture"], name
    experiment = tab.experiment_from_metadata(RequestContext(), "", True, sessions, [])
    shown = {info.name for info in experiment.hparam_infos}
    assert {"optimizer.epsilon", "batch.size", "seed"} < shown and not any(name.startswith("data.") for name in shown), shown
    metrics = {(info.name.group, info.name.tag) for info in experiment.metric_infos}
    assert ("", "loss/total") in metrics, metrics


def check_events(run):
    for part in ["train", "test"]:
        found = scalars(run / part)
        assert "loss/total" in found, (run, part, sorted(found))
        for tag, values in found.items():
            steps = [step for step, _ in values]
            assert values and steps == sorted(set(steps)), (run, part, tag, steps)
            assert np.isfinite([value for _, value in values]).all(), (run, part, tag)
    check_pictures(run)
    check_sounds(run)
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
check_hyperparameters(run, {"vae/test": run / "vae", "inverter/test": run / "inverter"})
check_hyperparameters(run / "vae", {"test": run / "vae"})
check_histograms(run / "vae")
check_features(run)
subprocess.run([sys.executable, REPOSITORY / "examples" / "read.py", run], check=True, stdout=subprocess.DEVNULL)
assert (run / "out" / "edited.npz").exists()
print(f"{run}: TensorBoard reads both runs, numpy reads features, codes and weights")
