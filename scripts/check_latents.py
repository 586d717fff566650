"""Holds what `evaluate latents` says against numpy and scikit-learn, computed anew from the codes that it measured.

    evaluate latents --vae RUN FEATURES [--factors TABLE] --json report.json --codes codes.npz
    python scripts/check_latents.py report.json codes.npz

    evaluate udr RUNS FEATURES --json udr.json
    evaluate latents --vae RUNS/a FEATURES --codes a.npz ... (for each run, in the order of udr.json)
    python scripts/check_latents.py --udr udr.json a.npz b.npz ...

Needs numpy, scipy and scikit-learn. Every line ends in the largest difference; the exit status is 1 if one is above its
tolerance. What has no exact counterpart (DCI by boosted trees, scores that draw at random) is shown beside it.
"""

import json
import sys

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.metrics import mutual_info_score

BINS = 20
ACTIVE = 0.01
failed = False


def check(name, found, wanted, tolerance):
    """Compares two numbers, lists or None."""
    global failed
    if found is None or wanted is None:
        good, difference = found is None and wanted is None, "undefined"
    else:
        difference = float(np.max(np.abs(np.asarray(found, float) - np.asarray(wanted, float)), initial=0.0))
        good = difference <= tolerance
    failed |= not good
    show = "undefined" if wanted is None else f"{np.mean(wanted):.6f}"
    print(f"{'ok  ' if good else 'FAIL'} {name:44} {show:>14}  difference {difference}")


def binned(values):
    """np.histogram's edges and np.digitize, as disentanglement_lib; few levels are their own bins."""
    levels = np.unique(values)
    if len(levels) <= BINS:
        return np.searchsorted(levels, values)
    return np.digitize(values, np.histogram(values, BINS)[1][:-1])


def gap(scores):
    first, second = np.sort(scores)[::-1][:2]
    return first - second


def concentration(importance, axis):
    """1 - entropy along `axis`, weighted; disentanglement_lib's disentanglement (1) and completeness (0)."""
    along = importance if axis == 1 else importance.T
    sums = along.sum(1)
    shares = along / np.where(sums > 0, sums, 1)[:, None]
    logs = np.log(np.where(shares > 0, shares, 1))
    entropy = -(shares * logs).sum(1) / np.log(along.shape[1]) if along.shape[1] > 1 else np.zeros(len(along))
    return float(((1 - entropy) * sums).sum() / sums.sum())


def of_factor(codes, fold, values, report):
    there = ~np.isnan(values)
    codes, fold, values = codes[there], fold[there], values[there]
    bins = binned(values)
    information = [mutual_info_score(binned(latent), bins) for latent in codes.T]
    with np.errstate(all="ignore"):
        squared = np.nan_to_num([np.corrcoef(latent, values)[0, 1] ** 2 if latent.var() > 1e-12 else 0 for latent in codes.T])
    entropy = mutual_info_score(bins, bins)
    defined = len(values) >= BINS and entropy > 0 and report["mig"] is not None
    name = report["name"]
    check(f"{name}: entropy", report["entropy"], entropy, 1e-9)
    check(f"{name}: mutual information", report["information"], information, 1e-9)
    check(f"{name}: squared correlation", report["squared_correlation"], squared, 1e-9)
    check(f"{name}: MIG", report["mig"], gap(information) / entropy if defined else None, 1e-9)
    check(f"{name}: SAP", report["sap"], gap(squared) if defined else None, 1e-9)
    if not report["regression"]:
        return None, None
    # The same split: the last part is for the test, the one before chooses the penalty.

    def fit(rows, alpha):
        mean, deviation = codes[rows].mean(0), codes[rows].std(0)
        deviation[deviation <= 1e-12] = 1
        centre, scale = values[rows].mean(), values[rows].std()
        model = Lasso(alpha=alpha, fit_intercept=False, tol=1e-12, max_iter=100_000)
        model.fit((codes[rows] - mean) / deviation, (values[rows] - centre) / scale)
        return model, lambda x: model.predict((x - mean) / deviation) * scale + centre

    def r2(predict, rows):
        return 1 - np.sum((values[rows] - predict(codes[rows])) ** 2) / np.sum((values[rows] - values[rows].mean()) ** 2)

    alphas = [0.001, 0.003, 0.01, 0.03, 0.1]
    alpha = max(alphas, key=lambda alpha: r2(fit(fold < 3, alpha)[1], fold == 3))
    model, predict = fit(fold < 4, alpha)
    regression = report["regression"]
    check(f"{name}: alpha", regression["alpha"], alpha, 0)
    check(f"{name}: lasso weights", regression["weights"], model.coef_, 1e-6)
    check(f"{name}: R2", regression["r2"], max(0, r2(predict, fold == 4)), 1e-6)
    trees = GradientBoostingRegressor(random_state=0).fit(codes[fold < 4], values[fold < 4])
    return np.abs(model.coef_), (trees.feature_importances_, r2(trees.predict, fold == 4))


def grid_scores(codes, factors, rng):
    """FactorVAE's and beta-VAE's scores, with other random numbers: near, not equal."""
    groups = [[np.flatnonzero(column == level) for level in np.unique(column[~np.isnan(column)])] for column in factors.T]
    groups = [[rows for rows in levels if len(rows) > 1] for levels in groups if len(levels) > 1]
    variances = codes.var(0)
    varying = np.flatnonzero(variances >= 0.05)

    def draw():
        factor = rng.integers(len(groups))
        return factor, groups[factor][rng.integers(len(groups[factor]))]

    def vote():
        factor, rows = draw()
        spread = codes[rng.choice(rows, 64)].var(0) / np.where(variances > 0, variances, 1)
        return varying[np.argmin(spread[varying])], factor

    def pair():
        factor, rows = draw()
        return np.abs(codes[rng.choice(rows, 64)] - codes[rng.choice(rows, 64)]).mean(0), factor

    votes = np.zeros((codes.shape[1], len(groups)))
    for _ in range(2000):
        votes[vote()] += 1
    factor_vae = np.mean([votes[latent].argmax() == factor for latent, factor in (vote() for _ in range(1000))])
    (x, y), (unseen, wanted) = [map(np.array, zip(*(pair() for _ in range(count)))) for count in (2000, 1000)]
    mean, deviation = x.mean(0), x.std(0)
    model = LogisticRegression(max_iter=5000).fit((x - mean) / deviation, y)
    return factor_vae, model.score((unseen - mean) / deviation, wanted)


def of_both(one, other):
    """Information between two factors over the segments that have both; 0 if none has, which is null in the report."""
    both = ~np.isnan(one + other)
    return mutual_info_score(binned(one[both]), binned(other[both])) if both.any() else 0.0


def latents(report, codes):
    mean, scale, fold = codes["mean"], codes["scale"], codes["fold"]
    kl = 0.5 * (mean**2 + scale**2 - 1) - np.log(scale)
    check("KL by latent", report["kl"], kl.mean(0), 1e-9)
    check("active latents", report["active"], int((kl.mean(0) > ACTIVE).sum()), 0)
    check("ELBO", report["elbo"], -report["reconstruction"] - kl.mean(0).sum(), 1e-6)
    active = kl.mean(0) > ACTIVE
    mean, alone = np.where(active, mean, 0), mean[:, active]
    covariance = np.atleast_2d(np.cov(alone.T)) if active.any() else np.ones((0, 0))
    correlation = 0.5 * (np.log(np.diag(covariance)).sum() - np.linalg.slogdet(covariance)[1])
    check("Gaussian total correlation", report["total_correlation"], correlation if active.any() else None, 1e-6)
    bins = [binned(latent) for latent in alone.T]
    pairs = [mutual_info_score(bins[i], bins[j]) for i in range(len(bins)) for j in range(i)]
    check("mean pairwise information", report["mean_pairwise_information"], np.mean(pairs) if pairs else None, 1e-9)
    scores = report["scores"]
    found = [of_factor(mean, fold, column, factor) for column, factor in zip(codes["factors"].T, scores["factors"])]
    for name in ["mig", "sap"]:
        each = [factor[name] for factor in scores["factors"] if factor[name] is not None]
        check(f"mean {name}", scores[name], np.mean(each) if each else None, 1e-12)
    between = [[of_both(a, b) for b in codes["factors"].T] for a in codes["factors"].T]
    check("information between factors", np.nan_to_num(np.array(scores["between"], float)), between, 1e-9)
    importance = [weights for weights, _ in found if weights is not None]
    if importance and scores["dci"]:
        importance = np.array(importance).T
        check("DCI disentanglement", scores["dci"]["disentanglement"], concentration(importance, 1), 1e-6)
        check("DCI completeness", scores["dci"]["completeness"], concentration(importance, 0), 1e-6)
        trees = [boosted for _, boosted in found if boosted is not None]
        importance = np.array([weights for weights, _ in trees]).T
        print(
            f"     DCI by boosted trees: {concentration(importance, 1):.3f} {concentration(importance, 0):.3f}"
            f" {np.mean([max(0, r2) for _, r2 in trees]):.3f}; by lasso: {' '.join(f'{x:.3f}' for x in scores['dci'].values())}"
        )
    if scores["factor_vae"] is not None:
        there = grid_scores(mean, codes["factors"], np.random.default_rng(0))
        check("FactorVAE score (random)", scores["factor_vae"], there[0], 0.05)
        check("beta-VAE score (random)", scores["beta_vae"], there[1], 0.05)


def udr(report, runs):
    active = []
    for codes in runs:
        kl = (0.5 * (codes["mean"] ** 2 + codes["scale"] ** 2 - 1) - np.log(codes["scale"])).mean(0)
        active.append(codes["mean"][:, kl > ACTIVE])

    def pair(a, b):
        both = np.abs(spearmanr(np.hstack([a, b])).statistic[: a.shape[1], a.shape[1] :])
        total = (both.max(0) ** 2 / both.sum(0)).sum() + (both.max(1) ** 2 / both.sum(1)).sum()
        return total / (a.shape[1] + b.shape[1])

    for i, run in enumerate(report["runs"]):
        wanted = [pair(active[i], active[j]) for j in range(len(active)) if j != i]
        check(f"{run['vae']}: UDR with each", [value for value in run["with"] if value is not None], wanted, 1e-9)
        check(f"{run['vae']}: UDR", run["udr"], np.median(wanted), 1e-9)


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--udr"]
    if len(arguments) < 2:
        sys.exit(__doc__)
    with open(arguments[0]) as file:
        report = json.load(file)
    runs = [np.load(path) for path in arguments[1:]]
    udr(report, runs) if "--udr" in sys.argv else latents(report, runs[0])
    sys.exit(failed)
