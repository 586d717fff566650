#!/usr/bin/env python3
"""What each objective of train-vae makes of latents, held against known factors: one table, medians and ranges over seeds.

    bench_latents.py --bin target/release --work DIR [--seeds 3] [--steps 4000] [--segments 10000] [--grid LEVELS] [--device cpu]

Speaks the corpus of factors (`make-corpus --factors`), extracts features that know it all (FEATURES), trains every objective
with every seed and measures the test half of it with `evaluate latents`. Needs nothing but Python.

The same command goes on where it was interrupted: a run that was measured is not done again, training goes on from its last
checkpoint, more seeds are added to what is there. Other settings need another DIR. A seed of all objectives is done before
the next one, so that an early table compares like with like.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

# The papers' weights are for 64 x 64 pixels, 4096 values that each are a nat or less; a segment here has 1600. What is asked of
# the latents is held against the sum over all values, so that the same weight asks 4096 / 1600 = 2.6 times as much here.
#
# - beta 1, 4, 8: the plain VAE, the papers' usual weight, and the toolkit's default.
# - capacity: 25 nats as in the paper (some 3 for each of nine factors). The weight must only be more than what a nat of room
#   is worth to the reconstruction: at 25 nats 8, as beta 8 ends about there. The paper's 1000 leaves nothing of the
#   reconstruction's gradient in so few steps, and 100 left it 150 nats behind beta 8's at step 2600 and nearly the same divergence.
#   The capacity grows in the first half of them, in the paper's in nearly all.
# - factor: 35 / 2.6 = 14, with a discriminator in proportion to the network, at ten times the paper's rate: it has a hundredth of
#   the paper's steps.
# - beta-tc: (6 - 1) / 2.6 + 1 = 3, as the one of it belongs to the ELBO.
# - dip: 10 / 2.6 = 4, of the codes (II).
OBJECTIVES = {
    "VAE": ["--objective", "beta", "--beta", "1"],
    "beta-VAE 4": ["--objective", "beta", "--beta", "4"],
    "beta-VAE 8": ["--objective", "beta", "--beta", "8"],
    "capacity 25": ["--objective", "capacity", "--capacity", "25", "--gamma", "30", "--capacity-steps", "{half}"],
    "FactorVAE 14": ["--objective", "factor", "--gamma", "14", "--discriminator-layers", "4",
                     "--discriminator-width", "256", "--discriminator-learning-rate", "1e-3"],
    "beta-TCVAE 3": ["--objective", "beta-tc", "--beta", "3"],
    "DIP-VAE 4": ["--objective", "dip", "--lambda-od", "4"],
}
# Not normalised, as loudness is a factor; and the floor is below the noise of 16 bits. The default's, 1e-4, hides three values in ten
# of these quiet sounds, and in them breath (R2 of a regression on the mean spectrum 0.18, without a floor 0.77) and tilt.
FEATURES = ["--no-normalize", "--clip-before-log", "1e-7", "--only", "logmel"]
# Heading, where in the report, decimals.
MEASURES = [
    ("MIG", ["scores", "mig"], 3),
    ("SAP", ["scores", "sap"], 3),
    ("DCI d", ["scores", "dci", "disentanglement"], 3),
    ("DCI c", ["scores", "dci", "completeness"], 3),
    ("DCI i", ["scores", "dci", "informativeness"], 3),
    ("FactorVAE score", ["scores", "factor_vae"], 3),
    ("active", ["active"], 0),
    ("total correlation nats", ["total_correlation"], 2),
    ("reconstruction nats", ["reconstruction"], 1),
]


def main():
    arguments = parse()
    try:
        same_settings(arguments)
        features, table = prepare(arguments)
        for seed in range(1, arguments.seeds + 1):
            for name, flags in OBJECTIVES.items():
                train_and_measure(arguments, name, flags, seed, features, table)
    except subprocess.CalledProcessError as error:
        # The program has said what was wrong; the same command goes on.
        sys.exit(error.returncode if error.returncode > 0 else 128 - error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)
    reports = {name: [read(result(arguments, name, seed)) for seed in range(1, arguments.seeds + 1)] for name in OBJECTIVES}
    text = markdown(arguments, reports)
    (arguments.work / "table.md").write_text(text)
    print(text, end="")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="folder of the programs")
    parser.add_argument("--work", type=Path, required=True, help="folder for corpus, runs and the table")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--steps", type=positive, default=4000)
    parser.add_argument("--segments", type=positive, default=10_000)
    parser.add_argument("--grid", type=int, help="levels of each factor; only then FactorVAE's score is defined")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--full", action="store_true", help="the default network with 10 latents and its batch, not a small one")
    return parser.parse_args()


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def sizes(arguments):
    """A network that learns in minutes, and as many latents as there are factors, and one."""
    small = ["--preset", "tiny", "--channels", "16,32,64", "--batch-size", "64"]
    return ["--latents", "10", *([] if arguments.full else small)]


def same_settings(arguments):
    """Refuses to put what was made otherwise into one table."""
    settings = {"steps": arguments.steps, "segments": arguments.segments, "grid": arguments.grid, "sizes": sizes(arguments),
                "features": FEATURES, "objectives": OBJECTIVES}
    path = arguments.work / "settings.json"
    if path.exists() and read(path) != settings:
        was = read(path)
        differs = ", ".join(f"{key} {was.get(key)}" for key in settings if was.get(key) != settings[key])
        sys.exit(f"{arguments.work}: holds runs of other settings ({differs}); take another --work, or remove it")
    arguments.work.mkdir(parents=True, exist_ok=True)
    write(path, settings)


def prepare(arguments):
    """The features and the table of factors."""
    corpus, features = arguments.work / "corpus", arguments.work / "features"
    done = arguments.work / "corpus.json"
    if not done.exists():
        grid = ["--grid", arguments.grid] if arguments.grid else []
        call(arguments, "make-corpus", corpus, "--factors", "--segments", arguments.segments, "--overwrite", *grid)
        write(done, {"segments": arguments.segments})
    call(arguments, "extract-features", corpus, features, *FEATURES)
    return features, corpus / "factors.csv"


def result(arguments, name, seed):
    return arguments.work / "results" / f"{slug(name)}-{seed}.json"


def slug(name):
    return name.lower().replace(" ", "-")


def train_and_measure(arguments, name, flags, seed, features, table):
    found = result(arguments, name, seed)
    if found.exists():
        return
    run = arguments.work / "runs" / f"{slug(name)}-{seed}"
    flags = [flag.format(half=max(arguments.steps // 2, 1)) for flag in flags]
    call(arguments, "train-vae", run, features / "train", features / "test", "--steps", arguments.steps, "--seed", seed,
         "--device", arguments.device, *sizes(arguments), *flags)
    found.parent.mkdir(exist_ok=True)
    call(arguments, "evaluate", "latents", "--vae", run, features / "test", "--factors", table, "--samples", 0, "--json", found,
         "--device", arguments.device)


def call(arguments, program, *flags):
    command = [str(arguments.bin / program), *map(str, flags)]
    print("+", " ".join(command), file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=sys.stderr)


def markdown(arguments, reports):
    """The table, and which objectives are apart: the range of the one wholly above the other's."""
    values = {name: {heading: [value(report, where) for report in of] for heading, where, _ in MEASURES}
              for name, of in reports.items()}
    measures = [measure for measure in MEASURES if any(defined(values[name][measure[0]]) for name in values)]
    first = next(iter(reports.values()))[0]
    lines = [
        f"{first['segments']} test segments, {arguments.steps} steps, median (least to greatest) of {arguments.seeds} seeds",
        "",
        "| objective | " + " | ".join(heading for heading, _, _ in measures) + " |",
        "|---|" + "---|" * len(measures),
    ]
    for name in values:
        cells = [cell(values[name][heading], decimals) for heading, _, decimals in measures]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    if arguments.seeds < 2:
        lines.append("One seed has no range: what is apart cannot be told.")
        return "\n".join(lines) + "\n"
    # Of two that are alike all orders of their values are as likely: in one of so many the one is wholly above, in one below.
    chance = math.comb(2 * arguments.seeds, arguments.seeds) / 2
    lines.append("Apart: every seed of the one above every seed of the other. Of objectives that are alike, one pair in "
                 f"{chance:g} is so by chance.")
    lines.append("")
    for heading, _, _ in measures:
        above = [(one, [other for other in values if apart(values[one][heading], values[other][heading])]) for one in values]
        told = "; ".join(f"{one} above {', '.join(others)}" for one, others in above if others)
        lines.append(f"- {heading}: {told or 'none'}")
    return "\n".join(lines) + "\n"


def value(report, where):
    for key in where:
        report = report[key] if report is not None else None
    return report


def defined(values):
    return [value for value in values if value is not None]


def cell(values, decimals):
    """Of seeds of which some are undefined that is said, not a median of the others."""
    if len(defined(values)) < len(values):
        return "undefined" if not defined(values) else f"undefined of {len(values) - len(defined(values))}"
    median = f"{statistics.median(values):.{decimals}f}"
    if len(values) < 2:
        return median
    return f"{median} ({min(values):.{decimals}f} to {max(values):.{decimals}f})"


def apart(one, other):
    return None not in one and None not in other and min(one) > max(other)


def read(path):
    return json.loads(path.read_text())


def write(path, value):
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(value, indent=1) + "\n")
    beside.replace(path)


if __name__ == "__main__":
    main()
