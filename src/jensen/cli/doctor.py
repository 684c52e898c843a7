"""``jensen doctor``."""

from __future__ import annotations

from rich.table import Table

from .show import Flag, console, print_json

__all__ = ["doctor"]


def doctor(*, json: Flag = False) -> None:
    """Show versions and hardware, where named data are looked for, and check a model against an exact answer.

    Parameters
    ----------
    json
        Print the findings as one JSON object on stdout.
    """
    import torch

    from .. import testing
    from ..data.named import data_folders
    from ..errors import JensenError
    from ..hardware import can_compile, fast_bf16, find_device
    from ..noise import seeded
    from ..run import environment

    with seeded(0):
        oracle = testing.LinearGaussian(torch.randn(8, 3), noise=0.5)
        x = oracle.evidence.sample((16,))
        log_weight = oracle.model.draw(x, k=7).log_weight.detach()
    error = float((log_weight - oracle.log_evidence(x)).abs().max())
    healthy = error < 1e-10
    folders = {str(folder): folder.is_dir() for folder in data_folders()}
    findings = {
        **environment(),
        "fast_bf16": fast_bf16(find_device()),
        "compiler": can_compile(find_device()),
        "data_folders": folders,
        "self_test_error": error,
        "healthy": healthy,
    }
    if json:
        print_json(findings)
    else:
        table = Table(box=None, show_header=False)
        for key, value in findings.items():
            table.add_row(key, str(value))
        console().print(table)
    if not healthy:
        raise JensenError(f"the self-test failed: a log-weight differs from the exact log p(x) by {error:.2g} nats.")
