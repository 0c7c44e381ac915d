"""Whether gradient modes reach the neurons of a network, and what its gradient is where not."""

from __future__ import annotations

from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.mode_ranking import registered_modes
from robust_snn.attacks.mode_reach import tried_reach
from robust_snn.attacks.norm_ball import l2_norms, per_image
from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.diagnostics.input_gradients import input_gradient
from robust_snn.gradients import Own, Reach
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits

NAME = "reached neurons"
NAMED = 4  # neurons that a diagnostic names
SMALL_STEP = 1e-3  # change of a logit, in parts of the largest, that a derivative must foretell


def reached_neurons(victim: Victim, images: Tensor, labels: Tensor, *, seed: int = 0) -> Diagnostic:
    """Share of the neurons that the victim's gradient mode reaches.

    Where no mode reaches any, every gradient is the network's own. That is harmless only where it
    is the derivative of the logits, as in a network of rectified linear units.
    """
    mode = victim.gradient
    own = isinstance(mode, Own)
    reach = _of_any_mode(victim, images) if own else tried_reach(victim, images)
    found, missed = len(reach.neurons), [f"{name} ({why})" for name, why in reach.missed.items()]
    share = found / max(1, found + len(missed))
    more = [f"{len(missed) - NAMED} more"] if missed[NAMED:] else []
    shown = ", ".join(missed[:NAMED] + more)
    if missed and found:
        why = f"no gradient mode reaches {shown}; these keep their own gradient"
        return Diagnostic(NAME, share, "warn", why)
    if found:
        who = "gradient modes can replace it in" if own else f"{mode.brief} reaches"
        layers = "the one spiking layer" if found == 1 else f"all {found} spiking layers"
        return Diagnostic(NAME, share, "pass", f"{who} {layers}")
    none = "gradient modes reach no neuron of this network: every gradient is the network's own"
    if is_derivative(victim, images, labels, seed):
        return Diagnostic(NAME, share, "pass", f"{none}, which is the derivative of its logits")
    known = f"missed: {shown}" if missed else "robust_snn.adapt(net) says what it found"
    return Diagnostic(NAME, share, "fail", f"{none}, which may be masked; {known}")


def is_derivative(victim: Victim, images: Tensor, labels: Tensor, seed: int = 0) -> bool:
    """Whether the gradient foretells what a small step along it does, on most images.

    It does where no spike stands between image and logits; a surrogate gradient does not, because
    small steps move few spikes or none. False for a noisy victim.
    """
    if victim.stochastic:
        return False
    gradient = input_gradient(victim, images, labels, seed)
    with attack_variant(victim, seed) as variant:
        x, y, ids = on_device(variant, images, labels, None)
        size = l2_norms(gradient).to(x)
        if not bool((size > 0).all()):
            return False
        (logits,) = fresh_logits(variant, x, ids, 1, "derivative")
        foretold = SMALL_STEP * logits.abs().amax(1)
        step = gradient.to(x) * per_image(foretold / size**2, x)
        ends = (fresh_logits(variant, x + side * step, ids, 1, "derivative")[0] for side in (1, -1))
        rise = [margin(z, y) for z in ends]
    share = (rise[0] - rise[1]) / (2 * foretold)
    return bool(abs(float(share.median()) - 1) < 0.1)


def _of_any_mode(victim: Victim, images: Tensor) -> Reach:
    """What the first mode reaches that reaches something."""
    reaches = (tried_reach(victim.replace(gradient=mode), images) for mode in registered_modes())
    return next((reach for reach in reaches if reach.neurons), Reach())
