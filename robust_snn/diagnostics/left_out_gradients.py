"""What the gradients that attacks followed leave out, on images that every attack left.

A gradient that moves the margin well may be wrong in a part of the image: it passes one branch of
several, some pixels are cut at a limit, or it leads to the nearest of many summits. Attacks along
it are weak, and nothing that is measured along it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.apgd import APGD
from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.mode_ranking import FEW_DRAWS, SCORE_DRAWS
from robust_snn.attacks.problem import margin_gradient
from robust_snn.diagnostics.diagnostic import Diagnostic, grade
from robust_snn.diagnostics.input_gradients import cosines, input_gradient
from robust_snn.foreign.bridges import Bridge, Bridged, named
from robust_snn.foreign.foreign_net import ForeignSNN
from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import first_line, is_out_of_memory
from robust_snn.utils.share_texts import percent
from robust_snn.victim import Victim
from robust_snn.victim.scoring import correct, fresh_logits

NAME = "gradients left out"
ACROSS = (Bridge(operations=True), Bridge(operations=True, detached=True))
SAME = 0.98  # cosine of two gradients that lead to the same place
SHORT = APGD(steps=20, loss="margin", eot_loss=FEW_DRAWS)
BROKEN, MANY = 0.2, 0.25  # share of right answers to a broken image; of images, a failure
UNSTEADY = 0.12  # cosine of the gradients of two places below which steps follow the last place
PLACES = 2  # in the ball around an image
DIRECTIONS = 12  # of random signs
FELT, DECISIVE = 0.1, 0.5  # shares of what random signs move, of pixels without a gradient


def left_out(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    modes: Sequence[str],
    *,
    eps: float,
    norm: str,
    seed: int,
) -> list[Diagnostic]:
    """Pixels without a gradient, gradients that change from place to place, and bridges not taken.

    Args:
        victim: The victim as attacks saw it.
        images: Images that every attack left, `[B, C, H, W]`.
        labels: `[B]`.
        modes: Gradient modes that attacks followed.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
    """
    length = eps / 2 if norm == "Linf" else eps / 2 / images[0].numel() ** 0.5
    with attack_variant(victim, seed) as variant:
        x, y, ids = on_device(variant, images, labels, None)
        rng = ImageRng(seed, ids, x)
        places = [x + 2 * length * rng.uniform("place", number) for number in range(PLACES)]
        seen = {mode: variant.replace(gradient=mode, cost=victim.cost) for mode in modes}
        slopes = [_slopes_of_logits(each, place) for each in seen.values() for place in places]
        unfelt = torch.stack([slope == 0 for slope in slopes]).all(0)
        notes = _pixels(variant, (x, y, ids), rng, length, unfelt)
        if not variant.stochastic:  # a draw turns gradients as a place does
            pairs = {m: [margin_gradient(v, at, y) for at in places] for m, v in seen.items()}
            notes += _steady(pairs)
    threat = {"eps": eps, "norm": norm, "seed": seed}
    return notes + _across_bridges(victim, images, labels, modes, threat)


@torch.enable_grad()
def _slopes_of_logits(variant: Victim, x: Tensor) -> Tensor:
    """The gradient of a sum of logits of odd weights, which is zero where that of each of them is.

    The margin is one of two logits, and has no gradient where a third would overtake these.
    """
    leaf = x.clone().requires_grad_()
    logits = variant(leaf)
    weights = torch.linspace(1, 2, logits.shape[1], device=x.device).sqrt()
    return torch.autograd.grad((logits * weights).sum(), leaf)[0]


def _pixels(
    variant: Victim, of: tuple[Tensor, Tensor, Tensor], rng: ImageRng, length: float, unfelt: Tensor
) -> list[Diagnostic]:
    """What random signs on pixels that no gradient knows move, in what they move on all pixels."""
    x, y, ids = of
    share = float(unfelt.double().mean())
    if not share or share == 1:  # a gradient that is zero is said elsewhere
        return []

    def moved(direction: Tensor, number: int) -> Tensor:
        step = length * direction
        both, purpose = torch.cat([x + step, x - step]), f"pixels{number}"
        (logits,) = fresh_logits(variant, both, ids.repeat(2), 1, purpose)
        up, down = margin(logits, y.repeat(2)).chunk(2)
        return (up - down).double().square().mean()

    signs = [rng.uniform("direction", number).sign() for number in range(DIRECTIONS)]
    whole = sum(float(moved(sign, number)) for number, sign in enumerate(signs))
    part = sum(float(moved(sign * unfelt, number)) for number, sign in enumerate(signs))
    decides = part / whole if whole else 0.0
    why = f"{percent(share)} of the pixels have a gradient of exactly zero, and random changes of "
    why += f"these move the margin {percent(decides**0.5)} as far as those of all pixels"
    status = grade(decides, FELT, DECISIVE)
    return [Diagnostic("pixels without a gradient", decides, status, why)]


def _steady(gradients: dict[str, list[Tensor]]) -> list[Diagnostic]:
    """The cosine of the gradients of two places, in the mode where it is the largest."""
    steady = {mode: float(cosines(*pair).mean()) for mode, pair in gradients.items()}
    best = max(steady, key=steady.__getitem__)
    why = "gradients of two places in the ball around an image have a cosine of "
    why += f"{steady[best]:.2f} under {parse_mode(best).brief}"
    if steady[best] >= UNSTEADY:
        return [Diagnostic("steady gradients", steady[best], "pass", why)]
    why += ": each leads to a summit nearby, of which there are many, and others may be higher"
    return [Diagnostic("steady gradients", steady[best], "warn", why)]


def _across_bridges(
    victim: Victim, images: Tensor, labels: Tensor, modes: Sequence[str], threat: dict[str, Any]
) -> list[Diagnostic]:
    """What a short attack breaks whose gradients cross what those of the attacks did not."""
    seed, refused = threat["seed"], dict[str, str]()
    seen = victim.replace(gradient=modes[0], cost=victim.cost)
    for bridge in ACROSS if not _is_bridged(victim) else ():
        if not leads_elsewhere(bridge, seen, images, labels, seed, refused):
            continue
        crossing = named(bridge, seen, images)
        broken = _broken(crossing.across(seen), victim, images, labels, threat)
        if broken.any():  # more steps alone may do that, too
            broken &= ~_broken(seen, victim, images, labels, threat)
        if broken.any():
            share = float(broken.double().mean())
            why = f"a short attack breaks {int(broken.sum())} of {len(images)} images that every "
            why += f"attack left, if {crossing}"
            return [Diagnostic(NAME, share, grade(share, 0.0, MANY), why)]
    return []


def _broken(
    seen: Victim, victim: Victim, images: Tensor, labels: Tensor, threat: dict[str, Any]
) -> Tensor:
    """Which images a short attack on a variant breaks, bool `[B]`."""
    made = SHORT.within(seen, images, labels, **threat).images
    right = correct(victim, made, labels, draws=SCORE_DRAWS, batch_size=len(images))
    return right.double().mean(1) < BROKEN


def leads_elsewhere(
    bridge: Bridge,
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    seed: int,
    left_out: dict[str, str],
) -> bool:
    """Whether the gradient across a bridge is another than the victim's own.

    Args:
        bridge: The bridge.
        victim: The victim.
        images: A few images, `[B, C, H, W]`.
        labels: `[B]`.
        seed: Seed of all noise.
        left_out: Takes why a bridge cannot be crossed, by what it does.
    """
    try:
        if not named(bridge, victim, images).crossed:
            return False
        across = bridge.across(victim)
        input_gradient(across, images, labels, seed)  # twice: a first pass draws other noise
        pair = [input_gradient(seen, images, labels, seed) for seen in (victim, across)]
    except Exception as error:  # whatever a network of other people does
        if is_out_of_memory(error):
            raise
        left_out[str(bridge)] = first_line(error)
        return False
    return float(cosines(*pair).mean()) < SAME and bool(pair[1].any())


def _is_bridged(victim: Victim) -> bool:
    net = victim.net.net if isinstance(victim.net, ForeignSNN) else victim.net
    return isinstance(net, Bridged)
