#!/usr/bin/env python3
"""Our steps against PyTorch's and our signal processing against librosa's, in turns on the same machine.

    bench_peers.py [CASE ...] [--device cpu|cuda] [--precision f32|tf32|bf16] [--compile] [--json FILE]
                                                                                (pip install -r scripts/requirements-bench.txt)

Ours is the program `benches/steps`, theirs is this file; each runs as a child process of its own that has its model and data
ready and takes as many steps as it is asked for, so that set-up is not timed and peak memory is each one's own. They take turns,
round by round, the order changing, so that what else the machine does hits both. Times are medians over the rounds; a ratio is
the median of theirs / ours, above 1 where ours is faster, and "best" compares the fastest round of each. Figures mean
something on a machine that does nothing else: PyTorch's threads wait for each other and suffer more from a busy one than ours do.

Theirs is the same network layer by layer (trained values are counted and compared), the same batch, loss, clipping and Adam, the
same precision of products and convolutions (f32 is exact f32 on both sides, bf16 theirs by autocast; the recurrent products within
our GRU and LSTM stay in f32, which is to our disadvantage) and number of threads,
written as PyTorch is meant to be used: nn.LSTM and nn.GRU, `padding="same"`, channels first or last (whichever a few steps show to
be faster here), fused Adam, noise drawn on the device. Its data lie on the device from the start and a batch is one indexing
operation, where ours are gathered on the CPU and copied. What differs in its favour besides: no gradient norm where nothing is
clipped, no reported terms. nn.LSTM has a second bias, which is not counted.

Peers: `eager`; `graph` replays the whole step (forward, backward, clipping, Adam) as one CUDA graph; `compile` is
torch.compile(mode="max-autotune"), its recurrent layers left to cuDNN. `--compile` adds graph and compile to eager on a GPU.
"""

import argparse
import atexit
import json
import math
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TRAINING = ["conv-vae", "lstm-vae", "cbhg-32x128", "cbhg-32x400"]
SIGNAL = ["stft", "griffin-lim-50", "read-wav", "resample-44100", "features", "write-npz"]
CASES = TRAINING + ["cbhg-infer-60s"] + SIGNAL
RATE, N_FFT, HOP, BANDS, BINS, LATENTS = 16000, 1024, 160, 80, 513, 32


def main():
    arguments = parse()
    if arguments.serve:
        return serve(arguments)
    rows = []
    if os.getloadavg()[0] > 0.3 * (os.cpu_count() or 1):
        print(f"warning: the machine is busy (load {os.getloadavg()[0]:.1f})", file=sys.stderr)
    for case in arguments.cases or CASES:
        try:
            rows += compare(case, arguments)
        except Exception as error:  # one case that fails does not take the others' results along
            rows.append({"case": case, "error": f"{type(error).__name__}: {error}"})
        print(line(rows[-1]) if "error" in rows[-1] else "\n".join(line(row) for row in rows if row["case"] == case), flush=True)
        if arguments.json:
            about = {"threads": arguments.threads, "device": arguments.device, "precision": arguments.precision, "rounds": arguments.rounds, **machine()}
            arguments.json.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")
    sys.exit(1 if any("error" in row for row in rows) else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16"], help="of products, on both sides")
    parser.add_argument("--compile", action="store_true", help="on a GPU, peers graph and compile as well")
    parser.add_argument("--peers", help="comma-separated, instead of eager")
    parser.add_argument("--threads", type=int, default=physical_cores(), help="of both [default: physical cores, %(default)s]")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--round-seconds", type=float, default=0.5, help="steps of a round fill about this time")
    parser.add_argument("--start-timeout", type=float, default=240, metavar="S", help="a child is ready by then, or left out")
    parser.add_argument("--ours", type=Path, help="the built program [default: cargo builds it]")
    parser.add_argument("--json", type=Path, help="write every round here")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--peer", default="eager", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        parser.error(f"no case is called {sorted(unknown)[0]}; there are {', '.join(CASES)}")
    arguments.peer_names = arguments.peers.split(",") if arguments.peers else ["eager"]
    if arguments.compile and arguments.device == "cuda" and not arguments.peers:
        arguments.peer_names += ["graph", "compile"]
    return arguments


def physical_cores():
    allowed = os.sched_getaffinity(0)
    topology = Path("/sys/devices/system/cpu")
    try:
        names = ["physical_package_id", "core_id"]
        return len({tuple((topology / f"cpu{cpu}/topology" / name).read_text() for name in names) for cpu in allowed})
    except OSError:
        return len(allowed)


# The driver


def compare(case, arguments):
    """One row per peer."""
    device = "cpu" if case in SIGNAL else arguments.device
    options = ["--device", device, "--threads", str(arguments.threads)]
    options += ["--precision", arguments.precision if device == "cuda" else "f32"]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "MKL_NUM_THREADS": str(arguments.threads)}
    environment |= {"RAYON_NUM_THREADS": str(arguments.threads), "PYTHONWARNINGS": "ignore"}
    arguments.ours = arguments.ours or build()
    warm_up = 20 if device == "cuda" else 3
    ours = Child([arguments.ours, "--case", case, "--serve", "--warm-up", str(warm_up), *options], environment)
    theirs, failed = {}, []
    try:
        ours.facts = ours.answer(arguments.start_timeout)
        for peer in ["librosa"] if case in SIGNAL else arguments.peer_names:
            child = Child([sys.executable, __file__, "--serve", case, "--peer", peer, *options], environment)
            try:
                child.facts = child.answer(arguments.start_timeout)
                same_model(case, ours.facts, child.facts)
                theirs[peer] = child
            except Exception as error:
                child.close()
                failed.append({"case": case, "peer": peer, "error": f"{error}"})
        everyone = [ours, *theirs.values()]
        for child in everyone:
            child.steps = max(1, round(arguments.round_seconds / child.ask(1)["seconds"]))
        for turn in range(arguments.rounds):
            for child in everyone if turn % 2 == 0 else everyone[::-1]:
                time.sleep(0.02)  # idle threads of the last one still spin
                child.rounds.append(child.ask(child.steps))
    finally:
        for child in [ours, *theirs.values()]:
            child.close()
    return [row(case, peer, ours, child) for peer, child in theirs.items()] + failed


def build():
    command = ["cargo", "bench", "--bench", "steps", "--no-run", "--message-format=json-render-diagnostics"]
    messages = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = [json.loads(message).get("executable") for message in messages.splitlines()]
    return Path([path for path in found if path and "steps-" in path][-1])


class Child:
    """A process that answers a line with a line."""

    def __init__(self, command, environment):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([str(part) for part in command], stdin=pipe, stdout=pipe, env=environment)
        self.rounds, self.buffer = [], b""

    def answer(self, timeout):
        """The next line that is JSON."""
        until = time.monotonic() + timeout
        while True:
            while b"\n" not in self.buffer:
                ready, _, _ = select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))
                if not ready:
                    raise TimeoutError(f"no answer in {timeout:.0f} s")
                part = os.read(self.process.stdout.fileno(), 1 << 16)
                if not part:
                    raise RuntimeError(f"ended with status {self.process.wait()}")
                self.buffer += part
            text, self.buffer = self.buffer.split(b"\n", 1)
            if text.startswith(b"{"):
                return json.loads(text)

    def ask(self, steps):
        self.process.stdin.write(f"{steps}\n".encode())
        self.process.stdin.flush()
        found = self.answer(60)
        assert found["value"] is None or math.isfinite(found["value"]), found
        return found

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def same_model(case, ours, theirs):
    if ours["parameters"] != theirs["parameters"]:
        raise AssertionError(f"{case}: {ours['parameters']} trained values in ours, {theirs['parameters']} in theirs")


def row(case, peer, ours, theirs):
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(ours.rounds, theirs.rounds)]
    found = {"case": case, "peer": peer, "ratio": statistics.median(ratios), "ratios": ratios}
    found["best_ratio"] = min(b["seconds"] for b in theirs.rounds) / min(a["seconds"] for a in ours.rounds)
    for name, child in [("ours", ours), ("theirs", theirs)]:
        seconds = [round["seconds"] for round in child.rounds]
        last = child.rounds[-1]
        found[name] = {
            "ms": 1e3 * statistics.median(seconds), "least_ms": 1e3 * min(seconds), "seconds": seconds,
            "steps_per_round": child.steps, "value": last["value"], "peak_rss_bytes": last["peak_rss_bytes"],
            "device_bytes": last["device_bytes"], "facts": child.facts,
        }
    found["replayed"] = all(round["replayed"] for round in ours.rounds)
    a, b = found["ours"]["value"], found["theirs"]["value"]
    if case in ["stft", "read-wav", "features"] and abs(a - b) > 1e-4 * abs(b):
        raise AssertionError(f"{case}: ours computed {a}, theirs {b}")
    return found


def line(row):
    """Of the table; the header stands above the first. On a GPU a step of ours is one launch of what was recorded, or it is said."""
    head = "case             peer           ours ms  theirs ms  ratio   best  peak MB ours / theirs\n"
    head, line.head = getattr(line, "head", head), ""
    if "error" in row:
        return f"{head}{row['case']:16} {row.get('peer', ''):12} failed: {row['error']}"
    ours, theirs = row["ours"], row["theirs"]
    memory = f"{ours['peak_rss_bytes'] / 1e6:.0f} / {theirs['peak_rss_bytes'] / 1e6:.0f}"
    if ours["device_bytes"] and theirs["device_bytes"]:
        memory += f", on the GPU {ours['device_bytes'] / 1e6:.0f} / {theirs['device_bytes'] / 1e6:.0f}"
    notes = [theirs["facts"].get("chosen"), None if replayed_or_never(row) else "ours LAUNCHED, not replayed"]
    notes = "; ".join(filter(None, notes))
    return (
        f"{head}{row['case']:16} {row['peer']:12} {ours['ms']:9.2f} {theirs['ms']:10.2f} {row['ratio']:6.2f} {row['best_ratio']:6.2f}  {memory}"
        + (f"  ({notes})" if notes else "")
    )


def replayed_or_never(row):
    """Whether our steps were replayed, where they can be."""
    return row["replayed"] or row["case"] not in TRAINING or row["ours"]["facts"]["device"].startswith("CPU")


def machine():
    cpu = next((text.split(":")[1].strip() for text in open("/proc/cpuinfo") if text.startswith("model name")), "")
    return {"cpu": cpu, "load": os.getloadavg()}


# The peers: each gives (step, value, facts) where step(n) does it n times and has finished when it returns


def serve(arguments):
    make = librosa_case if arguments.serve in SIGNAL else torch_case
    step, value, facts = make(arguments)
    print(json.dumps(facts), flush=True)
    for text in sys.stdin:
        steps = int(text)
        start = time.perf_counter()
        step(steps)
        seconds = (time.perf_counter() - start) / max(steps, 1)
        answer = {"seconds": seconds, "steps": steps, "value": value(), "peak_rss_bytes": peak_rss()}
        print(json.dumps(answer | {"device_bytes": device_bytes(arguments.device)}), flush=True)


def peak_rss():
    return next(int(text.split()[1]) * 1024 for text in open("/proc/self/status") if text.startswith("VmHWM"))


def forget_peak(device):
    """Peaks count from here: choosing a layout held more than one model."""
    import gc

    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5\n")
    except OSError:
        pass


def device_bytes(device):
    if device == "cpu":
        return None
    import torch

    return torch.cuda.max_memory_reserved()


def voice(seconds=10, pitch=130.0):
    """The sound of benches/steps/sound.rs."""
    import numpy as np

    t = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * pitch * (t - 0.15 / (2 * np.pi * 0.7) * np.cos(2 * np.pi * 0.7 * t))
    harmonics = sum(np.sin(k * phase + k * k) / k for k in range(1, 31))
    return (0.1 * (0.02 + np.sin(2 * np.pi * 1.9 * t) ** 2) * harmonics).astype(np.float32)


def librosa_case(arguments):
    import librosa
    import numpy as np
    import soundfile

    y, last = voice(), {}
    if arguments.serve == "stft":
        compute = lambda: librosa.stft(y, n_fft=N_FFT, hop_length=HOP, pad_mode="reflect")
        measure = lambda spectrum: np.abs(spectrum).mean(dtype=np.float64)
    elif arguments.serve == "griffin-lim-50":
        magnitude = np.abs(librosa.stft(y, n_fft=N_FFT, hop_length=HOP, pad_mode="reflect"))
        compute = lambda: librosa.griffinlim(magnitude, n_iter=50, hop_length=HOP, n_fft=N_FFT, momentum=0, random_state=0)
        measure = lambda samples: np.abs(samples).mean(dtype=np.float64)
    elif arguments.serve == "read-wav":
        path = temporary() / "voice.wav"
        soundfile.write(path, y, RATE, subtype="PCM_16")
        compute = lambda: librosa.load(path, sr=None)[0]
        measure = lambda samples: np.abs(samples).mean(dtype=np.float64)
    elif arguments.serve == "resample-44100":
        y = voice(441_000 / RATE)
        compute = lambda: librosa.resample(y, orig_sr=44_100, target_sr=RATE)
        measure = lambda samples: np.abs(samples).mean(dtype=np.float64)
    elif arguments.serve == "write-npz":
        path, frames = temporary() / "voice.npz", 1 + len(y) // HOP
        bands, bins = np.zeros((frames, BANDS), np.float32), np.zeros((frames, BINS), np.float32)
        compute = lambda: np.savez(path, logmel=bands, logspec=bins, au=y)
        measure = lambda _: 0.0
    else:
        weights = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=BANDS, fmin=125, fmax=7600, dtype=np.float64)
        log = lambda power: np.log(np.maximum(power, 1e-4) + 1e-10).astype(np.float32)

        def compute():
            kept, _ = librosa.effects.trim(y.astype(np.float64), top_db=20, frame_length=256, hop_length=128)
            au = librosa.util.normalize(kept)
            au = np.append(au[0], au[1:] - 0.97 * au[:-1])
            spectrum = librosa.stft(au, n_fft=N_FFT, hop_length=HOP, pad_mode="reflect", dtype=np.complex128)
            power = spectrum.real**2 + spectrum.imag**2
            return au.astype(np.float32), log(power), log(weights @ power)

        measure = lambda features: features[2].mean(dtype=np.float64)

    def step(count):
        for _ in range(count):
            last["value"] = compute()

    step(2)
    return step, lambda: float(measure(last["value"])), {"parameters": None, "librosa": librosa.__version__}


def temporary():
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return folder


def torch_case(arguments):
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    peer = arguments.peer
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arguments.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    device = torch.device(arguments.device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    about = {"torch": torch.__version__, "threads": torch.get_num_threads()}

    def timed(step, count):
        step(count)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            step(count)
            times.append(time.perf_counter() - start)
        return min(times)

    def repeated(once):
        """run(count), which waits at its end; as a CUDA graph if that is asked for."""
        if peer == "graph":
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(5):
                    once()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                once()
            once = graph.replay

        def run(count):
            for _ in range(count):
                once()
            wait()

        return run

    def prepare(last_channels):
        """run(count), value(), model"""
        model, batch, loss_of, clip = network(arguments.serve, device, last_channels)
        narrow = lambda: torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bf16", cache_enabled=False)
        if arguments.serve not in TRAINING:
            model.eval()
            x, last = batch(), {}
            call = torch.compile(model, mode="max-autotune") if peer == "compile" else model

            @torch.inference_mode()
            def infer():
                with narrow():
                    last["value"] = call(x)

            return repeated(infer), lambda: last["value"].mean().item(), model

        kind = {"capturable": True} if device.type == "cuda" else {}
        adam = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-8, fused=True, **kind)
        compiled = torch.compile(loss_of, mode="max-autotune") if peer == "compile" else loss_of
        kept = torch.zeros((), device=device)

        def once():
            adam.zero_grad(set_to_none=True)
            with narrow():
                loss = compiled(*batch())
            loss.backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            adam.step()
            kept.copy_(loss.detach())

        return repeated(once), kept.item, model

    # torch.compile chooses the layout of convolutions itself.
    layouts = [False, True] if arguments.serve != "lstm-vae" and peer != "compile" else [False]
    warm, best = 20 if device.type == "cuda" else 1, None
    for last_channels in layouts:
        step, value, model = prepare(last_channels)
        taken = timed(step, warm)
        if best is None or taken < best[0]:
            best = taken, last_channels, step, value, model
    _, last_channels, step, value, model = best
    del best
    forget_peak(device)
    if len(layouts) > 1:
        about["chosen"] = "channels last" if last_channels else "channels first"
    redundant = sum(p.numel() for name, p in model.named_parameters() if "bias_hh" in name and is_lstm(model, name))
    return step, value, about | {"parameters": sum(p.numel() for p in model.parameters()) - redundant}


def is_lstm(model, name):
    import torch

    return isinstance(model.get_submodule(name.rpartition(".")[0]), torch.nn.LSTM)


def network(case, device, last_channels):
    """The model, what draws a batch, the loss of a batch, and the bound on the gradients' norm."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class ConvVae(nn.Module):
        def __init__(self):
            super().__init__()
            act = lambda: nn.LeakyReLU(0.1)
            self.encoder = nn.Sequential(
                nn.Conv2d(1, 32, 4, 2, 1), act(),
                nn.Conv2d(32, 64, 4, 2, 1), act(),
                nn.Conv2d(64, 64, (3, 4), (1, 2), 1), act(),
            )
            self.hidden = nn.Sequential(nn.Linear(3200, 256), act())
            self.mean, self.raw_scale = nn.Linear(256, LATENTS), nn.Linear(256, LATENTS)
            self.grid = nn.Sequential(nn.Linear(LATENTS, 256), act(), nn.Linear(256, 3200), act())
            self.decoder = nn.Sequential(
                nn.ConvTranspose2d(64, 64, (3, 4), (1, 2), 1), act(),
                nn.ConvTranspose2d(64, 32, 4, 2, 1), act(),
                nn.ConvTranspose2d(32, 2, 4, 2, 1),
            )

        def encode(self, x):
            h = self.hidden(self.encoder(x.unsqueeze(1)).flatten(1))
            return self.mean(h), self.raw_scale(h)

        def decode(self, z):
            h = self.grid(z).view(-1, 64, 5, 10)
            if last_channels:
                h = h.contiguous(memory_format=torch.channels_last)
            return self.decoder(h).unbind(1)

    class LstmVae(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.LSTM(BANDS, 256, batch_first=True)
            self.mean, self.raw_scale = nn.Linear(256, LATENTS), nn.Linear(256, LATENTS)
            self.decoder = nn.LSTM(LATENTS, 256, batch_first=True)
            self.bin_mean, self.bin_raw_scale = nn.Linear(256, BANDS), nn.Linear(256, BANDS)

        def encode(self, x):
            h = self.encoder(x)[1][0][0]
            return self.mean(h), self.raw_scale(h)

        def decode(self, z):
            h = self.decoder(z.unsqueeze(1).expand(-1, 20, -1))[0]
            return self.bin_mean(h), self.bin_raw_scale(h)

    class Highway(nn.Module):
        def __init__(self):
            super().__init__()
            self.transform, self.gate = nn.Linear(128, 128), nn.Linear(128, 128)

        def forward(self, x):
            return torch.lerp(x, F.relu(self.transform(x)), torch.sigmoid(self.gate(x)))

    class Cbhg(nn.Module):
        def __init__(self):
            super().__init__()
            # With the channels last in memory, time is the width of an image one line high.
            norm = lambda channels: (nn.BatchNorm2d if last_channels else nn.BatchNorm1d)(channels, eps=1e-3, momentum=0.01)
            kind, size = (nn.Conv2d, lambda width: (1, width)) if last_channels else (nn.Conv1d, lambda width: width)
            conv = lambda inputs, outputs, width: kind(inputs, outputs, size(width), padding="same", bias=False)
            self.bank = nn.ModuleList(conv(BANDS, 128, width) for width in range(1, 17))
            self.bank_norm = norm(2048)
            self.down, self.down_norm = conv(2048, 128, 3), norm(128)
            self.back, self.back_norm = conv(128, BANDS, 3), norm(BANDS)
            self.widen = nn.Linear(BANDS, 128)
            self.highway = nn.Sequential(*(Highway() for _ in range(4)))
            self.gru = nn.GRU(128, 128, bidirectional=True)
            self.output = nn.Linear(256, BINS)

        def forward(self, x):  # [batch, frames, bands]
            x = x.transpose(1, 2)
            x = x.unsqueeze(2) if last_channels else x  # has its channels last already
            h = F.pad(F.relu(self.bank_norm(torch.cat([conv(x) for conv in self.bank], 1))), (0, 1))
            h = F.max_pool2d(h, (1, 2), 1) if last_channels else F.max_pool1d(h, 2, 1)
            h = F.relu(self.down_norm(self.down(h)))
            h = self.back_norm(self.back(h)) + x
            h = (h.squeeze(2) if last_channels else h).permute(2, 0, 1)  # [frames, batch, bands], which nn.GRU likes best
            return self.output(self.gru(self.highway(self.widen(h)))[0].transpose(0, 1))

    draw = lambda *shape: torch.randn(*shape, device=device)
    if case.startswith("cbhg"):
        model = Cbhg().to(device)
        if last_channels:
            model = model.to(memory_format=torch.channels_last)
        if case == "cbhg-infer-60s":
            x = draw(1, 6000, BANDS)
            return model, lambda: x, None, None
        frames = int(case.partition("x")[2])
        mel, estimate, target = draw(4000, BANDS), draw(4000, BINS), draw(4000, BINS)
        offsets = torch.arange(frames, device=device)

        def crops():
            rows = torch.randint(4000 - frames, (32, 1), device=device) + offsets
            return mel[rows], estimate[rows], target[rows]

        return model, crops, lambda mel, estimate, target: F.l1_loss(model(mel) + estimate, target), 1.0

    model = (ConvVae() if case == "conv-vae" else LstmVae()).to(device)
    if last_channels:
        model = model.to(memory_format=torch.channels_last)
    mel, offsets = draw(4000, BANDS), torch.arange(20, device=device)

    def segments():
        return mel[torch.randint(3980, (128, 1), device=device) + offsets], draw(128, LATENTS)

    def negative_elbo(x, noise):
        mean, raw = model.encode(x)
        scale = F.softplus(raw) + 1e-4
        bins, raw = model.decode(mean + scale * noise)
        bin_scale = F.softplus(raw) + 0.1
        nll = 0.5 * ((x - bins) / bin_scale) ** 2 + bin_scale.log() + 0.5 * math.log(2 * math.pi)
        kl = 0.5 * (mean**2 + scale**2 - 2 * scale.log() - 1)
        return (nll.sum() + 8 * kl.sum()) / len(x)

    return model, segments, negative_elbo, None


if __name__ == "__main__":
    main()
