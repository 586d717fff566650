#!/usr/bin/env python3
"""What a recorded step's kernels take, counted and not timed: count_kernels.py LOG [--most 20]

LOG is what a trainer wrote on the GPU in software:

    CUDA_STUB_COUNT=1 CUDA_STUB_LOG=LOG software_gpu.py WORK train-vae LOGDIR TRAIN TEST --device cuda --steps 7 --eval-every 7

Kernels are the ones that were the fastest there, so that WORK should have the `cache` of a run without CUDA_STUB_COUNT, and a product may be another
on a GPU. The order is by a rough guess at an H200's microseconds, the largest of: all instructions on 132 multiprocessors of 128 lanes at 1.8 GHz; the
sectors of memory read and written at 4 TB/s; the longest thread's instructions at 5 cycles each, as many times over as blocks do not fit at
once; and 1.5 for the launch. It is there to find the kernels to look at, and no more than that.
"""

import argparse
import math
from pathlib import Path

MULTIPROCESSORS, LANES, CLOCK, BANDWIDTH, LATENCY, LAUNCH = 132, 128, 1.8e9, 4e12, 5, 1.5e-6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--most", type=int, default=20)
    arguments = parser.parse_args()
    rows = []
    for line in arguments.log.read_text().splitlines():
        kind, *rest = line.split("\t")
        if kind == "count":
            name, grid, block, *counts = rest
            blocks, threads = (math.prod(map(int, text.split())) for text in [grid, block])
            rows.append(guessed(len(rows), name, blocks, threads, *map(int, counts)))
    if not rows:
        raise SystemExit(f"{arguments.log}: no replay was counted")
    print(f"{len(rows)} launches, {sum(row['read'] for row in rows) / 1e6:.0f} MB read, {sum(row['written'] for row in rows) / 1e6:.0f} MB written, "
          f"guess {sum(row['seconds'] for row in rows) * 1e6:.0f} us")
    print("   us  at  kernel                                     blocks  threads  longest  instructions  MB read  MB written  bound by")
    for row in sorted(rows, key=lambda row: -row["seconds"])[: arguments.most]:
        print(f"{row['seconds'] * 1e6:5.1f} {row['at']:3}  {row['name'][:40]:40} {row['blocks']:8} {row['threads']:8} {row['longest']:8} "
              f"{row['instructions'] / 1e6:11.1f} M {row['read'] / 1e6:8.2f} {row['written'] / 1e6:11.2f}  {row['bound']}")


def guessed(at, name, blocks, threads, instructions, longest, requested, read, written):
    at_once = MULTIPROCESSORS * max(1, min(2048 // threads, 32))
    bounds = {
        "instructions": instructions / (MULTIPROCESSORS * LANES * CLOCK),
        "memory": (read + written) / BANDWIDTH,
        "its longest thread": longest * math.ceil(blocks / at_once) * LATENCY / CLOCK,
    }
    bound = max(bounds, key=bounds.get)
    return {"at": at, "name": name, "blocks": blocks, "threads": threads, "instructions": instructions, "longest": longest, "read": read,
            "written": written, "seconds": bounds[bound] + LAUNCH, "bound": bound}


if __name__ == "__main__":
    main()
