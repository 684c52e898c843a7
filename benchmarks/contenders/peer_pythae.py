"""pythae's own trainer and likelihood, with networks of the same sizes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping

import torch
from pythae.data.preprocessors import DataProcessor
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

from .dense import arrays, dense, linear
from .job import HIDDEN, LATENTS, PIXELS, Array, Job, Turn, versions

__all__ = ["make"]

_BLOCKS = (100, 500, 1000, 5000)
"""The batch sizes of ``get_nll`` that are tried; 100 is its default."""


class Encoder(BaseEncoder):  # type: ignore[misc]
    """784-500-500-20, twice."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.hidden = dense([PIXELS, *HIDDEN], activation, ends_active=True)
        self.mean, self.log_variance = nn.Linear(HIDDEN[-1], LATENTS), nn.Linear(HIDDEN[-1], LATENTS)

    def forward(self, x: Tensor) -> ModelOutput:
        hidden = self.hidden(x)
        return ModelOutput(embedding=self.mean(hidden), log_covariance=self.log_variance(hidden))


class Decoder(BaseDecoder):  # type: ignore[misc]
    """20-500-500-784, ending in probabilities."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.net = dense([LATENTS, *HIDDEN[::-1], PIXELS], activation)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.net(z)))


def _model(job: Job) -> VAE:
    torch.manual_seed(job.seed)
    config = VAEConfig(input_dim=(PIXELS,), latent_dim=LATENTS, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(job.activation), decoder=Decoder(job.activation))


class Trainer:
    """Times ``BaseTrainer.train_step``, which is its epoch, without start-up, copies of the best model and saving."""

    def __init__(self, job: Job) -> None:
        self.versions = versions("pythae", "torch")
        self.job, self.model = job, _model(job)
        processor = DataProcessor()
        self.rows = processor.to_dataset(processor.process_data(torch.from_numpy(job.load())))

    def run(self, turn: Turn) -> None:
        """Trains; a turn is an epoch."""
        job = self.job
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder,
                num_epochs=job.turns,
                learning_rate=job.rate,
                per_device_train_batch_size=job.batch,
                per_device_eval_batch_size=job.batch,
                optimizer_cls="Adam",
                no_cuda=True,
                seed=job.seed,
            )
            trainer = BaseTrainer(model=self.model, train_dataset=self.rows, training_config=config)
            trainer.prepare_training()
            for epoch in range(1, job.turns + 1):
                loss = trainer.train_step(epoch)
                turn(len(self.rows), loss)
                trainer.callback_handler.on_epoch_end(training_config=config)

    def weights(self) -> Mapping[str, Array]:
        """What was learned."""
        encoder, decoder = self.model.encoder, self.model.decoder
        heads = [encoder.mean, encoder.log_variance]
        return {**arrays("encoder", *linear(encoder.hidden), heads), **arrays("decoder", *linear(decoder.net))}


class Scoring:
    """Scores a few rows with ``get_nll``, with the batch size at which it is fastest."""

    def __init__(self, job: Job) -> None:
        self.versions = versions("pythae", "torch")
        self.turns, self.samples = job.turns, job.samples
        self.rows, self.model = torch.from_numpy(job.load()[: job.few]), _model(job)
        self.block = min((size for size in _BLOCKS if size <= job.samples or size == _BLOCKS[0]), key=self._pace)

    def _pace(self, block: int) -> float:
        count = max(block, min(self.samples, _BLOCKS[-2]))
        start = time.perf_counter()
        self._score(self.rows[:1], count, block)
        return (time.perf_counter() - start) / count

    def _score(self, rows: Tensor, samples: int, block: int) -> float:
        with torch.no_grad():  # which a caller has to add
            return -float(self.model.get_nll(rows, n_samples=samples, batch_size=block))

    def run(self, turn: Turn) -> None:
        """A turn scores all rows."""
        for _ in range(self.turns):
            loss = self._score(self.rows, self.samples, self.block)
            turn(max(self.block, self.samples // self.block * self.block) * len(self.rows), loss)

    def weights(self) -> Mapping[str, Array]:
        """Nothing was learned."""
        return {}


def make(job: Job, *, scoring: bool = False) -> Trainer | Scoring:
    """The contender."""
    return Scoring(job) if scoring else Trainer(job)
