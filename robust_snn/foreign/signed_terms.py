"""What a sum is made of: terms with a gradient, and detached copies that take their values away.

`hard.detach() + soft - soft.detach()` has the values of `hard` and the gradient of `soft`, whatever
the order of the sum, and whether `soft` is one tensor or the same function called twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node

from robust_snn.foreign.masks import PRODUCTS, SUMS

MOST = 6  # terms; a membrane gathers more with every step
DIVISIONS = ("div", "truediv")
NEGATIVE = ("sub", "isub")  # in their second operand


class Term(NamedTuple):
    """A summand.

    Attributes:
        factor: By which it is multiplied.
        value: A tensor.
        detached: Whether its gradient is left out.
        version: The tensor's, which counts what was written to it.
    """

    factor: float
    value: Tensor
    detached: bool
    version: int

    def cancels(self, other: Term) -> bool:
        """Whether this detached term takes away the value of another, but not its gradient."""
        if not self.detached or self.factor != -other.factor:
            return False
        if any(term.value._version != term.version for term in (self, other)):
            return False
        one, two = self.value, other.value
        return one is two or (torch.equal(one, two) and _made_alike(one.grad_fn, two.grad_fn))


class Terms(NamedTuple):
    """What a sum is made of.

    Attributes:
        left: The terms whose values are left.
        gave_gradients: Whether detached copies have taken the values of others away.
    """

    left: Sequence[Term]
    gave_gradients: bool = False

    def times(self, factor: float) -> Terms:
        left = [term._replace(factor=factor * term.factor) for term in self.left]
        return self._replace(left=left)

    def detached(self) -> Terms:
        return Terms([term._replace(detached=True) for term in self.left])

    def plus(self, other: Terms) -> Terms:
        left, gave_gradients = [*self.left, *other.left], self.gave_gradients
        for term in [*left]:
            copy = next((copy for copy in left if copy.cancels(term)), None)
            if copy is not None:
                left = [kept for kept in left if kept is not copy and kept is not term]
                gave_gradients = gave_gradients or not term.detached
        return Terms(left, gave_gradients or other.gave_gradients)


def terms_of(name: str, args: Sequence[Any], options: Any, out: Tensor) -> Terms | None:
    """The terms of what an operation gives, if that is a sum of tensors, a multiple or a copy."""
    if len(args) > 2 or options.keys() - {"alpha"}:
        return None
    first, second = (_terms(args[at], overwritten=args[at] is out) for at in (0, -1))
    if first is None or second is None:
        return None
    if name == "clone":
        return first
    if name == "detach":
        return first.detached()
    if name == "neg":
        return first.times(-1.0)
    if len(args) < 2:
        return None
    if name in SUMS and all(a.shape == out.shape for a in args if isinstance(a, Tensor)):
        alpha = options.get("alpha", 1)
        first = first.times(-1.0 if name == "rsub" else 1.0)
        together = first.plus(second.times(-alpha if name in NEGATIVE else alpha))
        return together if len(together.left) <= MOST else None
    if name in (*PRODUCTS, *DIVISIONS) and isinstance(args[1], int | float) and args[1]:
        return first.times(args[1] if name in PRODUCTS else 1 / args[1])
    return None


def _terms(value: Any, overwritten: bool) -> Terms | None:
    """The terms of an operand, without numbers; None if they are not known any more."""
    if not isinstance(value, Tensor):
        return Terms([])
    version, known = getattr(value, "_terms", (None, None))
    if version == value._version - overwritten:
        return known
    new = Term(1.0, value, not value.requires_grad, value._version)
    return None if overwritten else Terms([new])


def _made_alike(one: Node | None, two: Node | None) -> bool:
    """Whether the same operations made two tensors of the same ones."""
    todo: list[tuple[Any, Any]] = [(one, two)]
    seen = set[tuple[Any, Any]]()
    while todo:
        first, second = pair = todo.pop()
        if first is second or pair in seen:
            continue
        seen.add(pair)
        if first is None or second is None or first.name() != second.name():
            return False
        if len(first.next_functions) != len(second.next_functions):
            return False
        behind = zip(first.next_functions, second.next_functions, strict=True)
        todo += [(a, b) for (a, _), (b, _) in behind]
    return True
