"""Radii of threats: one number means different things in different norms.

8/255 is a usual radius in Linf, and in L2 so small that every network looks robust. So a radius
that was meant for another norm is refused, wherever one is given.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import number

NORMS = ("Linf", "L2", "L1", "L0")
USUAL = {
    "Linf": "8/255 in Linf",
    "L2": "0.5 or 1 in L2",
    "L1": "12 in L1",
    "L0": "200 entries in L0",
}
GREY_LEVELS = (1, 2, 4, 8, 16)  # in 255ths, as radii in Linf are published
TYPED = 0.02  # of a grey level: what is left out where 8/255 is typed as 0.0314


def checked_radius(eps: Any, norm: str, what: str = "eps") -> float:
    """A radius as a float.

    Args:
        eps: A number, also one of NumPy or PyTorch.
        norm: A key of `USUAL`.
        what: What messages call it.

    Raises:
        InputError: If it is no radius in this norm, or one that was meant for another.
    """
    if norm not in USUAL:
        raise unknown("norm", str(norm), USUAL)
    try:
        radius = number(math.nan if isinstance(eps, str) else eps, what)
    except InputError:
        radius = -1.0
    if radius < 0:
        raise InputError(f"{what} must be a number of at least 0, got {eps!r:.60}")
    if norm == "L0" and not radius.is_integer():
        raise InputError(f"{what} in L0 is a number of entries, such as 200; got {radius:g}")
    if norm == "Linf" and radius > 1:
        raise InputError(
            f"{what}={radius:g} in Linf leaves nothing of an image in [0, 1]; "
            f"did you mean {radius:g}/255 = {radius / 255:.4g}?"
        )
    if norm in ("L2", "L1") and (level := _grey_level(radius)):
        raise InputError(
            f"{what}={radius:.4g} is {level}/255, a radius in Linf, and in {norm} hardly a change; "
            f"usual is {USUAL[norm]}"
        )
    return radius


def check_reach(eps: float, norm: str, images: Tensor) -> None:
    """Refuses a radius that allows any image in the place of images `[B, ...]`.

    Raises:
        InputError: Naming it.
    """
    entries = images[:1].numel()
    most = {"L2": math.sqrt(entries), "L1": entries, "L0": entries}.get(norm, 1)
    if len(images) and eps > most:
        raise InputError(
            f"eps={eps:g} in {norm} allows any image in place of another: {entries} entries are at "
            f"most {most:.4g} apart; usual is {USUAL[norm]}"
        )


def own_radius(eps: Any, norm: str | None, eps_of_suite: float, norm_of_suite: str) -> Any:
    """The radius that is given, or that of a suite if it is one in the norm that is asked for.

    Raises:
        InputError: If another norm than the suite's comes without a radius, or is not known.
    """
    if eps is not None:
        return eps
    if norm is not None and norm not in NORMS:
        raise unknown("norm", str(norm), NORMS)
    if norm is not None and norm != norm_of_suite:
        raise InputError(
            f"norm {norm} needs an eps of its own, such as {USUAL[norm]}: {eps_of_suite:.4g} is a "
            f"radius in {norm_of_suite}"
        )
    return eps_of_suite


def _grey_level(radius: float) -> int | None:
    """The number of 255ths that a radius is, if it is one of those usual in Linf."""
    return next((level for level in GREY_LEVELS if abs(radius * 255 - level) < TYPED), None)
