"""Input gradients: whether they vanish, what becomes of them in the layers, where they lead."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.norm_ball import l2_norms
from robust_snn.diagnostics.diagnostic import Diagnostic, grade
from robust_snn.gradients import Own
from robust_snn.gradients.modes import ASSG
from robust_snn.kernels import Dynamics
from robust_snn.kernels.spiking.surrogate_shapes import SHARES, derivative
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim
from robust_snn.victim_scoring import fresh_logits

VANISHED = 1e-12  # float32 loses such gradients on their way through further layers
SMALL_SLOPE = 1e-3
WEAK = 0.05  # cosine with the true gradient below which most of a step is wasted


def input_gradient(
    victim: Victim, images: Tensor, labels: Tensor, seed: int = 0, draws: int = 1
) -> Tensor:
    """Gradient of the margin, averaged over draws, `[B, ...]`.

    The margin does not saturate as the cross-entropy does, so what vanishes here vanishes inside
    the network.
    """
    with attack_variant(victim, seed) as variant:
        x, y, _ = on_device(variant, images, labels, None)
        return _gradient_at(variant, x, y, draws)


@torch.enable_grad()
def _gradient_at(variant: Victim, x: Tensor, labels: Tensor, draws: int) -> Tensor:
    """The same, `[B, ...]`, at images that may lie outside [0, 1]."""
    total, count = torch.zeros_like(x), draws if variant.stochastic else 1
    for _ in range(count):
        leaf = x.clone().requires_grad_()
        total += torch.autograd.grad(margin(variant(leaf), labels).sum(), leaf)[0]
    return total / count


def vanishing_gradients(
    victim: Victim, images: Tensor, labels: Tensor, *, seed: int = 0
) -> list[Diagnostic]:
    """Shares of images whose gradient is zero, or too small for float32 in further layers."""
    largest = input_gradient(victim, images, labels, seed).flatten(1).abs().amax(1)
    zero = float((~(largest != 0) | ~largest.isfinite()).double().mean())
    tiny = float((largest < VANISHED).double().mean())
    mode = victim.gradient.brief
    return [
        Diagnostic(
            "zero gradients",
            zero,
            grade(zero, 0.0, 0.1),
            f"{zero:.1%} of images have a gradient of exactly zero under {mode}",
        ),
        Diagnostic(
            "vanishing gradients",
            tiny,
            grade(tiny, 0.0, 0.1),
            f"{tiny:.1%} of images have no entry above {VANISHED:g} under {mode}",
        ),
    ]


def surrogate_slopes(
    victim: Victim, images: Tensor, labels: Tensor, *, seed: int = 0
) -> list[Diagnostic]:
    """Share of neurons that pass no gradient, and share of the surrogate that is lost, by layer.

    A neuron passes nothing where its surrogate is below 1e-3. ASSG's degree of vanishing is the
    share of the surrogate that lies nearer to the threshold than the membrane does.
    """
    mode = victim.gradient_in_force
    if isinstance(mode, Own):  # no surrogate that is known
        return []
    surrogate = getattr(mode.rule(Dynamics()), "surrogate", None)
    if surrogate is None:
        return []
    try:
        distances = _distances(victim, images, labels, seed)
    except InputError as error:  # membranes of another library that ASSG does not reach
        return [Diagnostic("silent neurons", 0.0, "warn", f"not measured: {error}")]
    silent, degree = {}, {}
    for layer, distance in distances.items():
        slope = derivative(distance, surrogate, surrogate.sharpness)
        silent[layer] = float((slope < SMALL_SLOPE).double().mean())
        if surrogate.family in SHARES:
            share = SHARES[surrogate.family].within(surrogate.sharpness * distance)
            degree[layer] = float(share.mean())
    measures = [
        ("silent neurons", silent, (0.9, 0.99), "of neurons have a surrogate below 1e-3"),
        ("vanishing degree", degree, (0.9, 0.97), "of the surrogate is lost on average"),
    ]
    notes = []
    for name, layers, (warn, fail), what in measures:
        if layers:
            worst = max(layers, key=layers.__getitem__)
            shown = ", ".join(f"{value:.0%}" for value in layers.values())
            why = f"in {worst}, {layers[worst]:.1%} {what} (all layers: {shown})"
            notes.append(Diagnostic(name, layers[worst], grade(layers[worst], warn, fail), why))
    return notes


def batch_independence(
    victim: Victim, images: Tensor, labels: Tensor, *, seed: int = 0, alone: int = 4
) -> Diagnostic:
    """Cosine of the gradients of images alone and in a batch.

    With `pdsg(scope=batch)`, the gradient of an image depends on the rest of its batch.
    """
    together = input_gradient(victim, images, labels, seed)[:alone]
    apart = input_gradient(victim, images[:alone], labels[:alone], seed)
    cosine = float(cosines(together, apart).mean())
    both_zero = not (together.any() or apart.any())
    why = f"gradients of {len(apart)} images alone and among {len(images)}: cosine {cosine:.4f}"
    status = "pass" if both_zero or cosine > 0.999 else "warn"
    return Diagnostic("batch independence", cosine, status, why)


def finite_differences(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    directions: int = 30,
    draws: int = 8,
) -> Diagnostic:
    """Cosine between the gradient's step and the gradient that differences of the loss show.

    The loss is smooth in expectation over the noise, and over the ball: it is measured from random
    places in it. Differences across half of the ball, under the same noise on both sides, are then
    an oracle that no surrogate enters. Random sign vectors measure the length of the true gradient;
    the product of two independent estimates keeps noise out of its square. They also show how far
    chance alone moves the loss: a gradient fails that is no better than they are, where these
    images suffice to tell.
    """
    length = eps / 2 if norm == "Linf" else eps / 2 / images[0].numel() ** 0.5
    places = 1 if victim.stochastic else draws
    with attack_variant(victim, seed) as variant:
        x, y, ids = on_device(variant, images, labels, None)
        rng = ImageRng(seed, ids, x)
        count = draws if variant.stochastic else 1

        def place(purpose: str, number: int) -> Tensor:
            return x + length * rng.uniform(purpose, number)

        def slope(start: Tensor, direction: Tensor, purpose: str) -> Tensor:
            """Change of the expected margin per unit of every pixel, `[B]`."""
            rise = torch.zeros(len(x), device=x.device)
            for side in (1, -1):
                shown = start + side * length * direction
                logits = fresh_logits(variant, shown, ids, count, purpose)
                rise += side * torch.stack([margin(z, y) for z in logits]).mean(0)
            return rise / (2 * length)

        along = []
        for number in range(places):
            start = place("place", number)
            gradient = _gradient_at(variant, start, y, draws)
            along.append(slope(start, gradient.sign(), f"along{number}"))
        by_chance = []
        for number in range(directions):
            signs = rng.uniform("direction", number).sign()
            pair = [slope(place(half, number), signs, f"{half}{number}") for half in ("a", "b")]
            by_chance.append(torch.stack(pair))
    rise, pairs = torch.stack(along).double(), torch.stack(by_chance, 1).double()
    return _judged(rise, pairs, x[0].numel())


def _judged(along: Tensor, by_chance: Tensor, pixels: int) -> Diagnostic:
    """What differences along the gradient and along random sign vectors say together.

    Args:
        along: Of every place and image, `[P, B]`.
        by_chance: Two of every direction and image, `[2, D, B]`.
        pixels: Numbers in an image.
    """
    name, rise = "finite differences", float(along.mean())
    chance = float(by_chance.square().mean()) ** 0.5
    error = chance / along.numel() ** 0.5
    if not chance:
        why = "no random step of half the radius moves the margin, so that nothing can be told"
        return Diagnostic(name, 0.0, "warn", why)
    product = by_chance.prod(0)
    square = max(float(product.mean()), chance**2 / product.numel() ** 0.5)
    scale = (square * pixels) ** 0.5  # of the rise along the true gradient's direction
    cosine, uncertain = rise / scale, 2 * error / scale
    why = f"along the gradient's sign the expected margin moves as if the cosine were {cosine:.2f}"
    if rise > 2 * error:
        return Diagnostic(name, cosine, "warn" if cosine < WEAK else "pass", why)
    if cosine + uncertain < WEAK or not along.any():
        return Diagnostic(name, cosine, "fail", f"{why}, no better than along random signs")
    why = f"{why}, give or take {uncertain:.2f}: {along.shape[1]} images are too few to tell"
    return Diagnostic(name, cosine, "warn", why)


def _distances(victim: Victim, images: Tensor, labels: Tensor, seed: int) -> dict[str, Tensor]:
    """Distance of every membrane from the threshold, `[T, B, ...]` by layer.

    ASSG's running mean is the distance itself when it forgets all that was before.
    """
    measuring = victim.replace(gradient=ASSG(beta=1e-9))
    with attack_variant(measuring, seed) as variant, torch.enable_grad():
        x, _, _ = on_device(variant, images, labels, None)
        variant(x.requires_grad_())
        layers = variant.statistics.layers
    return {layer: mean for layer, (mean, _) in layers.items()}


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every image's gradients, 0 where one is zero, `[B]`."""
    product = (a.double() * b.double()).flatten(1).sum(1)
    return product / (l2_norms(a) * l2_norms(b)).clamp(min=1e-300)
