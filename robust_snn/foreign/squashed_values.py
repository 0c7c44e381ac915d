"""What the compared value of a spike is made of, where a network squashes or clips it first.

Spikes such as `(sigmoid(4 * z) > 0.5).float()` or `clamp(v, 0, 4).round()` are a staircase of `z`
or `v`, and the squashing is a part of their function: a surrogate replaces its derivative too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils._pytree import tree_leaves

from robust_snn.foreign.exchanged_spikes import Fired
from robust_snn.foreign.graph_walk import parents
from robust_snn.foreign.staircase import Staircase, find_staircase

SCALING = ("mul", "rmul", "div", "truediv")
SHIFTING = ("add", "radd", "sub", "rsub", "neg")
COPYING = ("clone", "contiguous", "float", "double", "half", "bfloat16", "to", "type", "type_as")
SQUASHING = (
    *("sigmoid", "tanh", "erf", "atan", "arctan", "softsign", "softplus", "logsigmoid", "sqrt"),
    *("exp", "expm1", "log", "log1p", "pow", "square", "abs", "absolute", "rtruediv", "reciprocal"),
    *("relu", "relu6", "leaky_relu", "elu", "celu", "gelu", "silu", "hardtanh", "hardsigmoid"),
    *("clamp", "clamp_min", "clamp_max", "clip", "threshold", "minimum", "maximum", "where"),
    "masked_fill",
)
COMPARING = ("gt", "ge", "lt", "le", "greater", "less", "greater_equal", "less_equal")
FIRING: dict[str, Callable[..., Any] | None] = {  # to what they do where it is not by chance
    **dict.fromkeys(("heaviside", "sign", "sgn"), torch.sign),
    **dict.fromkeys(("round", "floor", "ceil", "trunc")),
    **dict.fromkeys(("int", "long", "short", "char", "byte"), torch.trunc),
    "bernoulli": lambda chance: chance >= 0.5,
}
ADDITIVE = ("Add", "Sub", "Rsub", "Neg", "Mul", "Div", "Clone", "Alias", "ToCopy")
MOST = 400  # operations above a soft function that are looked at


class Value:
    """What a tensor held, and the operation of each element alone that it came from.

    Attributes:
        number: Place of the operation in the forward pass.
        tensor: The tensor.
        name: The operation; "" where it is none of this kind.
        run: It, as a function of its sources.
        sources: The values that it depends on.
        uses: How many operations it enters.
        written: Whether the tensor holds something else by now.
    """

    def __init__(
        self,
        number: float,
        tensor: Tensor,
        name: str = "",
        run: Callable[..., Any] | None = None,
        sources: Sequence[Value] = (),
    ) -> None:
        self.number, self.tensor = number, tensor
        self.name, self.run, self.sources = name, run, tuple(sources)
        self.uses, self.written = 0, False

    @property
    def squashes(self) -> bool:
        """Whether the operation is more than a change of scale."""
        return self.name in (*SQUASHING, *COMPARING, *FIRING) or len(self.sources) > 1


class Root(NamedTuple):
    """The tensor that spikes are a staircase of, behind the one that is compared.

    Attributes:
        depth: Its number among `origins`.
        edge: Its threshold, which is subtracted from it; 0 beside a staircase.
        staircase: The staircase, if it has several thresholds.
    """

    depth: int
    edge: float
    staircase: Staircase | None = None


class Origin(NamedTuple):
    """A value that alone decides on another, and the operations between the two, last first."""

    value: Value
    between: tuple[Value, ...]


class NoOrigin(Exception):
    """Spikes are no staircase of what their soft function is a function of."""


class Values:
    """What the tensors of a forward pass come from, as far as each element follows from one."""

    def __init__(self) -> None:
        self._known: dict[int, Value] = {}
        self._alive: list[Tensor] = []  # so that no other tensor takes the place of one

    def of(self, tensor: Tensor) -> Value | None:
        """What a tensor holds."""
        return self._known.get(id(tensor))

    def note(
        self,
        number: float,
        name: str,
        func: Callable[..., Any],
        args: Any,
        kwargs: Any,
        out: Tensor,
        uses: bool = True,
    ) -> None:
        """Learns of an operation, which may be none of the network's own that uses something."""
        given = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        for value in {self.of(tensor) for tensor in given} - {None}:
            value.uses += uses and name != "detach"  # type: ignore[union-attr]
        first = args[0] if isinstance(args[0], Tensor) else out
        before, made = self.of(first), None
        if name == "detach":
            made = before or Value(number - 0.5, first)
        elif name in FIRING:
            made = self._made(number, name, FIRING[name] or func, args[:1], {}, out)
        elif name in (*SCALING, *SHIFTING, *SQUASHING, *COMPARING, *COPYING):
            made = self._made(number, name, func, args, kwargs, out)
        if out is first and before is not None:  # in place
            before.written = True
            made = made or Value(number, out)
        if made is not None:
            self._keep(out, made)

    def copy(self, tensor: Tensor, other: Tensor) -> None:
        """Learns that another tensor holds the same."""
        if (value := self.of(tensor)) is not None:
            self._keep(other, value)

    def write(self, tensor: Tensor, other: Tensor) -> None:
        """Learns that a tensor was written over with what another holds."""
        if (before := self.of(tensor)) is not None:
            before.written = True
        self._known.pop(id(tensor), None)
        self.copy(other, tensor)

    def _keep(self, tensor: Tensor, value: Value) -> None:
        self._known[id(tensor)] = value
        self._alive.append(tensor)

    def _made(
        self,
        number: float,
        name: str,
        func: Callable[..., Any],
        args: Any,
        kwargs: Any,
        out: Tensor,
    ) -> Value | None:
        """The value of an operation; None if there is more to it than each element."""
        sources: dict[int, Value] = {}
        constants: dict[int, Tensor] = {}
        known_function = func
        for tensor in (*args, *kwargs.values()):
            if not isinstance(tensor, Tensor) or id(tensor) in sources:
                continue
            known = self.of(tensor)
            if tensor.shape == out.shape and (known is not None or tensor.requires_grad):
                if known is None:
                    known = Value(number - 0.5, tensor)
                    self._keep(tensor, known)
                sources[id(tensor)] = known
            elif name not in COPYING:  # which may copy the type of another tensor
                constant = tensor.detach().unique()
                if constant.numel() != 1 and name not in COMPARING:
                    return None
                known_function = func if constant.numel() == 1 else _unknown
                constants[id(tensor)] = constant[:1].squeeze()
        if not sources:
            return None

        def run(values: Mapping[Value, Tensor]) -> Any:
            def given(argument: Any) -> Any:
                if not isinstance(argument, Tensor):
                    return argument
                value = sources.get(id(argument))
                return constants[id(argument)].double() if value is None else values[value]

            if name in COPYING:
                return given(args[0]).double()
            named = {key: given(value) for key, value in kwargs.items()}
            return known_function(*map(given, args), **named)

        return Value(number, out, name, run, [*dict.fromkeys(sources.values())])


def _unknown(*arguments: Any, **named: Any) -> Tensor:
    raise NoOrigin


def origins(value: Value) -> Iterator[Origin]:
    """The values that alone decide on another, from the last to the first."""
    frontier, between = {value}, list[Value]()
    while True:
        latest = max(frontier, key=lambda known: known.number)
        if latest.run is None:
            return
        frontier.remove(latest)
        between.append(latest)
        frontier |= {*latest.sources}
        if len(frontier) == 1:
            yield Origin(next(iter(frontier)), tuple(between))


def depth_alone(fires: Value, others: Container[float]) -> int | None:
    """Number of the origin of spikes behind what serves them alone; None if nothing squashes.

    Args:
        fires: What a comparison gave.
        others: Places of comparisons whose spikes are their own, as those of earlier steps.
    """
    found, wanted = None, False
    for depth, origin in enumerate(origins(fires)):
        inner = Counter(source for value in origin.between for source in value.sources)
        if any(v.uses > inner[v] or v.number in others for v in origin.between[1:]):
            break
        last = origin.between[-1]
        wanted = wanted or (_squashed(origin) and (last.squashes or last.name in SCALING))
        if wanted and not origin.value.written:
            found, wanted = depth, False
    return found


def depth_of_soft(fires: Value, soft: Sequence[Tensor]) -> int | None:
    """Number of the origin of spikes that a soft function is a function of.

    Returns:
        None if nothing squashes it before it is compared.

    Raises:
        NoOrigin: If they have none in common, or it is not known any more.
    """
    above, found, squashed = _above(soft), None, False
    for depth, origin in enumerate(origins(fires)):
        squashed = _squashed(origin)
        last = origin.between[-1]
        if found is not None and not (last.name in SCALING and last.uses == 1):
            break
        if found is None and _key(origin.value.tensor) not in above:
            continue
        if found is None and not squashed:
            return None
        if origin.value.written and found is None:
            raise NoOrigin
        found = depth  # behind which `4 * z` is a part of `sigmoid(4 * z)`
    if found is None and squashed:
        raise NoOrigin
    return found


def find_root(fires: Value, depth: int, spikes: Tensor, chance: bool) -> Root | None:
    """What some spikes are a staircase of; None if they are none of that origin.

    Args:
        fires: What a comparison gave.
        depth: Number of the origin.
        spikes: What became of it.
        chance: Whether it fires by chance.
    """
    origin = nth_origin(fires, depth)

    def fire(value: Tensor) -> Tensor:
        values = {origin.value: value}
        for made in reversed(origin.between):
            assert made.run is not None
            values[made] = made.run(values)
        return values[fires].double()

    value = origin.value.tensor.detach()
    if not value.isfinite().all():
        return None
    try:
        with torch.no_grad():
            found = find_staircase(fire, [value], fire(value))
    except NoOrigin:
        return None
    if found is None:
        return None
    if len(found.edges) == 1:
        return Root(depth, found.edges[0])
    return Root(depth, 0.0, found) if not chance and found.agrees(value, spikes.detach()) else None


def nth_origin(fires: Value, depth: int) -> Origin:
    """One of the `origins`, by its number."""
    return next(origin for number, origin in enumerate(origins(fires)) if number == depth)


def _squashed(origin: Origin) -> bool:
    return any(value.squashes for value in origin.between[1:])


def _above(soft: Sequence[Tensor]) -> Collection[Any]:
    """What soft functions are functions of, and sums and multiples of them, but not themselves.

    Spikes that are added to one, as in `hard + soft - soft.detach()`, are none.
    """
    sums, functions = set[Any](), list[Node]()
    made = [getattr(value, "_before", value).grad_fn for value in soft]  # it may be spikes bent
    todo = [node for node in made if node is not None]
    while todo:
        node = todo.pop()
        if getattr(node, "_forward_cls", None) is Fired:
            continue
        if node.name().rstrip("0123456789").removesuffix("Backward") not in ADDITIVE:
            functions.append(node)
        elif node not in sums:
            sums.add(node)
            todo += parents(node)
    found = sums | {id(node.variable) for node in functions if hasattr(node, "variable")}
    level = [node for function in functions for node in parents(function)]
    while level and len(found) < MOST:
        found |= {id(node.variable) if hasattr(node, "variable") else node for node in level}
        level = [above for node in level for above in parents(node) if above not in found]
    return found


def _key(value: Tensor) -> Any:
    return id(value) if value.grad_fn is None else value.grad_fn
