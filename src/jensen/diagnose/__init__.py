"""Is a model any good, and what limits it: each part of the answer is a function of draws, of arrays or of a model."""

from .aggregate import Aggregate
from .draws import Draws, draws_of
from .measured import Measured, mean_of
from .surgery import Surgery, elbo_surgery, quadrature_surgery

__all__ = ["Aggregate", "Draws", "Measured", "Surgery", "draws_of", "elbo_surgery", "mean_of", "quadrature_surgery"]
