"""Noise that follows from the image, as by a hash: images that are nearly equal show it."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.utils.share_texts import percent
from robust_snn.victim import Victim
from robust_snn.victim.scoring import scoring_logits

NAME = "hidden noise"
NEAR, FAR = 1e-5, 1e-2  # changes of every pixel
SHARE = 0.4  # of the change of logits far away, from which on that nearby is like noise
PLACES = 2  # around an image, at which a rounded pixel is between two levels


def hidden_noise(victim: Victim, images: Tensor, labels: Tensor, *, seed: int = 0) -> Diagnostic:
    """How far logits of nearly equal images are apart, in that of images farther apart.

    The smaller a change of every pixel is, the fewer spikes it moves: a thousandth moves the logits
    a thirtieth as far, unless the spikes of one layer multiply in the next. A hash of the image
    moves as much either way. It is noise of which the network shows one draw for every image. Noise
    that is drawn is the same for all of them here.

    Args:
        victim: The victim.
        images: A few dozen images `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        seed: Seed of noise and changes.
    """
    with attack_variant(victim, seed) as variant, torch.no_grad():
        x, _, ids = on_device(variant, images, labels, None)
        rng = ImageRng(seed, ids, x)
        changes = [torch.zeros(()), torch.zeros(())]
        for place in range(PLACES):
            start = x + FAR * rng.uniform("place", place)
            signs = rng.uniform("signs", place).sign()
            logits = scoring_logits(variant, start, ids, place, NAME)
            for far, size in enumerate((NEAR, FAR)):
                other = scoring_logits(variant, start + size * signs, ids, place, NAME)
                changes[far] = changes[far] + (other - logits).cpu().square().mean()
    near, far = (float(change) ** 0.5 for change in changes)
    share = near / far if far else 0.0
    why = f"a change of {NEAR:g} of every pixel moves the logits {percent(share)} as far as one of "
    why += f"{FAR:g}"
    if share <= SHARE:
        return Diagnostic(NAME, share, "pass", why)
    why += ": they follow the image as a hash does, or its spikes are chaotic, which is noise of "
    why += "which an image shows one draw. Averages over draws do not remove it, gradients do not "
    why += "follow it, and who asks for many images nearby gets many draws"
    return Diagnostic(NAME, share, "warn", why)
