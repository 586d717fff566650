#!/usr/bin/env python3
"""CUDA without a GPU: every kernel of a training run through NVRTC and ptxas, on a driver of our own, and then run by the CPU.

    check_cuda.py BIN FEATURES WORK [--arch 90] [--cases conv,lstm,...]

BIN has the programs built with `--features cuda`, FEATURES `train/` and `test/`; WORK is made. NVRTC, its headers and ptxas are
those of NVIDIA's wheels in this Python's environment (scripts/requirements-cuda.txt). tests/cuda/driver.c stands for the driver:
what fails here fails on a GPU as well. How fast it is, and what a GPU's own arithmetic comes to, is for scripts/gpu-check on a GPU.

First each network trains a few steps at its default sizes, without its kernels being run. What is wanted:

- the programs end well, on a device of 80 GB, and where the device is too small with the one line that says so;
- kernels are assembled and launched within the device's limits. Autotune may try what is refused, but has to have a choice left;
- the seventh step is recorded and replayed from then on: within the recording nothing is done that a driver refuses then, and
  nothing is copied, as each replay would copy it again. Where the driver spoils it, the eleventh is;
- where there are recurrent layers, their own kernels are launched, none is refused, and none spills a register;
- kernels, and which of them are the fastest, are kept: a third start compiles nothing. (A second one may, where the first was the
  time to try.)

Then each is trained in small with its kernels run by the CPU (tests/cuda/ptx.py translates what NVRTC made of them), the last steps
as replays, and its losses are those of `--device cpu` within gpu-check's tolerances: with blocks and threads taking their turns in
order, and in the opposite order.
"""

import argparse
import importlib.machinery
import importlib.util
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import software_gpu

HERE = Path(__file__).resolve().parent
TOO_SMALL = "the device's memory does not hold a batch of"
loader = importlib.machinery.SourceFileLoader("gpu_check", str(HERE / "gpu-check"))
gpu_check = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
loader.exec_module(gpu_check)
# Name, program, flags.
CASES = {
    "conv": ("train-vae", []),
    "lstm": ("train-vae", ["--arch", "lstm"]),
    "factor": ("train-vae", ["--objective", "factor", "--kl-warmup-steps", "9", "--ema", "0.999", "--weight-decay", "0.01"]),
    "cbhg": ("train-inverter", ["--batch-size", "8"]),
    "conv-f32": ("train-vae", ["--precision", "f32"]),
    "lstm-bf16": ("train-vae", ["--arch", "lstm", "--precision", "bf16"]),
}
# The kernels of src/kernels/cube, for which there is no other choice.
OWN = "(forward|backward|(un)?fold_windows|frames?_[a-z_]+|gates_[a-z]+|bank_filters|add_(rows|squares)|rows_biased(_back)?|sum_values|(densiti|divergenc|distanc|sampl)es(_back)?|adam_steps|assign_values)_"
RECURRENT = ["lstm", "cbhg", "lstm-bf16"]
RECORDED, RECORDED_AGAIN = 7, 11  # the step that is


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--arch", default="90", help="compute capability of the device that is played")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    environment = software_gpu.environment(arguments.work, arguments.arch)
    failed = []
    for name in arguments.cases.split(","):
        failed += [f"{name}: {what}" for what in train(arguments, environment, name, *CASES[name])]
    failed += recorded_again(arguments, environment)
    failed += started_again(arguments, environment, arguments.cases.split(",")[0])
    failed += too_small(arguments, environment)
    for name in arguments.cases.split(","):
        failed += followed(arguments, software_gpu.running(arguments.work, environment), name, *CASES[name])
    for line in failed:
        print("FAILED", line)
    sys.exit(1 if failed else 0)


def train(arguments, environment, name, program, flags):
    log = arguments.work / f"{name}.log"
    done, seconds = start(arguments, environment, name, log, program, flags)
    (arguments.work / f"{name}.txt").write_text(done.stdout + done.stderr)
    modules, launches, most, _, graphs, replays = read(log)
    refused = [module for module in modules if module["verdict"] != "good"]
    unlaunched = [launch for launch in launches if launch["verdict"] != "good"]
    is_own = lambda kernel: re.match(OWN, kernel["entry"])
    own, own_launches = list(filter(is_own, modules)), list(filter(is_own, launches))
    assembling = sum(module["seconds"] for module in modules)
    print(f"{name}: {seconds:.0f} s for {len(modules)} kernels, {assembling:.0f} s of it in ptxas; "
          f"{', '.join(graphs) or 'nothing recorded'}, {replays} replays; "
          f"{len(refused)} not assembled, {len(unlaunched)} forms of launch refused; "
          f"registers {statistics.median(module['registers'] for module in modules) if modules else 0:.0f} (median), "
          f"{max((module['registers'] for module in modules), default=0)}; {most / 1e6:.0f} MB of the device", flush=True)
    for module in own:
        print(f"  {module['entry']}: {module['registers']} registers, {module['spilled']} bytes spilled")
    failed = []
    if done.returncode != 0:
        failed.append(f"ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    if "panicked" in done.stderr:
        failed.append(f"a thread panicked: {done.stderr.strip()[-2000:]}")
    if not modules:
        failed.append("no kernel was compiled")
    failed += [f"{module['entry']} spills {module['spilled']} bytes" for module in own if module["spilled"]]
    failed += [f"{module['entry']} was not assembled" for module in own if module["verdict"] != "good"]
    failed += [f"{launch['entry']} was refused: grid {launch['grid']}, block {launch['block']}, {launch['shared']}"
               for launch in own_launches if launch["verdict"] != "good"]
    # A kernel that is loaded amid a recording spoils it; the next finds it there.
    again = any("REFUSED" in graph for graph in graphs)
    wanted = arguments.steps - (RECORDED_AGAIN if again else RECORDED) + 1
    if replays != wanted or not graphs or not graphs[-1].endswith(" 0 copies good"):
        failed.append(f"{replays} steps were replayed and not {wanted}: {', '.join(graphs)}")
    if name in RECURRENT:
        launched = {launch["entry"].split("_")[0] for launch in own_launches if launch["verdict"] == "good"}
        failed += [f"no kernel {way}_* of the recurrent layers was launched" for way in ["forward", "backward"] if way not in launched]
    return failed


def start(arguments, environment, folder, log, program, flags, device="cuda"):
    """A few steps in a folder of WORK, and the seconds they took."""
    features, steps = arguments.features, str(arguments.steps)
    command = [arguments.bin / program, arguments.work / folder, features / "train", features / "test", "--device", device]
    command += ["--steps", steps, "--eval-every", steps, "--log-every", "1", *flags]
    begun = time.monotonic()
    done = subprocess.run(command, env=environment | {"CUDA_STUB_LOG": str(log)}, capture_output=True, text=True)
    return done, time.monotonic() - begun


def followed(arguments, environment, name, program, flags):
    """A small network's losses, kernels run by the CPU, against those of the programs' own device for it."""
    failed, losses = [], {}
    sides = {"cpu": ["cpu", {}], "cuda": ["cuda", {}], "reversed": ["cuda", {"CUDA_STUB_REVERSED": "1"}]}
    precision = flags[flags.index("--precision") + 1] if "--precision" in flags else "tf32"
    for side, (device, more) in sides.items():
        log, folder = arguments.work / f"{name}-{side}.log", f"{name}-{side}"
        here = [flag for flag in flags if device == "cuda" or flag not in ["--precision", precision]]
        done, seconds = start(arguments, environment | more, folder, log, program, [*here, "--preset", "tiny", "--seed", "3"], device)
        if done.returncode != 0:
            return [f"{folder}, kernels run: ended with {done.returncode}: {done.stderr.strip()[-2000:]}"]
        losses[side] = gpu_check.scalars(arguments.work / folder / "train", "loss/total")
        if device == "cpu":
            continue
        *_, replays = read(log)
        differences = [abs(one - other) / abs(one) for one, other in zip(losses["cpu"], losses[side], strict=True)]
        print(f"{folder}, kernels run: {seconds:.0f} s, {replays} of {arguments.steps} steps replayed; losses are off the CPU's by "
              f"{differences[0]:.1e} at the first step, {max(differences):.1e} at worst", flush=True)
        first, any_step = gpu_check.TOLERANCES[{"f32": "device"}.get(precision, precision)][0], gpu_check.SHORT
        if not replays or len(differences) != arguments.steps or differences[0] > first or max(differences) > any_step:
            failed.append(f"{folder}: the losses are not the CPU's: {losses}")
    return failed


def recorded_again(arguments, environment):
    """Where the driver refuses the first recording."""
    log = arguments.work / "spoilt.log"
    done, _ = start(arguments, environment | {"CUDA_STUB_SPOIL": "1"}, "spoilt", log, *CASES["lstm"])
    *_, graphs, replays = read(log)
    print(f"lstm, first recording refused: {', '.join(graphs)}, {replays} replays")
    good = done.returncode == 0 and replays == max(0, arguments.steps - RECORDED_AGAIN + 1)
    return [] if good else [f"a spoilt recording: status {done.returncode}, {replays} replays: {done.stderr.strip()[-2000:]}"]


def started_again(arguments, environment, name):
    failed = []
    for folder in ["second", "third"]:
        log = arguments.work / f"{folder}.log"
        done, seconds = start(arguments, environment, folder, log, *CASES[name])
        modules, _, _, compiled, *_ = read(log)
        print(f"{name}, {folder} start: {seconds:.0f} s, {len(modules)} kernels, {'some' if compiled else 'none'} of them compiled")
        if done.returncode != 0:
            failed.append(f"{name}: the {folder} start ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    if compiled:
        failed.append(f"{name}: the third start compiles kernels")
    return failed


def too_small(arguments, environment):
    """On a device that has room for the parameters, but not for a step."""
    small = environment | {"CUDA_STUB_MEMORY": "17e6"}
    done, seconds = start(arguments, small, "small", arguments.work / "small.log", *CASES["lstm"])
    said = done.stderr.strip()
    print(f"a device of 17 MB: status {done.returncode} after {seconds:.0f} s, {said}")
    good = done.returncode == 1 and TOO_SMALL in said and len(said.splitlines()) == 1
    return [] if good else ["a device that is too small must end in one line and status 1"]


def read(log):
    """What the driver noted: modules, launches, the most memory in use, whether NVRTC was, graphs, replays."""
    modules, launches, most, compiled, graphs, replays = [], [], 0, False, [], 0
    for line in log.read_text().splitlines() if log.exists() else []:
        kind, *rest = line.split("\t")
        if kind == "module":
            number, entry, registers, spilled, shared, seconds, verdict = rest
            first = lambda text: float(text.split()[0])
            modules.append({"entry": entry, "registers": int(first(registers)), "spilled": int(first(spilled)),
                            "shared": int(first(shared)), "seconds": first(seconds), "verdict": verdict})
        elif kind == "launch":
            number, entry, grid, block, shared, verdict = rest
            launches.append({"entry": entry, "grid": grid, "block": block, "shared": shared, "verdict": verdict})
        elif kind == "nvrtc":
            compiled = True
        elif kind == "node":
            continue
        elif kind in ["graph", "spoilt"]:
            graphs.append(" ".join([kind, *rest]))
        else:
            most, replays = int(rest[0].split()[0]), int(rest[2].split()[0])
    return modules, launches, most, compiled, graphs, replays


if __name__ == "__main__":
    main()
