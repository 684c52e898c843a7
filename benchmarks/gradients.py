"""The noise of gradient estimators where theory says what it must be.

First, signal-to-noise ratios against K on the toy of Rainforth et al. (2018) and Tucker et al. (2019): slopes of -1/2
(encoder, plain gradient), +1/2 (decoder) and +1/2 (encoder, doubly reparameterised). Second, the variance of three
gradients of the ELBO against the distance of q from the true posterior (Roeder et al., 2017): sticking the landing has
none where q is exact, and more than the others where q is far too narrow.

Run with: python -m benchmarks.gradients [--repeats 1000]
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from benchmarks.record import ROOT, record, write_table
from jensen import VAE, Conditional, diagnose, families, objectives, testing
from jensen.distributions import diagonal_normal
from jensen.noise import seeded

SIZE, ROWS = 20, 1024
SAMPLES = (16, 32, 64)
OBJECTIVES: dict[str, Any] = {
    "plain": lambda k: objectives.IWAE(k),
    "doubly reparameterised": lambda k: objectives.IWAE(k, estimator=objectives.DoublyReparameterised()),
}
ELBOS = {
    "closed form": objectives.ELBO(closed_form_kl=True),
    "sampled": objectives.ELBO(closed_form_kl=False),
    "sticking": objectives.ELBO(estimator=objectives.StickingTheLanding()),
}
EXPECTED = {("plain", "encoder"): -0.5, ("plain", "decoder"): 0.5, ("doubly reparameterised", "encoder"): 0.5}


class Shifted(nn.Module):
    """The prior N(mu, I) with a learned mean."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean)

    def forward(self, given: Any = None) -> Independent[Normal]:
        return diagonal_normal(self.mean, torch.ones_like(self.mean), 1)


class Identity(nn.Module):
    """The likelihood N(z, I)."""

    def forward(self, z: Tensor, given: Any = None) -> Independent[Normal]:
        return Independent(Normal(z, 1.0, validate_args=False), 1, validate_args=False)


def toy() -> tuple[VAE, Tensor]:
    """The toy a small random step away from its optimum, and its rows."""
    # The true mean is zero: an error of the encoder's matrix times a large mean would be an offset of q common to all
    # rows, and the bias from it, of order 1/K, would be larger than the gradient whose signal is looked for.
    with seeded(0, "toy"):
        x = math.sqrt(2.0) * torch.randn(ROWS, SIZE)
        mean = x.mean(0) + 0.01 * torch.randn(SIZE)
        encoder = nn.Linear(SIZE, SIZE)
        with torch.no_grad():
            encoder.weight.copy_(0.5 * torch.eye(SIZE) + 0.01 * torch.randn(SIZE, SIZE))
            encoder.bias.copy_(x.mean(0) / 2 + 0.01 * torch.randn(SIZE))
    family = families.Normal(SIZE, scale=families.FixedScale(math.sqrt(2 / 3)))
    return VAE(Shifted(mean), Identity(), Conditional(encoder, family)), x


def ratios(repeats: int) -> list[dict[str, Any]]:
    """Signal-to-noise ratios and their slopes against K, on a scale of logarithms."""
    model, x = toy()
    found: dict[tuple[str, str], list[float]] = {key: [] for key in EXPECTED}
    for k in SAMPLES:
        each = {name: make(k) for name, make in OBJECTIVES.items()}
        noise = diagnose.gradient_noise(model, x, each, repeats=repeats, seed=k)
        for name, part in EXPECTED:
            found[name, part].append(noise[name][part].snr)
    rows = []
    for (name, part), values in found.items():
        slope = float(np.polyfit(np.log(SAMPLES), np.log(values), 1)[0])
        rows.append({"estimator": name, "part": part, "snr": values, "slope": slope, "expected": EXPECTED[name, part]})
        print(rows[-1], flush=True)
    return rows


def crossing(repeats: int) -> list[dict[str, Any]]:
    """The variance of three gradients of the ELBO, with the scale of q a multiple of that of the true posterior."""
    oracle = testing.LinearGaussian(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), noise=1.0)
    with seeded(0, "rows"):
        x = oracle.evidence.sample((64,))
    exact = oracle.model.posterior(x)
    rows = []
    for scale in np.exp2(np.linspace(-3, 1, 33)).tolist():
        model = VAE(oracle.model.prior, oracle.model.likelihood, _Scaled(exact, scale))
        noise = diagnose.gradient_noise(model, x, ELBOS, repeats=repeats)
        rows.append({"scale": scale, **{name: parts["encoder"].variance.value for name, parts in noise.items()}})
    return rows


def crossings(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """The largest scale below one at which sticking the landing is noisier than another gradient."""
    narrow = [row for row in rows if row["scale"] < 1]
    found = {}
    for name in ("closed form", "sampled"):
        worse = [row["scale"] for row in narrow if row["sticking"] > row[name]]
        found[name] = max(worse, default=None)
    return found


class _Scaled(nn.Module):
    """The exact posterior with another scale; its mean and factor are parameters."""

    def __init__(self, exact: Any, scale: float) -> None:
        super().__init__()
        self.loc, self.factor = nn.Parameter(exact.loc.clone()), nn.Parameter(scale * exact.scale_tril)

    def forward(self, x: Tensor, given: Any = None) -> Any:
        count = len(x)
        return torch.distributions.MultivariateNormal(
            self.loc[:count], scale_tril=self.factor[:count], validate_args=False
        )


def draw(rows: list[dict[str, Any]]) -> None:
    """Draws the variances against the scale of q."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    scale = [row["scale"] for row in rows]
    for name in ("closed form", "sampled", "sticking"):
        axes.plot(scale, [max(row[name], 1e-30) for row in rows], label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(min(row["sampled"] for row in rows) / 100)
    axes.set_xlabel("scale of q over that of the true posterior")
    axes.set_ylabel("variance of the encoder's gradient")
    axes.legend()
    (ROOT / "docs" / "pictures").mkdir(exist_ok=True)
    figure.savefig(ROOT / "docs" / "pictures" / "gradients.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    options = parser.parse_args()
    slopes, variances = ratios(options.repeats), crossing(options.repeats)
    found = crossings(variances)
    draw(variances)
    record(
        "gradients",
        {"repeats": options.repeats, "samples": SAMPLES, "snr": slopes, "crossing": variances, "crossings": found},
    )
    about = (
        f"Signal-to-noise ratio of the gradient with {', '.join(map(str, SAMPLES))} samples, and the slope of its "
        f"logarithm against that of K ({SIZE} latents, {ROWS} rows, {options.repeats} gradients each). The picture "
        f"shows the "
        f"variance of three gradients of the ELBO of a linear-Gaussian model, with q the true posterior but for its "
        f"scale. "
        f"Where q is exact, sticking the landing has the variance {min(r['sticking'] for r in variances):.2g}; it is "
        f"noisier than the sampled gradient where q is narrower than {found['sampled']:.2f} of the true scale, and "
        f"than the "
        f"closed-form one below {found['closed form']:.2f}.\n\n![variance against scale](pictures/gradients.png)"
    )
    table = [
        [
            r["estimator"],
            r["part"],
            ", ".join(f"{v:.2f}" for v in r["snr"]),
            f"{r['slope']:+.2f}",
            f"{r['expected']:+.1f}",
        ]
        for r in slopes
    ]
    header = ["estimator", "gradient of", "signal to noise", "slope", "theory"]
    write_table("gradients", "Gradient estimators", about, header, table, "python -m benchmarks.gradients")


if __name__ == "__main__":
    main()
