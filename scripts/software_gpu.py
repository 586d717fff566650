#!/usr/bin/env python3
"""Any command with a GPU in software: software_gpu.py WORK COMMAND...

What the command runs finds a CUDA driver (tests/cuda/driver.c) whose device is the CPU: NVRTC compiles kernels for an H100 as ever,
tests/cuda/ptx.py makes C of them, and the CPU runs that, some thousand times slower than a GPU. WORK keeps the driver, kernels and
caches. NVRTC and its headers are those of NVIDIA's wheels in this Python's environment (scripts/requirements-cuda.txt).
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "tests" / "cuda"


def environment(work, arch="90"):
    """The environment in which programs find the driver and NVIDIA's compilers. Kernels are not run yet."""
    toolkit = next(Path(path) / "cu13" for path in importlib.util.find_spec("nvidia").submodule_search_locations)
    driver = work.resolve() / "driver"
    driver.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", driver / "made", SOURCES / "driver.c", "-lpthread", "-ldl"], check=True)
    (driver / "made").rename(driver / "libcuda.so.1")
    return os.environ | {
        "LD_LIBRARY_PATH": f"{driver}:{toolkit / 'lib'}",
        "CUDA_PATH": str(toolkit),
        "CUDA_STUB_PTXAS": str(toolkit / "bin" / "ptxas"),
        "CUDA_STUB_ARCH": arch,
        "XDG_CACHE_HOME": str(work.resolve() / "cache"),
    }


def running(work, environment):
    """The same, and kernels are run, no longer looked at by `ptxas`."""
    kernels = work.resolve() / "kernels"
    kernels.mkdir(exist_ok=True)
    environment = environment | {"CUDA_STUB_RUN": f"'{sys.executable}' '{SOURCES / 'ptx.py'}'", "CUDA_STUB_KERNELS": str(kernels)}
    del environment["CUDA_STUB_PTXAS"]
    return environment


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    work, command = Path(sys.argv[1]), sys.argv[2:]
    os.execvpe(command[0], command, running(work, environment(work)))
