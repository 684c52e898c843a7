"""Noise that is a function of a seed and of the row it is drawn for, and of nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function

from .errors import JensenError

__all__ = ["RowNoise", "mix", "row_keys", "seed_device", "seeded", "shared_noise"]


def mix(*parts: int | str) -> int:
    """A 63-bit seed from several parts, the same on every machine.

    Example:
        >>> mix(0, "order", 3) == mix(0, "order", 3), mix(0, "order", 3) == mix(0, "order", 4)
        (True, False)
    """
    text = "\x1f".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_device(device: torch.device, seed: int) -> None:
    """Seeds the generator of one device; ``torch.manual_seed`` seeds those of all, which takes a while."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Seeds torch's generators from the parts inside the block, and puts them back as they were after it."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # all of them are seeded
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(mix(*parts))
        yield


def row_keys(x: Tensor) -> list[int]:
    """A 63-bit key from the content of each row: equal rows have equal keys, wherever they stand.

    Example:
        >>> a, b, c = row_keys(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
        >>> a == c, a == b
        (True, False)
    """
    rows = x.detach().cpu().contiguous().flatten(1).numpy() if x.ndim > 1 else x.detach().cpu()[:, None].numpy()
    return [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little") >> 1 for row in rows]


@contextmanager
def shared_noise() -> Iterator[None]:
    """Inside the block a :class:`RowNoise` around it draws what all rows share; without one nothing changes.

    Example:
        >>> with RowNoise([1, 2, 3], shared=7), shared_noise():
        ...     a = torch.randn(5)
        >>> with RowNoise([4], shared=7), shared_noise():
        ...     b = torch.randn(5)
        >>> torch.equal(a, b)
        True
    """
    _share(True)
    try:
        yield
    finally:
        _share(False)


def _share(on: bool) -> None:  # noqa: FBT001
    """Reaches the innermost mode through torch's own protocol, as a call of torch would."""
    anything = (torch.zeros(()),)  # the protocol is about arguments
    if has_torch_function(anything):
        handle_torch_function(_share, anything, on)


class RowNoise(TorchFunctionMode):
    r"""Inside the block every random number belongs to one row: row b of a batch draws from a generator of its own.

    A draw for a row is then the same in any batch, at any position. Random tensors must have the batch in dimension 1
    (samples first: (K, B, \*)) or in dimension 0; numbers are drawn on the CPU and moved.

    Arguments:
        seeds: One seed for each row of the batch.
        shared: The seed of what is drawn for all rows at once, inside :func:`shared_noise`.

    Raises:
        JensenError: If a random tensor has no dimension that could be the batch, or, at the end of the block, if
            something in it drew from torch's global generators, as ``torch.randint`` and dropout do.

    Example:
        >>> with RowNoise([1, 2, 3]):
        ...     a = torch.randn(5, 3)
        >>> with RowNoise([3, 1]):
        ...     b = torch.randn(5, 2)
        >>> torch.equal(a[:, 2], b[:, 0]) and torch.equal(a[:, 0], b[:, 1])
        True
    """

    def __init__(self, seeds: Sequence[int], shared: int = 0) -> None:
        super().__init__()
        self.common = torch.Generator().manual_seed(shared)
        self.sharing = False
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.before: list[list[Tensor]] = []  # one entry for each time the block is entered

    def __enter__(self) -> RowNoise:
        self.before.append(_global_states())
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        before = self.before.pop()
        if error is None and not all(map(torch.equal, before, _global_states())):
            raise JensenError(
                "cannot give each row its own noise: something drew from torch's global generators, so that its result "
                "depends on the rows around it. torch.randint, torch.randperm, Tensor.random_ and dropout in training "
                "mode do so. Draw with torch.rand, torch.randn or a distribution of torch instead."
            )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _share:
            self.sharing = args[0]
            return None
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is not None:  # of rows further in
            return func(*args, **kwargs)
        kwargs.pop("generator", None)
        if func is F.gumbel_softmax:
            return self._gumbel_softmax(*args, **kwargs)
        if func is torch.normal:
            return self._normal(*args, **kwargs)
        func = _SAME.get(func, func)
        if func in _FROM_TENSORS:
            return self._from_tensors(func, args, kwargs)
        if func in _LIKE:
            like = {"dtype": args[0].dtype, "device": args[0].device, **kwargs}
            return self._from_shape(_LIKE[func], (args[0].shape,), like)
        if func in _FROM_SHAPE:
            return self._from_shape(func, args, kwargs)
        if func in _IN_PLACE:
            return self._in_place(func, args, kwargs)
        return func(*args, **kwargs)

    def _gumbel_softmax(
        self,
        logits: Tensor,
        tau: float = 1,
        hard: bool = False,  # noqa: FBT001, FBT002 (torch's signature)
        eps: float = 0,
        dim: int = -1,
    ) -> Tensor:
        """Torch's own formula; inside torch's own function the mode would be off."""
        noise = self._in_place(torch.Tensor.exponential_, (torch.empty_like(logits),), {}).log()
        soft = ((logits - noise) / tau).softmax(dim)
        if not hard:
            return soft
        chosen = torch.zeros_like(soft).scatter_(dim, soft.argmax(dim, keepdim=True), 1.0)
        return chosen - soft.detach() + soft

    def _normal(self, mean: Tensor | float, std: Tensor | float = 1.0, size: Any = None, **kwargs: Any) -> Tensor:
        if size is not None:
            return mean + std * self._from_shape(torch.randn, (size,), kwargs)
        like = mean if isinstance(mean, Tensor) else std
        both = [a if isinstance(a, Tensor) else torch.full_like(like, a) for a in (mean, std)]  # type: ignore[arg-type]
        return self._from_tensors(torch.normal, tuple(torch.broadcast_tensors(*both)), kwargs)

    def _batch_dim(self, shape: torch.Size) -> int:
        rows = len(self.generators)
        for dim in (1, 0):
            if len(shape) > dim and shape[dim] == rows:
                return dim
        raise JensenError(
            f"cannot give each of {rows} rows its own noise: a random tensor of shape {tuple(shape)} has the batch "
            "neither first nor second. Draw samples as (K, B, ...)."
        )

    def _from_shape(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        size = kwargs.pop("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
        shape = torch.Size(size)
        device = kwargs.pop("device", None)
        if self.sharing:
            common: Tensor = func(shape, generator=self.common, **kwargs).to(device=device)
            return common
        dim = self._batch_dim(shape)
        row_shape = (*shape[:dim], *shape[dim + 1 :])
        rows = [func(row_shape, generator=g, **kwargs) for g in self.generators]
        return torch.stack(rows, dim).to(device=device)

    def _from_tensors(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        tensors = [a for a in args if isinstance(a, Tensor)]
        rest = tuple(a for a in args if not isinstance(a, Tensor))
        first, count = tensors[0], len(self.generators)
        if self.sharing:
            common: Tensor = func(*(t.cpu() for t in tensors), *rest, generator=self.common, **kwargs).to(first.device)
            return common
        if func is torch.multinomial:
            # torch flattens all batch dimensions of a categorical into one, and which of them were rows is lost.
            if first.ndim != 2 or first.shape[0] != count:
                raise JensenError(
                    f"cannot give each of {count} rows its own noise: probabilities of a multinomial draw of shape "
                    f"{tuple(first.shape)}, not ({count}, categories), do not say which are of one row. Draw with "
                    "jensen.distributions.Categorical or OneHotCategorical instead of those of torch."
                )
            slices = [t.cpu().chunk(count) for t in tensors]
            dim, joined = 0, torch.cat
        else:
            dim, joined = self._batch_dim(first.shape), torch.stack
            slices = [t.cpu().unbind(dim) for t in tensors]
        rows = [func(*row, *rest, generator=g, **kwargs) for *row, g in zip(*slices, self.generators, strict=True)]
        return joined(rows, dim).to(first.device)

    def _in_place(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        target, *rest = args
        if self.sharing:
            common: Tensor = target.copy_(func(target.cpu().clone(), *rest, generator=self.common, **kwargs))
            return common
        if any(isinstance(a, Tensor) and a.ndim for a in (*rest, *kwargs.values())):
            raise JensenError(
                f"cannot give each of {len(self.generators)} rows its own noise: Tensor.{func.__name__} takes a tensor "
                "of parameters, of which it is not said which are of one row. Use torch.bernoulli or a distribution."
            )
        dim = self._batch_dim(target.shape)
        rows = target.movedim(dim, 0)
        noise = torch.empty(rows.shape, dtype=target.dtype)  # each row in one piece of memory, whatever the target is
        for row, generator in zip(noise.unbind(), self.generators, strict=True):
            func(row, *rest, generator=generator, **kwargs)
        rows.copy_(noise)
        filled: Tensor = target
        return filled


def _global_states() -> list[Tensor]:
    cuda = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    return [generator.get_state() for generator in (torch.default_generator, *cuda)]


_SAME = {torch.Tensor.multinomial: torch.multinomial}
_FROM_SHAPE = {torch.randn, torch.rand}
_LIKE = {torch.randn_like: torch.randn, torch.rand_like: torch.rand}
_FROM_TENSORS = {
    torch.bernoulli,
    torch.Tensor.bernoulli,
    torch.poisson,
    torch.binomial,
    torch.multinomial,
    torch._standard_gamma,
    torch._sample_dirichlet,
}
_IN_PLACE = {
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    torch.Tensor.exponential_,
    torch.Tensor.cauchy_,
    torch.Tensor.log_normal_,
    torch.Tensor.geometric_,
    torch.Tensor.bernoulli_,
}
