"""Spikes that a pass gives away by their values: sums and choices with another gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from robust_snn.foreign.comparison import (
    Comparison,
    Form,
    Place,
    calls_behind,
    chooses_spikes,
    fired,
    likeliness,
    with_gradient,
)
from robust_snn.foreign.exchanged_spikes import rounded
from robust_snn.foreign.few_values import (
    has_few_values,
    has_hidden_values,
    hides_a_constant,
    is_constant,
    is_gradient_alone,
    made_of_spikes,
    takes_few_values_only,
)
from robust_snn.foreign.found_comparisons import FoundComparisons
from robust_snn.foreign.signed_terms import Terms
from robust_snn.foreign.squashed_values import NoOrigin, Root, depth_of_soft


@dataclass
class Sums:
    """What lines of sums and choices give, by the values of some step of a pass.

    While nothing has fired, a membrane may be zero, as spikes and `soft - soft.detach()` are: then
    other steps of the line say what it gives.

    Attributes:
        spikes: The lines of the comparisons whose spikes they give, None for an unknown one, and
            what these are a staircase of.
        others: Lines that give no spikes.
        alone: Lines that give zeros with a gradient, for spikes that are added later.
        silent: What was taken for spikes although all of its values were the same.
    """

    spikes: dict[Any, tuple[Any, Root | None]] = field(default_factory=dict)
    others: set[Any] = field(default_factory=set)
    alone: set[Any] = field(default_factory=set)
    silent: set[tuple[Any, Any]] = field(default_factory=set)

    @property
    def mistaken(self) -> bool:
        """Whether something was taken for spikes that other steps of its line say is none."""
        silent = {line for line, _ in self.silent}
        known = [(self.spikes[line][0], made) for line, made in self.silent if line in self.spikes]
        wrong = silent & (self.others | self.alone) - {*self.spikes}
        wrong |= self.alone & (self.others | {*self.spikes})
        return bool(wrong) or any(told != made for told, made in known)

    def joined(self, more: Sums) -> Sums:
        """What two passes show."""
        spikes, others = self.spikes | more.spikes, self.others | more.others
        return Sums(spikes, others, self.alone | more.alone)


class StraightThrough:
    """Finds spikes among the sums and choices of a pass.

    Args:
        seen: What is found in it.
        told: What its lines gave in an earlier pass.
        line: The line that is running, which the steps of a neuron share.
        mark: Sets a mark of a tensor.

    Attributes:
        sums: What its lines give.
        hard: Comparisons whose spikes are known.
        compared: All comparisons so far.
    """

    def __init__(
        self,
        seen: FoundComparisons,
        told: Sums | None,
        line: Callable[[], Any],
        mark: Callable[[Tensor, str, Any], None],
    ) -> None:
        self.seen, self.sums = seen, Sums()
        self.hard: list[Comparison] = []
        self.compared: list[Comparison] = []
        self._count = 0.0
        self._at: Any = None
        self._told = Sums() if told is None else told
        self._line, self._mark = line, mark

    def look(
        self,
        count: float,
        name: str,
        args: Any,
        out: Tensor,
        exchanged: Tensor,
        terms: Terms | None,
    ) -> Tensor:
        """Spikes in the place of what an operation gives, if its terms, values or steps say so.

        Args:
            count: The number of the operation.
            name: What it is.
            args: Its operands.
            out: What it gives.
            exchanged: That, or spikes that are known to be in its place.
            terms: What it is a sum of, if it is one.
        """
        line, sums, told = self._line(), self.sums, self._told
        self._count, self._at = count, line
        spikes = self._of_terms(terms, args, out)
        varied = spikes is not None or not is_constant(out)
        if not varied:
            if line in told.spikes:
                return self._as_in_other_steps(args, out, *told.spikes[line])
            if line in told.others:
                return exchanged
            if line in told.alone and not out.any():
                return self._gradient_alone(args, out)
        if spikes is None:
            spikes = (self._choice if name == "where" else self._sum)(args, out, exchanged)
        if terms is not None and hasattr(spikes, "_unsure"):
            self._mark(spikes, "_terms", (spikes._version, terms))
        if hasattr(spikes, "_soft"):
            sums.alone.add(line)
        elif spikes is not exchanged:
            made = self.seen.found[self._count].made
            compared = self.seen.compared_in.get(made)
            if varied:
                sums.spikes[line] = compared, self.seen.roots.get(made)
            else:
                sums.silent.add((line, compared))
        elif varied:
            sums.others.add(line)
        return spikes

    def _of_terms(self, terms: Terms | None, args: Any, out: Tensor) -> Tensor | None:
        """Notes spikes, or zeros with a gradient, if detached copies of others show them."""
        if terms is None or not terms.gave_gradients or len(terms.left) > 1:
            return None
        if not terms.left:
            return out if out.any() else self._gradient_alone(args, out)
        made = getattr(terms.left[0].value, "_comparison", None)
        if made is None or made.membrane is None or made.staircase(out) is None:
            return None
        return self._straight_through(out, made, _soft(args), _unsure(args))

    def _as_in_other_steps(self, args: Any, out: Tensor, line: Any, root: Root | None) -> Tensor:
        """Notes spikes of the comparison that was made last in a line."""
        self._withdraw(_unsure(args))
        compared = (c for c in reversed(self.compared) if self.seen.compared_in[c.number] == line)
        made = next(compared, None)
        return self._unknown(out) if made is None else self._fired(out, made, root)

    def _choice(self, args: Any, out: Tensor, exchanged: Tensor) -> Tensor:
        """Notes spikes that are chosen of soft values."""
        made = chooses_spikes(args, out)
        if made is None:
            return exchanged
        made.spikes = out.detach()
        return self._straight_through(out, made, _differentiable(args[1:]), ())

    def _sum(self, args: Any, out: Tensor, exchanged: Tensor) -> Tensor:
        """Notes a sum that gives spikes a gradient which is not theirs."""
        unsure = _unsure(args)  # as `hard + soft` was
        again = bool(unsure) and has_hidden_values(args, out) and has_few_values(out)
        soft = _soft(args)
        masked = any(hasattr(a, "_of_mask") for a in _differentiable(args))
        held = [a._comparison for a in args if hasattr(a, "_comparison")]
        holding = [a._holds for a in map(with_gradient, args) if hasattr(a, "_holds")]
        if not holding and is_gradient_alone(args, _differentiable(args), out):
            return self._gradient_alone(args, out)
        added_to = any(hasattr(a, "_soft") for a in args)
        if added_to and any(hasattr(a, "_through") for a in args):
            return exchanged  # beside silent ones of another threshold
        gathers = all(map(self._is_spikes, soft)) and not has_hidden_values(args, out)
        alone = gathers or masked or held or not _cancels(args)
        if not again and not added_to and alone:  # as in `0 + spikes`
            if held:
                self._mark(out, "_holds", held[0])
            return exchanged
        for comparison in (*holding, *reversed(self.hard)):
            if comparison.gives(out):
                return self._straight_through(out, comparison, soft, unsure)
        if not again and not takes_few_values_only(args, out):
            return exchanged
        fits = [(made, made.staircase(out)) for made in reversed(self.compared)]
        likely = [(made, staircase) for made, staircase in fits if staircase is not None]
        if likely:
            comparison, _ = max(likely, key=lambda fit: likeliness(fit[1]))
            comparison.spikes = out.detach()
            spikes = self._straight_through(out, comparison, soft, unsure)
        elif again or hides_a_constant(args, out):
            return exchanged
        else:
            spikes = self._unknown(out)
        self._mark(spikes, "_unsure", self._count)
        return spikes

    def _is_spikes(self, value: Tensor) -> bool:
        """Whether a tensor is made of spikes, or has those of a comparison by any operation."""
        if made_of_spikes(value):
            return True
        if not has_few_values(value) or is_constant(value):
            return False
        calls = calls_behind(value)
        behind = {
            self.seen.found[p].made for p, (node, _) in self.seen.spots.items() if node in calls
        }
        return any(c.gives(value) for c in self.hard if c.number in behind)

    def _gradient_alone(self, args: Any, out: Tensor) -> Tensor:
        """Notes zeros with a gradient, for spikes of something unknown until more is added."""
        spikes = self._unknown(out)
        self._mark(spikes, "_soft", _differentiable(args))
        self._mark(spikes, "_unsure", self._count)
        return spikes

    def _straight_through(
        self, out: Tensor, comparison: Comparison, soft: Sequence[Tensor], instead: Sequence[float]
    ) -> Tensor:
        """Notes spikes of a comparison that have the gradient of a soft function."""
        self._withdraw(instead)
        root = None
        if comparison.fires is not None:
            try:
                depth = depth_of_soft(comparison.fires, soft)
            except NoOrigin:
                return self._unknown(out)
            root = comparison.root(depth, out)
            if root is None and depth is not None:
                return self._unknown(out)
        return self._fired(out, comparison, root)

    def _fired(self, out: Tensor, comparison: Comparison, root: Root | None) -> Tensor:
        """Notes spikes of a comparison, as a staircase of what is known to be their root."""
        if comparison.fires is not None:
            comparison.look_at(root)
            self.seen.roots[comparison.number] = root
        self.seen.found[self._count] = Place(Form.STRAIGHT_THROUGH, comparison.number)
        if comparison.falls(out):
            self.seen.falling.add(self._count)
        spikes = fired(out, comparison)
        self._mark(spikes, "_through", True)
        self.seen.spots[self._count] = spikes.grad_fn, self._at
        return spikes

    def _withdraw(self, places: Sequence[float]) -> None:
        """Takes earlier operations for no spikes, as `hard + soft` is once `soft` is subtracted."""
        for place in places:
            self.seen.found.pop(place, None)

    def _unknown(self, out: Tensor) -> Tensor:
        """Notes spikes of a membrane that is not known."""
        self.seen.found[self._count] = Place(Form.ROUNDED, -self._count)
        return rounded(out)


def _differentiable(values: Sequence[Any]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor) and value.requires_grad]


def _soft(args: Sequence[Any]) -> list[Tensor]:
    """What gives a sum its gradient."""
    return next((a._soft for a in args if hasattr(a, "_soft")), _differentiable(args))


def _cancels(args: Sequence[Any]) -> bool:
    """Whether an operand may have values that take those of another away."""
    fixed = [a for a in args if isinstance(a, Tensor) and not a.requires_grad]
    hiding = any(hasattr(a, "_hides") or hasattr(a, "_unsure") for a in args)
    return hiding or any(value.any() for value in fixed)


def _unsure(args: Sequence[Any]) -> list[float]:
    """Places of operands that were taken for spikes of something unknown so far."""
    return [a._unsure for a in args if hasattr(a, "_unsure")]
