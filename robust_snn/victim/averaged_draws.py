"""Expectation over the draws of a noisy network: logits averaged, gradients that repeat each draw.

A draw of every image is a batch, and several draws may pass together as one larger batch. Which do
follows from memory and changes nothing but the rounding of convolutions: every draw of an image has
keys of its own, wherever it stands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from robust_snn.utils.errors import InputError, is_out_of_memory
from robust_snn.utils.fork_safe_lock import ForkSafeLock
from robust_snn.utils.plain_context import plain_context, tf32_is_on

Run = Callable[[Tensor, Tensor], Tensor]  # images and keys to logits
Result = TypeVar("Result")
MOST_IMAGES = 1024  # that pass together unless asked for; so many fill any GPU
CPU_PIXELS = 2**15  # that pass together on CPUs in queries: fewer waste calls, more leave caches

_counting = ForkSafeLock()


@dataclass
class Cost:
    """Passes of single images through the network, forward and backward.

    Attributes:
        forwards: Images passed forwards.
        backwards: Images passed backwards.
        replaced: Gradients of an attack's loss that were zero or not finite, so that random signs
            stood in for them.
    """

    forwards: int = 0
    backwards: int = 0
    replaced: int = 0

    def reset(self) -> None:
        self.forwards = self.backwards = self.replaced = 0

    @torch.compiler.disable
    def count_forwards(self, passes: int) -> None:
        with _counting:
            self.forwards += passes

    @torch.compiler.disable
    def count_backwards(self, passes: int) -> None:
        with _counting:
            self.backwards += passes

    def count_replaced(self, gradients: int) -> None:
        with _counting:
            self.replaced += gradients


class DrawBatch:
    """How many draws pass together.

    Args:
        setting: That many, or `"auto"`: on a GPU as many as fit into its memory, else one. A count
            that does not fit is halved as well.
        cpu_pixels: Pixels that pass together on CPUs under `"auto"`, if that is more than one draw.

    Raises:
        InputError: If it is neither.
    """

    def __init__(self, setting: int | str, cpu_pixels: int = 0) -> None:
        is_count = isinstance(setting, int) and not isinstance(setting, bool) and setting >= 1
        if not is_count and setting != "auto":
            raise InputError(f"eot_batch must be 'auto' or a count of draws, got {setting!r}")
        self._setting, self._cpu_pixels = setting, cpu_pixels
        self._images = MOST_IMAGES if setting == "auto" else sys.maxsize

    def fitting(self, x: Tensor, draws: int, work: Callable[[int], Result]) -> Result:
        """What `work(count)` gives, with as many draws at once as fit into memory.

        Args:
            x: The images of one draw, `[B, ...]`.
            draws: Number of all draws.
            work: Called with fewer draws until they fit.
        """
        while True:
            count = min(draws, self._count(x))
            try:
                return work(count)
            except (RuntimeError, MemoryError) as error:
                if count == 1 or not is_out_of_memory(error):
                    raise
            self._images = count // 2 * len(x)  # not in the handler: the error holds on to memory
            if x.device.type == "cuda":
                torch.cuda.empty_cache()

    def _count(self, x: Tensor) -> int:
        if isinstance(self._setting, int):
            wanted = self._setting
        else:
            wanted = MOST_IMAGES if x.device.type == "cuda" else self._cpu_pixels // x.numel()
        return max(1, min(wanted, self._images // len(x)))


ALONE = DrawBatch(1)


class Draws(NamedTuple):
    """The draws of some images, and how they pass.

    Attributes:
        run: A pass.
        keys: Keys `[B]` of every draw.
        batch: How many pass together.
        cost: Where passes are counted.
    """

    run: Run
    keys: list[Tensor]
    batch: DrawBatch
    cost: Cost


def logits_of_draws(x: Tensor, draws: Draws) -> Tensor:
    """Logits of every draw, `[draws, B, K]`, without a graph.

    Args:
        x: Images `[B, ...]`.
        draws: Their draws.
    """
    run, keys, batch, cost = draws
    cost.count_forwards(len(x) * len(keys))
    if len(keys) == 1:
        return run(x, keys[0])[None]
    return torch.stack(batch.fitting(x, len(keys), partial(_of_parts, run, x, keys)))


def mean_logits(x: Tensor, draws: Draws, replay: bool) -> Tensor:
    """Logits averaged over draws, `[B, K]` or of every step `[T, B, K]`.

    Args:
        x: Images `[B, ...]`.
        draws: Their draws.
        replay: Whether a backward pass repeats the draws, so that the graph of one batch of them
            exists at most.
    """
    run, keys, batch, cost = draws
    if replay and torch.is_grad_enabled() and x.requires_grad:
        logits: Tensor = _Replay.apply(x, draws)
        return logits
    cost.count_forwards(len(x) * len(keys))
    if len(keys) == 1:
        logits = run(x, keys[0])
    else:
        logits = torch.stack(batch.fitting(x, len(keys), partial(_of_parts, run, x, keys))).mean(0)
    if logits.requires_grad:
        logits.register_hook(lambda _: cost.count_backwards(len(x)))
    return logits


def _of_parts(run: Run, x: Tensor, keys: list[Tensor], count: int) -> list[Tensor]:
    parts = [keys[i : i + count] for i in range(0, len(keys), count)]
    return [z for part in parts for z in _Part(run, x, part).each]


class _Part:
    """Some draws of images `[B, ...]` that pass together.

    Args:
        run: A pass.
        x: The images.
        keys: Keys of each draw.
        graph: Whether it is for gradients.
    """

    def __init__(self, run: Run, x: Tensor, keys: list[Tensor], graph: bool = False) -> None:
        self.draws = len(keys)
        together = keys[0]
        if self.draws > 1:
            x, together = x.repeat(self.draws, *[1] * (x.dim() - 1)), torch.cat(keys)
        self._x = x.detach().requires_grad_(graph)
        with torch.set_grad_enabled(graph):
            self._logits = run(self._x, together)

    @property
    def each(self) -> tuple[Tensor, ...]:
        """Logits of each draw, without their graph."""
        return self._logits.detach().chunk(self.draws, -2)

    def gradients(self, upstream: Tensor) -> tuple[Tensor, ...]:
        """Gradient on the images in each draw, from that on its logits; its graph is gone then."""
        upstream = torch.cat([upstream] * self.draws, -2) if self.draws > 1 else upstream
        return torch.autograd.grad(self._logits, self._x, upstream)[0].chunk(self.draws)


class _Replay(torch.autograd.Function):
    """Mean over draws whose backward repeats them from their keys, one part at a time.

    The graph of the last part is kept, which needs no repeating then.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, draws: Draws) -> Tensor:
        ctx.save_for_backward(x)
        ctx.draws, ctx.tf32 = draws, tf32_is_on()
        run, keys, batch, cost = draws
        cost.count_forwards(len(x) * len(keys))

        def work(count: int) -> tuple[list[Tensor], _Part]:
            starts = range(0, len(keys), count)
            parts = [_Part(run, x, keys[i : i + count]).each for i in starts[:-1]]
            last = _Part(run, x, keys[starts[-1] :], graph=True)
            return [*chain(*parts), *last.each], last

        logits, ctx.kept = batch.fitting(x, len(keys), work)
        return torch.stack(logits).mean(0) if len(keys) > 1 else logits[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        run, keys, batch, cost = ctx.draws
        cost.count_backwards(len(x) * len(keys))
        kept, ctx.kept = [ctx.kept], None

        def work(count: int) -> Tensor | None:
            total, rest = None, keys
            share = upstream[0] / len(keys) if len(keys) > 1 else upstream[0]
            while rest:
                part = kept.pop() if kept else None
                if part is None:
                    part = _Part(run, x, rest[-count:], graph=True)
                    cost.count_forwards(len(x) * part.draws)
                for gradient in reversed(part.gradients(share)):
                    total = gradient if total is None else total + gradient  # it may be expanded
                rest = rest[: -part.draws]
                part = None
            return total

        with plain_context(ctx.tf32, x.device):
            return batch.fitting(x, len(keys), work), None
