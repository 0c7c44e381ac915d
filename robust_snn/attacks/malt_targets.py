"""Target classes in the order of MALT: the nearest boundary of the linearised network first."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.victim import Victim

DUAL = {"Linf": 1.0, "L2": 2.0, "L1": float("inf")}


@torch.enable_grad()
def malt_order(
    victim: Victim, images: Tensor, labels: Tensor, norm: str, ids: Tensor | None = None
) -> Tensor:
    """The classes other than the label, nearest first, `[K - 1, B]`.

    A class's logit gap is divided by the length of its gradient in the dual norm of the threat,
    which is the distance to the boundary where the network is linear (MALT, Melamed et al., NeurIPS
    2024). One that no gradient approaches comes last.

    Args:
        victim: The victim; one draw of its noise decides.
        images: `[B, ...]`.
        labels: `[B]`.
        norm: Norm of the threat.
        ids: Index of each image in the attacked set, `[B]`, as in a call of a `Victim`.
    """
    leaf = images.detach().clone().requires_grad_()
    logits = victim(leaf, ids, ("malt",))
    logits = logits if logits.ndim == 2 else logits.mean(0)  # those of every step
    gaps = logits - logits.gather(1, labels[:, None])
    classes = logits.shape[1]
    distances = torch.zeros_like(gaps)
    for target in range(classes):
        more = target + 1 < classes
        (slope,) = torch.autograd.grad(gaps[:, target].sum(), leaf, retain_graph=more)
        length = slope.flatten(1).double().norm(DUAL.get(norm, 2.0), dim=1)
        reached = (length > 0) & length.isfinite()
        ratio = gaps[:, target].detach() / length.clamp(min=1e-300)
        distances[:, target] = torch.where(reached, ratio, -torch.inf).float()
    # below -inf, the label sorts last
    ranked = distances.detach().nan_to_num(neginf=torch.finfo(torch.float32).min)
    ranked = ranked.scatter(1, labels[:, None], -torch.inf)
    return ranked.argsort(dim=1, descending=True, stable=True).T[:-1]
