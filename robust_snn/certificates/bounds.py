"""Certificates of deterministic networks: no image of a ball around an image is misclassified."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.certificates.bounded_network import TOLERANCE, BoundedNetwork
from robust_snn.certificates.exact import decide
from robust_snn.certificates.interval import box_around, least_lead
from robust_snn.certificates.linear_relaxation import relaxed_differences
from robust_snn.data.checks import check_labels, check_some_pixels
from robust_snn.utils.modules import device_of
from robust_snn.utils.values import whole

MANY = 64  # undecided neurons of the first layer, up to which branch and bound is tried


class Bounds(NamedTuple):
    """What is proven of each image within a radius in Linf.

    Attributes:
        certified: Whether every image of the ball has the label, bool `[N]`.
        broken: Whether an image of the ball was found that has another one, bool `[N]`; the image
            itself may be that.
        lead: Lower bound of how far the label's logit leads, `[N]`; positive where certified by it.
        method: What certified or broke each: `"clean"`, `"interval"`, `"linear"`, `"exact"`, or
            `""`.
    """

    certified: Tensor
    broken: Tensor
    lead: Tensor
    method: list[str]


@torch.no_grad()
def certify(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    nodes: int = 2000,
    batch_size: int = 16,
    tolerance: float = TOLERANCE,
) -> Bounds:
    """Proves of each image that no image within `eps` in Linf, and in [0, 1], is misclassified.

    Interval bounds come first; where they do not suffice, linear relaxation; where that does not
    either and few spikes of the first layer are undecided, branch and bound.

    Args:
        net: A deterministic network of this package.
        images: Static images `[N, C, H, W]` or event frames `[N, T, C, H, W]`, in [0, 1].
        labels: `[N]`.
        eps: Radius.
        nodes: Combinations of spike trains that branch and bound tries per image; 0 for none.
        batch_size: Images that are bounded together.
        tolerance: Rounding of membranes for which the proof holds; see `BoundedNetwork`.

    Raises:
        InputError: If `eps` is no radius, a count is out of range, the images or labels are none
            that the network could be asked about, or it draws random numbers or is not built of
            this package's layers.
    """
    eps = checked_radius(eps, "Linf")
    nodes, batch_size = whole(nodes, "nodes", 0), whole(batch_size, "batch_size", 1)
    network, device = BoundedNetwork(net, tolerance), device_of(net)
    check_some_pixels(images)
    images = images.to(device)
    check_labels(labels, len(images), network.original(images[:1].float()).shape[-1])
    labels = labels.to(device).long()
    found = [
        row
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True)
        for row in _certify_batch(network, x.double(), y, eps, nodes)
    ]
    certified, broken, lead, method = zip(*found, strict=True)
    return Bounds(torch.tensor(certified), torch.tensor(broken), torch.tensor(lead), list(method))


def _certify_batch(
    network: BoundedNetwork, x: Tensor, labels: Tensor, eps: float, nodes: int
) -> list[tuple[bool, bool, float, str]]:
    """Certified, broken, lead and method of each image."""
    box = box_around(x, eps)
    logits, layers = network.bounds(box)
    first = layers[0].spikes
    undecided = (first.lower != first.upper).any(0).flatten(1).sum(1)
    wrong = network.original(x.float()).argmax(1) != labels
    interval = least_lead(logits.differences(labels), labels)
    relaxed = relaxed_differences(network, box, labels, layers, logits.shape[1])
    linear = least_lead(relaxed, labels)
    rows = []
    for row in range(len(x)):
        leads = {"interval": float(interval[row]), "linear": float(linear[row])}
        lead = max(leads.values())
        if wrong[row]:
            rows.append((False, True, lead, "clean"))
            continue
        proof = next((name for name, value in leads.items() if value > network.tolerance), "")
        if proof or not nodes or x.dim() == 5 or undecided[row] > MANY:
            rows.append((bool(proof), False, lead, proof))
            continue
        status = decide(network, x[row], int(labels[row]), eps, nodes).status
        rows.append((status == "certified", status == "broken", lead, "exact" * (status != "open")))
    return rows
