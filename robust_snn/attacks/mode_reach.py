"""Which gradient modes a network takes, found before the first attack with one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from traceback import walk_tb
from typing import NamedTuple

import torch
from torch import Tensor

from robust_snn.attacks.base import attack_variant
from robust_snn.gradients import GradientMode, Own, Reach
from robust_snn.utils.errors import InputError, first_line, is_of_system
from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim

TRIED_ON = 2  # images
FORKED = "fork-based multiprocessing"  # in what PyTorch says of gradients in such a process


def tried_reach(victim: Victim, images: Tensor, *, backward: bool = True) -> Reach:
    """Which neurons the victim's gradient mode reaches, after one gradient of two images under it.

    Networks of other people know what they take once they have run. Whatever the network fails at
    in that run would fail in every attack, and is the refusal, unless it is the system's.

    Args:
        victim: The victim, with the mode.
        images: `[B, C, H, W]` in [0, 1].
        backward: Whether the gradient is needed; a search does without.

    Raises:
        InputError: If no network has gradients in this process.
    """
    try:
        with attack_variant(victim.replace(eot=1), 0) as variant, torch.enable_grad():
            x = images[:TRIED_ON].detach().to(device_of(victim, images)).float().clone()
            for _ in range(2 if variant.graph else 1):  # the second pass is captured
                logits = variant(x.requires_grad_(backward))
                if backward:
                    torch.autograd.grad(logits.sum(), x)
        reach = victim.takes(victim.gradient)
        return reach if backward else replace(reach, refusal=None)
    except Exception as error:  # whatever a network of other people does
        if is_of_system(error):
            raise
        if isinstance(error, InputError):
            return Reach(refusal=str(error))
        if is_program_error(error):
            raise
        if FORKED in str(error):  # no network has part in it
            raise InputError(
                "PyTorch gives no gradient in this process, which was forked from one with threads "
                "of its own: start processes by multiprocessing.get_context('spawn')"
            ) from error
        return Reach(refusal=f"no gradient under {victim.gradient.brief}: {first_line(error)}")


def is_program_error(error: Exception) -> bool:
    """Whether an error is a mistake in this package, which no network of other people is part of.

    PyTorch's own errors are RuntimeErrors, wherever the call that raised them stands.
    """
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    packages = [str(f.f_globals.get("__name__")).partition(".")[0] for f in frames]
    ours = __name__.partition(".")[0]
    alone = {ours, "torch"}.issuperset(packages) and packages[-1:] == [ours]
    return alone and not isinstance(error, RuntimeError)


class ModeChoice(NamedTuple):
    """Modes to attack a network with, and why others are left out, by their text form."""

    taken: tuple[GradientMode, ...]
    left_out: Mapping[str, str]


def choose_modes(victim: Victim, images: Tensor, modes: Iterable[GradientMode]) -> ModeChoice:
    """Leaves out the modes that the network refuses, and those that reach none of its neurons.

    All of the latter have the gradient of the network itself. That is tried once, as `own`, which
    is also a mode of its own on a network of other people.

    Args:
        victim: The victim; its own mode does not count.
        images: A few images, `[B, C, H, W]` in [0, 1].
        modes: The modes.
    """
    taken, left_out = list[GradientMode](), dict[str, str]()
    for mode in modes:
        reach = tried_reach(victim.replace(gradient=mode), images)
        if reach.refusal is not None:
            left_out[str(mode)] = reach.refusal
        elif not reach.neurons and not isinstance(mode, Own):
            left_out[str(mode)] = "it reaches no neuron of this network"
        else:
            taken.append(mode)
    if Own() not in taken and tried_reach(victim.replace(gradient=Own()), images).refusal is None:
        taken.append(Own())
    return ModeChoice(tuple(taken), left_out)
