"""Spikes that a network makes by a comparison, such as `(v > 1).float()`, with a gradient or none.

A gradient that skips the comparison has a form of its own in every code: `hard.detach() +
soft - soft.detach()`, `soft + (hard - soft).detach()`. What they share is a tensor with the values
of the comparison and another gradient, and such a tensor is taken for the spikes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from robust_snn.foreign.comparison import (
    KEEPING,
    SCALES,
    Comparison,
    Form,
    Place,
    Places,
    bent,
    fired,
    is_whole,
    parts_of,
    with_gradient,
)
from robust_snn.foreign.exchanged_spikes import Kind, rounded
from robust_snn.foreign.few_values import (
    has_few_values,
    has_hidden_values,
    is_dense,
    made_of_spikes,
)
from robust_snn.foreign.found_comparisons import FoundComparisons
from robust_snn.foreign.hidden_writes import (
    IN_PLACE,
    hidden_write,
    is_hidden,
    write_with_gradient,
)
from robust_snn.foreign.loose_ends import Elsewhere, LooseEnds, place_of
from robust_snn.foreign.masks import (
    CASTS,
    COUNTING,
    NEGATIONS,
    PRODUCTS,
    RESHAPING,
    SUMS,
    Jumped,
    Masks,
    is_gate,
)
from robust_snn.foreign.of_images import OfImages
from robust_snn.foreign.signed_terms import terms_of
from robust_snn.foreign.spike_recording import running_lines
from robust_snn.foreign.squashed_values import (
    SCALING,
    SHIFTING,
    SQUASHING,
    Values,
)
from robust_snn.foreign.straight_through import StraightThrough, Sums
from robust_snn.utils.operands import by_position

MARKS = (
    *("_attached", "_before", "_comparison", "_fired", "_hides", "_holds", "_loose", "_numbers"),
    *("_of_mask", "_parts", "_place", "_slope", "_soft", "_source", "_spiky", "_terms", "_through"),
    *("_unsure", "_varied"),
)
CARRYING = (*PRODUCTS, *RESHAPING, "neg")  # make of zeros with a gradient others, as `0.5 * zeros`
BETWEEN = 1 / 1024  # of one operation of the network and the next
DATA = Tensor.data.__get__  # type: ignore[attr-defined]


class Comparisons(TorchFunctionMode):
    """Finds the spikes that a network makes by comparisons, or exchanges those that were found.

    Args:
        places: What to exchange. None looks for it, and `seen.of_spikes()` has it afterwards.
        running: Path of the module that is running.
        told: What lines of sums and choices gave in an earlier pass.
    """

    def __init__(
        self,
        places: Places | None = None,
        running: Callable[[], str] = lambda: "",
        told: Sums | None = None,
    ) -> None:
        super().__init__()
        self._running = running
        self._loose = LooseEnds(self._mark, running) if places is None else None
        self.note_call = None if self._loose is None else self._loose.note_call
        self.seen = FoundComparisons()
        self.hooked = False  # whether the network changes gradients of tensors
        self._places = places
        known = () if places is None else places.values()
        self._wanted = {place.made: place.root for place in known}
        rooted = places is None or any(place.root is not None for place in known)
        self._values = Values() if rooted else None
        self._of_images = OfImages()
        self._count = 0.0  # of operations; casts that the network leaves out are between them
        self.straight_through = StraightThrough(self.seen, told, self._line, self._mark)
        self._masks = Masks(self._run, self._cast, self._weighed, self._chosen)
        self._marked: list[ReferenceType[Tensor]] = []
        self._last: Any = None  # what the last operation gave by itself

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        for reference in self._marked:  # a network may keep tensors of a pass, and be copied
            if (tensor := reference()) is not None:
                if self._loose is not None:
                    self._loose.keep(tensor)
                for mark in MARKS:
                    tensor.__dict__.pop(mark, None)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if torch._C._functorch.peek_interpreter_stack() is not None:  # as in torch.vmap
            return self._hidden(func, args, kwargs or {})
        given, options = by_position(args, kwargs or {})
        name = "detach" if func == DATA else getattr(func, "__name__", "").strip("_")
        self.hooked = self.hooked or func is Tensor.register_hook
        if func in IN_PLACE and is_hidden(given[0]) and not options:  # as `soft.data.round_()`
            made = self._run(Tensor.to, self._run(IN_PLACE[func], *given), given[0].dtype)
            return self._run(Tensor.copy_, given[0], made)
        if self._writes_spikes(func, name, given):
            return given[0] if name == "copy" else None
        numbers = self._masks.made_of(name, func, given)  # before it changes them

        def alone() -> Any:
            return self._alone(func, name, given, options, lambda: func(*args, **(kwargs or {})))

        out = self._masks.instead(name, func, given, alone)
        if out is NotImplemented:
            out = alone()
            if self._loose is not None and out is self._last:
                self._loose.note(name, given, options, out)
        elif isinstance(out, Tensor):
            self._of_images.follows(given, options, out)
            self._mark(out, "_of_mask", True)
            if self._loose is not None and not out.is_floating_point():
                self._loose.note(name, given, options, out)
        if numbers is not None:
            self._mark(out, "_numbers", numbers)
        return out

    def _writes_spikes(self, func: Callable[..., Any], name: str, args: Sequence[Any]) -> bool:
        """Writes spikes that have a gradient over a tensor, if that is what an operation does."""
        written = hidden_write(func, name, args)
        if written is None or not hasattr(written[1], "_comparison"):
            return False
        if not write_with_gradient(*written):
            return False
        self._count = math.floor(self._count) + 1.0
        if self._values is not None:
            self._values.write(*written)
        self._mark(written[0], "_comparison", written[1]._comparison)
        self._mark(written[0], "_spiky", True)
        return True

    def _hidden(self, func: Callable[..., Any], args: Any, options: Any) -> Any:
        """An operation on tensors that hide their values."""
        if self._loose is not None:
            self._loose.note_hidden(getattr(func, "__name__", "").strip("_"), args)
        return func(*args, **options)

    def _alone(
        self,
        func: Callable[..., Any],
        name: str,
        args: Any,
        options: Any,
        run: Callable[[], Any],
        number: float | None = None,
    ) -> Any:
        """An operation as it is, or with spikes in the place of what it gives."""
        out = self._last = run()
        if not self._of_images.follows(args, options, out) and number is None:
            return out
        self._count = math.floor(self._count) + 1.0 if number is None else number
        if not args or not is_dense(out) or out.is_complex():
            return out
        if self._values is not None:
            self._values.note(self._count, name, func, args, options, out, uses=number is None)
        comparison = self._compared(name, args, options, out)
        if comparison is None and (name in CASTS or name == "detach"):
            comparison = getattr(args[0], "_comparison", None)
            if hasattr(args[0], "_of_mask"):
                self._mark(out, "_of_mask", True)
        if name == "detach" and isinstance(args[0], Tensor):
            self._mark(out, "_attached", getattr(args[0], "_attached", args[0]))
        if name in (*SCALING, *SHIFTING) and not out.requires_grad and out is not args[0]:
            given = [*map(with_gradient, args)]
            if any(isinstance(value, Tensor) and value.requires_grad for value in given):
                with torch.enable_grad():  # as `v.detach() - 1`, which may be compared
                    self._mark(out, "_slope", func(*given, **options))
        by_number = name in SCALES and isinstance(args[-1], int | float)
        of_one = args[0] if by_number or name in NEGATIONS else bent(name, args)
        if of_one is not None and not is_whole(of_one):
            comparison = getattr(of_one, "_comparison", None) or comparison
        if comparison is not None:
            self._mark(out, "_comparison", comparison)
        looking = self._places is None
        spikes = self._look(name, args, options, out) if looking else self._exchange(out)
        if spikes is out:
            return out
        if self._values is not None:
            self._values.copy(out, spikes)
        return self._written(out, spikes) if out is args[0] and _is_statement(func) else spikes

    def _written(self, out: Tensor, spikes: Tensor) -> Tensor:
        """A tensor that an operation has changed, with the spikes and their marks in it."""
        with torch.enable_grad():
            out.copy_(spikes)
        for mark in MARKS:
            if hasattr(spikes, mark):
                self._mark(out, mark, getattr(spikes, mark))
        if hasattr(spikes, "_terms"):
            self._mark(out, "_terms", (out._version, spikes._terms[1]))
        return out

    def _mark(self, tensor: Tensor, mark: str, value: Any) -> None:
        setattr(tensor, mark, value)
        self._marked.append(ref(tensor))

    def _cast(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        run, between = partial(mask.to, dtype), self._count + BETWEEN
        return self._alone(Tensor.to, "to", (mask, dtype), {}, run, between)

    def _run(self, func: Callable[..., Any], *args: Any) -> Any:
        return self.__torch_function__(func, (), args)

    def _weighed(self, mask: Tensor, dtype: torch.dtype, jump: Any) -> Tensor:
        """A mask as numbers, with a gradient unless what it changes has no jump."""
        known = {*self.seen.found}
        spikes = self._masks.numbers(mask, dtype)
        if self._places is None:
            added = {*self.seen.found} - known
            made = [self.seen.made[self.seen.found[place].made].membrane for place in added]
            if is_gate(jump, [membrane for membrane in made if membrane is not None]):
                self.seen.gates |= added
                return spikes.detach()
        return spikes

    def _chosen(self, out: Tensor, mask: Tensor, jump: Any) -> Tensor:
        """What a mask has chosen, with a gradient of the mask if that is one of spikes."""
        spikes = self._weighed(mask, out.dtype, jump)
        chosen: Tensor = Jumped.apply(out, spikes, jump) if spikes.requires_grad else out
        if self._values is not None:
            self._values.copy(out, chosen)
        return chosen

    def _exchange(self, out: Tensor) -> Tensor:
        """What an operation gives with another gradient, if it was found to make spikes."""
        assert self._places is not None
        place = self._places.get(self._count)
        if place is None:
            return out
        if place.form is Form.ROUNDED:
            return rounded(out)
        made = self.seen.made.get(place.made)
        return out if made is None else fired(out, made, place.side)

    def _compared(self, name: str, args: Any, options: Any, out: Tensor) -> Comparison | None:
        """What an operation compares, if it does; what it overwrites is not known any more."""
        found = parts_of(name, args, options, out)
        overwrites = args[0] is out or (options.get("out") is out and out.is_floating_point())
        if found is None or overwrites:
            return None
        above, threshold, kind = found
        above = with_gradient(above)
        if not isinstance(above, Tensor) or not above.requires_grad or above.shape != out.shape:
            return None
        fires = None if self._values is None else self._values.of(out)
        made = Comparison(self._count, above, threshold, kind, fires)
        if self._places is None or self._count in self._wanted:
            made.look_at(self._wanted.get(self._count))
            self.seen.made[self._count] = made
        if self._places is None:
            made.look_for_few_values()
            self.straight_through.compared.append(made)
            self.seen.lines[self._count] = self._running(), place_of(name)
            self.seen.compared_in[self._count] = self._line()
        if kind is not Kind.ROUNDING:
            return made
        known = has_few_values(out) if self._places is None else self._count in self._wanted
        return made if known else None  # other numbers are rounded too

    def _look(self, name: str, args: Any, options: Any, out: Tensor) -> Tensor:
        """Notes an operation whose output has the values of a comparison.

        Spikes are exchanged at once: what they reach would have no gradient otherwise.
        """
        exchanged, comparison = out, getattr(out, "_comparison", None)
        here = comparison is not None and comparison.number == self._count
        here = here or bent(name, args) is not None or is_whole(args[0])
        if comparison is not None and out.is_floating_point() and here:
            if comparison.spikes is None:
                comparison.spikes = out.detach().clone()
                self.straight_through.hard.append(comparison)
            self.seen.found[self._count] = Place(Form.COMPARED, comparison.number)
            if comparison.falls(out):
                self.seen.falling.add(self._count)
            exchanged = fired(out, comparison)
            self._mark(exchanged, "_place", self._count)
            self._mark(exchanged, "_before", out)
            self.seen.spots[self._count] = exchanged.grad_fn, self._line()
        if name == "where" and out.requires_grad:
            return self.straight_through.look(self._count, name, args, out, exchanged, None)
        added = self._added(name, args, options, out)
        stacked = () if name in SUMS else added
        terms = terms_of("add", stacked, {}, out) if stacked else terms_of(name, args, options, out)
        if terms is not None:
            self._mark(out, "_terms", (out._version, terms))
        leaves = tree_leaves(args)
        self.seen.uses.update(a._place for a in leaves if hasattr(a, "_place"))
        if name in PRODUCTS and len(args) == 2:
            for one, other in (args[:2], args[1::-1]):
                used = getattr(one, "_comparison", None)
                if used is None or used.membrane is None or not used.kept_by(one):
                    continue
                if is_gate(other, [used.membrane]):
                    self.seen.gated[getattr(one, "_place", 0)] += 1
        if out.requires_grad:
            parts = [a for a in leaves if isinstance(a, Tensor) and a.requires_grad]
            kept = name in (*KEEPING, *SQUASHING, *COUNTING) and all(map(made_of_spikes, parts))
            self._mark(out, "_spiky", kept and has_few_values(out))
            carried = next((a for a in parts if hasattr(a, "_soft")), None)
            if carried is not None and name in CARRYING:
                self._mark(out, "_soft", getattr(carried, "_soft", None))
                self._mark(out, "_unsure", getattr(carried, "_unsure", None))
        if added and out.requires_grad:
            if has_hidden_values(added, out):
                self._mark(out, "_hides", True)
            return self.straight_through.look(self._count, name, added, out, exchanged, terms)
        return exchanged

    def _added(self, name: str, args: Any, options: Any, out: Tensor) -> Sequence[Any]:
        """What an operation adds up, of a stack too; nothing if it is no sum."""
        dim = args[1] if len(args) > 1 else options.get("dim", 0)
        if name == "stack":
            self._mark(out, "_parts", (dim, args[0]))
        if name == "sum" and hasattr(args[0], "_parts"):
            stacked, parts = args[0]._parts
            return parts if dim == stacked and parts[0].shape == out.shape else ()
        return args if name in SUMS else ()

    def _line(self) -> tuple[Any, ...]:
        """The line that is running, which the steps of a neuron share."""
        return self._running(), *running_lines()

    def loose_ends(
        self, spikes: Mapping[Node, Any], outputs: Sequence[Tensor]
    ) -> list[tuple[str, str, str]]:
        """Paths and places of jumps that nothing reaches, and why; see `FoundComparisons`."""
        assert self._loose is not None
        onward = self.seen.onward(spikes, outputs)
        found = [*self._loose.that_matter(onward, outputs), *self.seen.unreached(onward)]
        return [*dict.fromkeys(found)]

    def elsewhere(self) -> Elsewhere | None:
        """A look at what leaves PyTorch; None where nothing does that depends on the image."""
        assert self._loose is not None
        return Elsewhere(self._loose.singly) if self._loose.leaves else None


def _is_statement(func: Callable[..., Any]) -> bool:
    """Whether an operation changes its operand and what it gives is not used, as `out.add_(x)`."""
    name = getattr(func, "__name__", "")
    return name.endswith("_") and not name.endswith("__")
