"""Input gradients: whether they vanish, and what becomes of them in the layers."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.norm_ball import l2_norms
from robust_snn.attacks.problem import margin_gradient
from robust_snn.diagnostics.diagnostic import Diagnostic, grade
from robust_snn.gradients import Own
from robust_snn.gradients.modes import ASSG
from robust_snn.kernels import Dynamics
from robust_snn.kernels.spiking.surrogate_shapes import SHARES, derivative
from robust_snn.utils.errors import InputError
from robust_snn.utils.share_texts import percent
from robust_snn.victim import Victim

VANISHED = 1e-12  # float32 loses such gradients on their way through further layers
SMALL_SLOPE = 1e-3


def input_gradient(
    victim: Victim, images: Tensor, labels: Tensor, seed: int = 0, draws: int = 1
) -> Tensor:
    """Gradient of the margin, averaged over draws, `[B, ...]`.

    The margin does not saturate as the cross-entropy does, so what vanishes here vanishes inside
    the network.
    """
    with attack_variant(victim, seed) as variant:
        x, y, _ = on_device(variant, images, labels, None)
        return margin_gradient(variant, x, y, draws)


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
            f"{percent(zero)} of images have a gradient of exactly zero under {mode}",
        ),
        Diagnostic(
            "vanishing gradients",
            tiny,
            grade(tiny, 0.0, 0.1),
            f"{percent(tiny)} of images have no entry above {VANISHED:g} under {mode}",
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
            why = f"in {worst}, {percent(layers[worst])} {what} (all layers: {shown})"
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
