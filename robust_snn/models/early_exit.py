"""Early exit: a network that stops reading its spikes once it is sure.

Ding et al., Nature Communications 16:10175 (2025), decode so to ignore what a perturbation does
later on. Of their text we had the abstract, and of their code what is common to its parts, without
the decoders; the rules here are the usual ones, on the logits averaged so far. Their order of the
input code, and its fusion, are `fusion_encoding`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robust_snn.models.readout import step_logits
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.text_form import Textual, parse

GRADIENTS = ("aware", "taken", "unaware")


@dataclass(frozen=True)
class ExitRule(Textual):
    """Base of the rules that say how sure a network is."""

    def surplus(self, probabilities: Tensor) -> Tensor:
        """By how much probabilities `[..., K]` are surer than the rule asks for, `[...]`."""
        raise TypeError(f"{type(self).__name__} does not say how sure is sure")


@dataclass(frozen=True)
class Confidence(ExitRule):
    """Stops where the largest probability is at least `at`."""

    name = "confidence"
    at: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.at <= 1:
            raise InputError(f"at of confidence must be in (0, 1], got {self.at:g}")

    def surplus(self, probabilities: Tensor) -> Tensor:
        return probabilities.amax(-1) - self.at


@dataclass(frozen=True)
class Entropy(ExitRule):
    """Stops where the entropy of the probabilities is at most `at`, in nats."""

    name = "entropy"
    at: float = 0.5

    def __post_init__(self) -> None:
        if not self.at >= 0:
            raise InputError(f"at of entropy must be at least 0, got {self.at:g}")

    def surplus(self, probabilities: Tensor) -> Tensor:
        return self.at - torch.special.entr(probabilities).sum(-1)


# name -> rule; a new one is one row
RULES: dict[str, type[ExitRule]] = {rule.name: rule for rule in (Confidence, Entropy)}


class EarlyExit(nn.Module):
    """From the logits of every step to those at which a network stops.

    The logits of a step are those averaged up to it, and the first step that is sure enough counts;
    the last one always is. The answer is the same for every gradient:

        "aware"    of the mixture of all steps, each weighted by the chance to stop there, so that
                   an attack sees what makes the network stop sooner or later
        "taken"    of the step at which it stopped, as if that were fixed
        "unaware"  of the mean over all steps, as if there were no exit

    Args:
        rule: `"confidence(at=0.9)"` or `"entropy(at=0.5)"`.
        gradient: What attacks know of the rule. Neither of the first two breaks all that the other
            breaks: evaluate with both.
        width: Surplus of sureness over which the chance to stop, a sigmoid, rises.

    Raises:
        InputError: If the rule or the gradient is not known.
    """

    bounded = False  # intervals do not pass

    def __init__(
        self,
        rule: str | ExitRule,
        gradient: Literal["aware", "taken", "unaware"] = "taken",
        width: float = 0.1,
    ) -> None:
        super().__init__()
        if gradient not in GRADIENTS:
            raise unknown("gradient of an early exit", gradient, GRADIENTS)
        self.rule = rule if isinstance(rule, ExitRule) else parse(rule, "exit rule", RULES, {})
        self.gradient = gradient
        self.width = width

    def forward(self, logits: Tensor) -> Tensor:
        """Maps logits of every step `[T, B, K]` to those at the exit, `[B, K]`."""
        running, surplus = self._read(logits)
        rows = torch.arange(logits.shape[1], device=logits.device)
        taken = running[_first(surplus), rows]
        if self.gradient == "taken":
            return taken
        if self.gradient == "unaware":
            followed = running[-1]
        else:
            followed = (self.chances(logits)[..., None] * running).sum(0)
        return taken.detach() + (followed - followed.detach())

    def steps(self, logits: Tensor) -> Tensor:
        """Number of steps that are read, from 1 to T, `[B]`."""
        return _first(self._read(logits)[1]) + 1

    def chances(self, logits: Tensor) -> Tensor:
        """The chance to stop at every step, smooth in logits `[T, B, K]`, `[T, B]`."""
        return stopping(self._read(logits)[1] / self.width)

    def log_odds(self, logits: Tensor) -> Tensor:
        """Log-odds of the answer where a network stops early, 0 where it reads all steps, `[B]`."""
        running, surplus = self._read(logits)
        first = _first(surplus)
        taken = running[first, torch.arange(len(first), device=first.device)]
        top = taken.argmax(1, keepdim=True)
        others = taken.scatter(1, top, -torch.inf).logsumexp(1)
        return (taken.gather(1, top)[:, 0] - others) * (first < len(logits) - 1)

    def _read(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits averaged so far `[T, B, K]`, and how surer than need be they are, `[T, B]`."""
        count = torch.arange(1, len(logits) + 1, device=logits.device).view(-1, 1, 1)
        running = logits.cumsum(0) / count
        return running, self.rule.surplus(torch.softmax(running, -1))

    def extra_repr(self) -> str:
        return f"{self.rule}, gradient={self.gradient}"


def stopping(surplus: Tensor) -> Tensor:
    """Chance to stop at each step `[T, B]`, where `sigmoid(surplus)` is that of one reached."""
    stop = torch.sigmoid(surplus)
    stop = torch.cat([stop[:-1], torch.ones_like(stop[:1])])
    reached = torch.cat([torch.ones_like(stop[:1]), (1 - stop[:-1]).cumprod(0)])
    return reached * stop


def _first(surplus: Tensor) -> Tensor:
    """The first step `[B]` with a surplus, or the last."""
    sure = surplus >= 0
    sure = torch.cat([sure[:-1], torch.ones_like(sure[:1])])
    return sure.int().argmax(0)


@torch.no_grad()
def exit_steps(net: nn.Module, images: Tensor) -> Tensor:
    """Number of time steps after which a network answers, for each image, `[B]`.

    Raises:
        InputError: If it has no early exit.
    """
    leave = getattr(net, "early_exit", None)
    if not isinstance(leave, EarlyExit):
        raise InputError(
            f"{type(net).__name__} has no early exit: build it with early_exit='confidence(at=0.9)'"
        )
    return leave.steps(step_logits(net, images))
