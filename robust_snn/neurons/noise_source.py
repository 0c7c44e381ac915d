"""Where the keys of random draws come from.

A module that draws asks for one key per sample. While `keyed` is active, the keys are the caller's:
that is how `Victim` decides what is random and what repeats. Otherwise the module makes its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robust_snn.kernels import sample_keys
from robust_snn.utils.errors import unknown

POLICIES = ("fresh", "frozen", "mean")


class Draw(NamedTuple):
    """Sample keys `[B]` of one draw, and whether its mean field stands in for it."""

    keys: Tensor
    mean: bool = False


_active: ContextVar[Draw | None] = ContextVar("active_draw", default=None)


@contextmanager
def keyed(keys: Tensor, mean: bool = False) -> Iterator[None]:
    """Every draw inside uses the given sample keys `[B]`."""
    token = _active.set(Draw(keys, mean))
    try:
        yield
    finally:
        _active.reset(token)


def policy_keys(
    noise: str, seed: int, batch: int, call: int, draw: int = 0, device: torch.device | None = None
) -> Tensor:
    """Sample keys `[B]` of a noise policy.

    `fresh` keys differ between calls and samples. `frozen` keys are one constant, so that the
    network is a deterministic function of each image, wherever in a batch it stands.
    """
    positions = torch.arange(batch, device=device)
    if noise == "frozen":
        return sample_keys(seed, torch.zeros_like(positions), draw)
    return sample_keys(seed, positions, draw, call)


class NoisyModule(nn.Module):
    """Base of the modules that draw random numbers.

    Attributes:
        layer: Address of the module in the random stream; `number_layers` makes it unique in a net.
        noise: Policy while no caller gives keys: `"fresh"`, `"frozen"` or `"mean"`.
        seed: Seed of the module's own keys, taken from PyTorch's generator when it is built.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = 0
        self.noise = "fresh"
        self.seed = int(torch.randint(2**62, (), device="cpu"))
        self.calls = 0

    @property
    def stochastic(self) -> bool:
        """Whether two draws can differ."""
        return True

    def draw(self, batch: int, device: torch.device) -> Draw:
        """The keys to draw with in this call."""
        tape = _tape.get()
        if tape is not None and tape.replaying:
            return tape.replay()
        draw = _active.get()
        if draw is None:
            keys = policy_keys(self.noise, self.seed, batch, self.calls, device=device)
            draw = Draw(keys, self.noise == "mean")
            self.calls += 1
        if tape is not None:
            tape.draws.append(draw)
        return draw


def number_layers(net: nn.Module) -> None:
    """Gives every noisy module of `net` its own address, in the order of `net.modules()`."""
    noisy = (m for m in net.modules() if isinstance(m, NoisyModule))
    for layer, module in enumerate(noisy):
        module.layer = layer


def set_noise(net: nn.Module, noise: str, seed: int | None = None) -> None:
    """Sets the noise policy of a net that is used without a `Victim`.

    Args:
        net: The net; modules that draw nothing are left alone.
        noise: `"fresh"`, `"frozen"` or `"mean"`.
        seed: New seed for every noisy module, which also restarts its calls.

    Raises:
        InputError: If the policy is not known.
    """
    if noise not in POLICIES:
        raise unknown("noise policy", noise, POLICIES)
    for module in net.modules():
        if isinstance(module, NoisyModule):
            module.noise = noise
            if seed is not None:
                module.seed, module.calls = seed, 0


class Tape(AbstractContextManager[None]):
    """Records the draws made inside it, or replays the draws of a recording in the same order."""

    def __init__(self, source: Tape | None = None) -> None:
        self.replaying = source is not None
        self.draws: list[Draw] = source.draws if source is not None else []

    def __enter__(self) -> None:
        self._next = iter(self.draws)
        self._token = _tape.set(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _tape.reset(self._token)

    def replay(self) -> Draw:
        return next(self._next)


_tape: ContextVar[Tape | None] = ContextVar("tape", default=None)
