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
        """Whether this detached term takes away the value of another, and leaves its gradient."""
        if not self.detached or other.detached or self.factor != -other.factor:
            return False
        if any(term.value._version != term.version for term in (self, other)):
            return False
        one, two = self.value, other.value
        return one is two or (torch.equal(one, two) and _made_alike(one.grad_fn, two.grad_fn))


def terms_of(name: str, args: Sequence[Any], options: Any, out: Tensor) -> list[Term] | None:
    """The terms of what an operation gives, if that is a sum of tensors, a multiple or a copy."""
    if len(args) > 2 or options.keys() - {"alpha"}:
        return None
    terms = [_terms(value, overwritten=value is out) for value in args]
    first, second = terms[0], terms[-1]
    if first is None or second is None:
        return None
    if name == "clone":
        return first
    if name == "detach":
        return [term._replace(detached=True) for term in first]
    if name == "neg":
        return _times(-1.0, first)
    if len(args) < 2:
        return None
    if name in SUMS and all(a.shape == out.shape for a in args if isinstance(a, Tensor)):
        alpha = options.get("alpha", 1)
        together = _times(-1.0 if name == "rsub" else 1.0, first)
        together += _times(-alpha if name in NEGATIVE else alpha, second)
        return together if len(together) <= MOST else None
    if name in (*PRODUCTS, *DIVISIONS) and isinstance(args[1], int | float) and args[1]:
        return _times(args[1] if name in PRODUCTS else 1 / args[1], first)
    return None


def rest_of(terms: Sequence[Term]) -> list[Term]:
    """The terms of a sum whose values are left, once detached copies have taken others away."""
    rest = [*terms]
    for term in terms:
        copy = next((other for other in rest if other.cancels(term)), None)
        if copy is not None:
            rest = [other for other in rest if other is not copy and other is not term]
    return rest


def _terms(value: Any, overwritten: bool) -> list[Term] | None:
    """The terms of an operand, without numbers; None if they are not known any more."""
    if not isinstance(value, Tensor):
        return []
    version, known = getattr(value, "_terms", (None, []))
    if version == value._version - overwritten:
        return list(known)
    new = Term(1.0, value, not value.requires_grad, value._version)
    return None if overwritten else [new]


def _times(factor: float, terms: Sequence[Term]) -> list[Term]:
    return [term._replace(factor=factor * term.factor) for term in terms]


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
