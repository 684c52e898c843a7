"""Objectives: from a model and a batch to a loss, a bound and the terms they are made of."""

from .aggregate import DIP, MMD, BetaTCVAE, InverseMultiquadratic, SquaredExponential
from .aggressive import AggressiveInference
from .codes import CodedELBO
from .elbo import ELBO
from .gradients import DoublyReparameterised, Estimator, LeaveOneOut, Reparameterised, StickingTheLanding
from .importance import CIWAE, IWAE, MIWAE, PIWAE, Renyi
from .likelihood import LogLikelihood, Reconstruction
from .semi_supervised import SemiSupervised
from .wake_sleep import ReweightedWakeSleep

__all__ = [
    "AggressiveInference",
    "CIWAE",
    "DIP",
    "ELBO",
    "IWAE",
    "MIWAE",
    "MMD",
    "PIWAE",
    "BetaTCVAE",
    "CodedELBO",
    "DoublyReparameterised",
    "Estimator",
    "InverseMultiquadratic",
    "LeaveOneOut",
    "LogLikelihood",
    "Reconstruction",
    "Renyi",
    "Reparameterised",
    "ReweightedWakeSleep",
    "SemiSupervised",
    "SquaredExponential",
    "StickingTheLanding",
]
