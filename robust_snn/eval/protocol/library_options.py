"""Options that a row of a suite gives an attack of a library, by the types of its signature."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.utils.errors import InputError, first_line

FROM_THREAT = ("eps", "norm")
_STEPS = ("steps", "max_iter", "max_iterations", "n_queries", "repeats")  # by what they call them
_ROUNDS = ("Carlini", "L2Carlini", "EAD", "ElasticNet", "Zoo")  # take all steps in each round
_STEP = re.compile(r"alpha|lr|learning_rate|.*step_?size|eps_step")  # of which 0 or less is no step


def library_steps(row: AttackSpec, kind: Callable[..., Any]) -> int | None:
    """Steps that an attack of a library takes, its own number where the row gives none.

    Args:
        row: The row.
        kind: The class of the attack.
    """
    own = {name: parameter.default for name, parameter in signature(kind).parameters.items()}
    known = own | row.options
    steps = row.steps or next((known[n] for n in _STEPS if isinstance(known.get(n), int)), None)
    rounds = known.get("binary_search_steps", 1) if row.attack.startswith(_ROUNDS) else 1
    return steps and steps * rounds


def check_budget_options(row: AttackSpec) -> None:
    """Refuses options that would give an attack another budget than the threat's.

    Raises:
        InputError: Naming the option.
    """
    for name in FROM_THREAT:
        if name in row.options:
            raise InputError(f"'{row.name}' gets {name} from the threat model, not its options")


def check_numbers(row: AttackSpec, accepted: Collection[str]) -> None:
    """Refuses steps and restarts, of the row or of the command line, that an attack has not.

    Raises:
        InputError: Naming the row and the setting.
    """
    for name in ("steps", "restarts"):
        if getattr(row, name) is not None and name not in accepted:
            raise InputError(f"'{row.name}': {row.attack} has no {name}")


def check_options(row: AttackSpec, accepted: Mapping[str, Parameter]) -> None:
    """Refuses options of another type than their defaults, steps that lead nowhere or downhill, and
    counts of nothing.

    Args:
        row: The row.
        accepted: Parameters of the attack, all options of the row among them.

    Raises:
        InputError: Naming the option.
    """
    for name, value in row.options.items():
        if (expected := _expected(name, value, accepted[name].default)) is not None:
            raise InputError(
                f"{name} of {row.attack} in '{row.name}' must be {expected}, got {value!r:.60}"
            )


def _expected(name: str, value: Any, default: Any) -> str | None:
    """What an option has to be, where it is not."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float) and not is_number:
        return "a number"
    if isinstance(default, str) and not isinstance(value, str):
        return "text"
    counts = type(default) is int and default > 0
    if is_number and (counts or _STEP.fullmatch(name)) and not value > 0:
        return "a positive number"
    return None


@contextmanager
def naming_options(library: str, row: AttackSpec) -> Iterator[None]:
    """An error inside says with which options of the row the library fails, if it has any."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError, AssertionError) as error:
        if not row.options:
            raise
        given = ", ".join(f"{name}={value!r:.60}" for name, value in row.options.items())
        raise InputError(
            f"'{row.name}': {row.attack} of {library} fails with {given}: {first_line(error)}"
        ) from error
