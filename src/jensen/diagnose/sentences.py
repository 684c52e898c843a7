"""From results to sentences: what was found, what it means, the option to change."""

from __future__ import annotations

import math

from ..evaluation import ACTIVE
from .findings import SURE, Finding
from .gradients import least_noisy
from .measured import Measured
from .page import Page
from .representation import LabelProbe

__all__ = ["findings"]

_SCALE_MARGIN = 1.25
"""A posterior counts as too wide or too narrow from this factor on: nearer to 1 little is gained."""

_PRIOR_MARGIN = 0.75
"""A classifier that is right three times out of four: half the prior's mass lies where codes do not."""

_LABEL_MARGIN = 0.25
"""The share of the way from a constant answer to one that is always right: codes that go less far tell little."""

_FAR = 1.6
"""Posterior deviations between a latent and what the encoder says, as a root mean square, where 1 is right: from here
on a 95% interval holds less than 80%."""

_IN_BAND = 0.9
"""The share of places in a 95% band from which on frequencies are what a process expects: places go together."""

_LEAST_NATS = 0.5
_UNSURE_NATS = 2.0
_MANY = 0.1
_SMALLEST_P = 1e-6

_ROUNDED = 1e-12
"""A variance of gradients that is this share of another is what rounding leaves of none."""


def findings(page: Page) -> list[Finding]:
    """What the parts of a page mean, faults first.

    Arguments:
        page: The page; findings that it holds already are kept.
    """
    rules = (_log_p, _limits, _surgery, _use, _features, _scale, _calibration, _prior, _labels, _gradients)
    found = [*page.findings, *(finding for rule in rules for finding in rule(page))]
    order = {"fault": 0, "limit": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.kind])


def _sure(number: Measured, margin: float) -> bool:
    """Whether a number is above a margin beyond doubt."""
    return number.beyond(margin) > SURE


def _log_p(page: Page) -> list[Finding]:
    weights = page.weights
    if weights is None:
        return []
    k, bound = list(weights.bounds.items())[-1]
    gain = bound.mean - weights.elbo.mean
    found = (
        f"log p(x) is at least {bound.mean:.2f} ± {bound.se:.2f} nats per example (K = {k}), {gain:.2f} above the ELBO."
    )
    share = weights.unreliable
    if share is not None and share > _MANY:
        return [
            Finding(
                "note",
                "log p(x)",
                found,
                f"For {share:.0%} of the rows the weights have too heavy a tail (k̂ above {weights.threshold:.2f}), so "
                "the bound is loose there and still rises with K.",
                "Take more draws (--samples)"
                + (", and compare with annealing, which leaves where the encoder starts." if page.annealed else "."),
            )
        ]
    told = "" if share is None else f"The weights of {1 - share:.0%} of the rows can be relied on (k̂)."
    return [Finding("note", "log p(x)", found, told, "")]


def _limits(page: Page) -> list[Finding]:
    gaps = page.gaps
    if gaps is None:
        return []
    held = gaps.held_out
    causes = {"amortisation": held.amortisation, "approximation": held.approximation}
    if gaps.generalisation is not None:
        causes["generalisation"] = gaps.generalisation
    real = {name: gap for name, gap in causes.items() if gap.beyond(0) > SURE and gap.value > _LEAST_NATS}
    if not real:
        unsure = any(gap.value + SURE * gap.se > _UNSURE_NATS for gap in causes.values())
        meaning = "The rows are too few to say more." if unsure else "The ELBO is close to what this decoder allows."
        return [Finding("note", "gaps", "No gap stands out.", meaning, "")]
    name = max(real, key=lambda cause: real[cause].value)
    meaning, change = _CAUSES[name]
    found = f"What costs most is {name}: {_nats(real[name])}."
    return [Finding("limit", "gaps", found, meaning, change)]


def _nats(number: Measured) -> str:
    return f"{number.value:.2f} ± {number.se:.2f} nats"


_CAUSES = {
    "amortisation": (
        "The encoder finds worse posteriors than its family holds.",
        "Use a wider encoder (--hidden) or train longer (--epochs); for given rows, climb further: posteriors.Refined.",
    ),
    "approximation": (
        "The best posteriors of this family are still far from the true ones.",
        "Use a richer family (--posterior full, or a flow), or more draws in training (--k).",
    ),
    "generalisation": (
        "Rows that training saw score higher than rows it did not: the networks are large for so few rows.",
        "Use more data, smaller networks (--hidden), fewer latents (--latents) or --weight-decay.",
    ),
}


def _surgery(page: Page) -> list[Finding]:
    surgery = page.surgery
    if surgery is None:
        return []
    if abs(surgery.residual.beyond(0)) > SURE and abs(surgery.residual.value) > 1e-3:
        return [
            Finding(
                "fault",
                "KL",
                f"The average KL is {surgery.mean_kl.value:.2f} nats, but its parts add up to "
                f"{surgery.mean_kl.value - surgery.residual.value:.2f}.",
                "Draws, densities and the formula of the KL do not belong to one posterior.",
                "Check sample, log_prob and the registered KL of the posterior.",
            )
        ]
    mutual, marginal = surgery.mutual_information, surgery.marginal_kl
    found = (
        f"Of an average KL of {surgery.mean_kl.value:.2f} nats, {mutual.value:.2f} tell the rows apart (at most "
        f"log {surgery.n:,} = {surgery.ceiling:.2f}) and {marginal.value:.2f} are the distance of "
        "all codes from the prior."
    )
    if surgery.ceiling - mutual.value < 0.05 * surgery.ceiling:
        meaning = "Codes name nearly every row; what more KL there is can only be paid as distance from the prior."
        return [Finding("note", "KL", found, meaning, "")]
    return [Finding("note", "KL", found, "", "")]


def _use(page: Page) -> list[Finding]:
    use = page.use
    if use is None:
        return []
    latents = len(use.mean_variance)
    if use.verdict in ("total collapse", "decoder ignores z"):
        silent = use.verdict == "decoder ignores z"
        return [
            Finding(
                "fault",
                "collapse",
                f"The decoder ignores z: with the z of another row log p(x|z) falls by {_nats(use.other_rows)}"
                + (f", though the KL is {use.kl.value:.2f} nats." if silent else "."),
                "Codes of this model carry nothing that its decoder uses, or belong to other rows."
                if silent
                else "The posterior has collapsed onto the prior, and the model is one without latents.",
                "Check how z reaches the decoder." if silent else "Use --free-bits, --kl-warmup or a weaker decoder.",
            )
        ]
    low, high = use.active_interval
    used = _sure(use.other_rows, 0)
    found = f"{use.active} of {latents} latents are active (95% interval {low} to {high}), " + (
        "and the decoder uses z." if used else "but whether the decoder uses them these rows do not tell."
    )
    if use.active == 0:
        yet = "and yet the decoder uses z" if used else "and whether the decoder uses z these rows do not tell"
        found = (
            f"No latent is active (the variance of no posterior mean is above {ACTIVE}), {yet}: with the z of another "
            f"row log p(x|z) falls by {_nats(use.other_rows)}."
        )
        return [Finding("note", "latents", found, "The codes carry little so far.", "Train for longer (--epochs).")]
    if use.verdict == "spare latents":
        return [
            Finding("note", "latents", found, "The others are spare, which costs nothing; this is no collapse.", "")
        ]
    return [Finding("note", "latents", found, "", "More latents (--latents) may still help.")]


def _features(page: Page) -> list[Finding]:
    found = page.features
    if found is None:
        return []
    told = (
        f"{found.used} of {len(found.found)} features tell rows apart. How often features are on lies for "
        f"{found.inside:.0%} of the places, the most frequent first, in the 95% band of the Indian buffet process."
    )
    meaning = "They fall off as the process expects."
    if found.inside < _IN_BAND:
        meaning = "How often a feature is on is for the rows to say: the process counts there as much as one of them."
    return [Finding("note", "features", told, meaning, "")]


def _scale(page: Page) -> list[Finding]:
    scale = page.scale
    if scale is None:
        return []
    log_best = math.log(scale.best)
    away = Measured(abs(log_best), scale.log_error)
    if _sure(away, math.log(_SCALE_MARGIN)) and _sure(scale.gain, 0):
        wide = log_best < 0
        return [
            Finding(
                "fault",
                "posterior",
                f"Every posterior is too {'wide' if wide else 'narrow'}: with deviations times {scale.best:.2f} the "
                f"bound would rise by {_nats(scale.gain)}.",
                "The scale of q(z|x) is not where training by this bound would have left it.",
                "Check the scale of the posterior, and that objective= is what it was trained by; or train on.",
            )
        ]
    return []


def _calibration(page: Page) -> list[Finding]:
    calibration = page.calibration
    if calibration is None:
        return []
    if _sure(calibration.distance, _FAR):
        return [
            Finding(
                "fault",
                "posterior",
                f"On rows simulated from the model, a latent lies {calibration.distance.value:.1f} deviations of q "
                "from where the encoder says (1 is right).",
                "The encoder does not invert this decoder: a weight or a sign is wrong, or they were trained apart.",
                "Check that encoder and decoder belong together; then train the encoder on.",
            )
        ]
    if calibration.p_value > 0.01:
        found = f"Ranks of z among draws of q look uniform (p = {calibration.p_value:.2g})."
        meaning = "q is calibrated as far as this can tell: uniform ranks are necessary, not sufficient."
        return [Finding("note", "calibration", found, meaning, "")]
    spread = float(calibration.spread[calibration.wrong].mean())  # of which some there are, where it is told
    about = {
        "too narrow": f"z spreads {spread:.2f} times as far as q says",
        "too wide": f"z spreads only {spread:.2f} times as far as q says",
        "shifted": f"z lies up to {float(calibration.shift.abs().max()):.2f} deviations beside q",
        "none": "only log p(x, z) gives it away, not any single latent",
    }[calibration.direction]
    found = f"Ranks of z among draws of q are not uniform (p {_below(calibration.p_value)}): {about}."
    meaning = "q is an approximation, as in most trained models; its intervals for z are off by as much."
    return [Finding("note", "calibration", found, meaning, "")]


def _below(p: float) -> str:
    return f"= {p:.1g}" if p >= _SMALLEST_P else f"< {_SMALLEST_P:g}"


def _prior(page: Page) -> list[Finding]:
    prior = page.prior
    if prior is None:
        return []
    accuracy = prior.accuracy
    found = (
        f"A classifier tells codes of rows from draws of the prior in {accuracy.value:.0%} of cases (50% is no gap)."
    )
    cure = "Fit the prior to the codes: jensen fit-prior RUN --prior mixture."
    if _sure(accuracy, _PRIOR_MARGIN):
        meaning = "Prior and codes do not match: samples come from where the decoder was never trained."
        return [Finding("fault", "prior", found, meaning, cure)]
    if _sure(accuracy, 0.5):
        return [Finding("note", "prior", found, "Samples come in part from where there are no codes.", cure)]
    meaning = f"No gap was found; with as many rows it would have been from about {0.5 + SURE * accuracy.se:.0%} on."
    return [Finding("note", "prior", found, meaning, "")]


def _labels(page: Page) -> list[Finding]:
    probes = page.labels
    if probes is None:
        return []
    means, rows = probes["means"], probes["rows"]
    if not means.above_chance():
        return [_unread(means, rows) if _tells_little(means) or _tells_more(rows, means) else _unsaid(means)]
    found = (
        f"Labels are read from codes with {means.best.value:.1%} accuracy (samples {probes['samples'].best.value:.1%}, "
        f"the rows themselves {rows.best.value:.1%}, a constant answer {means.chance:.1%})."
    )
    rare = means.best.value <= means.chance
    meaning = "Codes tell how likely a label is, though seldom is a rare one the likeliest." if rare else ""
    return [Finding("note", "labels", found, meaning, "")]


def _tells_little(probe: LabelProbe) -> bool:
    """Whether labels are beyond doubt hardly to be read, which is more than that no test has shown that they are."""
    margin = probe.chance + _LABEL_MARGIN * (1 - probe.chance)
    return probe.can_tell() and probe.best.beyond(margin) < -SURE


def _tells_more(rows: LabelProbe, means: LabelProbe) -> bool:
    """Whether labels are read from the rows, and beyond doubt better than from their codes."""
    more = Measured(rows.best.value - means.best.value, math.hypot(rows.best.se, means.best.se))
    return rows.above_chance() and _sure(more, 0)


def _unread(means: LabelProbe, rows: LabelProbe) -> Finding:
    aside = rows.above_chance()
    return Finding(
        "fault",
        "labels",
        f"Codes tell no more of labels than of permuted ones (p {_below(means.p_value)}): {means.best.value:.0%} are "
        f"right, of a constant answer {means.chance:.0%}"
        + (f" and the rows themselves {rows.best.value:.0%}." if aside else "; nor do the rows themselves."),
        "Codes and labels do not belong together: one of them is permuted, or codes lost what labels are about."
        if aside
        else "The labels do not belong to these rows: they are permuted, or about something else.",
        "Check the order of rows, codes and labels.",
    )


def _unsaid(means: LabelProbe) -> Finding:
    found = f"Whether codes tell of labels {means.rows} held-out rows do not say: "
    if means.can_tell():
        found += f"{means.best.value:.0%} are right, of a constant answer {means.chance:.0%}."
        meaning = "Codes that do tell something could do as badly by chance."
        change = "Take more rows with labels."
    else:
        found += f"{means.chance:.0%} have the same label."
        meaning = "Even a classifier that is always right would prove nothing."
        change = "Take more rows of the other labels."
    return Finding("note", "labels", found, meaning, change)


def _gradients(page: Page) -> list[Finding]:
    if page.gradients is None:
        return []
    target, noise = next(iter(page.gradients.items()))
    best, plain = least_noisy(noise), next(iter(noise))
    if best is None or best == plain or "encoder" not in noise[plain]:
        return []
    loud, quiet = (noise[name]["encoder"].variance.value for name in (plain, best))
    less = f"{loud / quiet:.1f} times less variance than" if quiet > _ROUNDED * loud else "no variance at all, unlike"
    return [
        Finding(
            "note",
            "gradients",
            f"For {target}, the encoder's gradient under {best} has {less} under {plain}.",
            "The encoder would learn from quieter gradients.",
            _ESTIMATORS.get(best, ""),
        )
    ]


_ESTIMATORS = {
    "sticking the landing": "Pass estimator=objectives.StickingTheLanding() to the objective.",
    "doubly reparameterised": "Pass estimator=objectives.DoublyReparameterised() to the objective.",
    "KL from samples": "Pass closed_form_kl=False to the objective (--sampled-kl).",
}
