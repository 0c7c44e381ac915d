"""What `robust-snn certify` computes of each image, and what it comes to over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.certificates.bounded_network import check_bounded
from robust_snn.certificates.bounds import certify
from robust_snn.certificates.certificate_folder import Row, no_more_than
from robust_snn.certificates.smoothing import ABSTAINS, checked_draws, parse_noise, smooth
from robust_snn.data import ImageSet
from robust_snn.data.image_digests import image_digests
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import checked_inputs

RADII = 5  # of which a certified accuracy is given, from 0 to the largest


class CertificateTask(Protocol):
    """One way to certify."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the certificates depend on besides the network and the images."""

    def rows(self, ids: Tensor) -> list[Row]:
        """The certificates of images, from their numbers."""

    def result(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What the rows of all images, as texts, come to."""


class BoundsTask:
    """Bounds of a deterministic network in a ball.

    Args:
        victim: The victim.
        images: The images.
        eps: Radius in Linf.
        nodes: Combinations of spike trains that are tried per image.

    Raises:
        InputError: If `eps` is not positive, `nodes` is no number of them, or the network has no
            bounds or takes other images.
    """

    def __init__(self, victim: Victim, images: ImageSet, eps: float, nodes: int) -> None:
        if not eps > 0:
            raise InputError(f"eps must be positive, got {eps:g}")
        eps = checked_radius(eps, "Linf")
        check_bounded(victim.net)
        checked_inputs(victim, images.images, images.labels)
        self.victim, self.images = victim, images
        self.settings: dict[str, Any] = {
            "method": "bounds",
            "norm": "Linf",
            "eps": eps,
            "nodes": whole(nodes, "nodes", 0),
        }

    def rows(self, ids: Tensor) -> list[Row]:
        x, y = self.images.images[ids], self.images.labels[ids]
        bounds = certify(self.victim.net, x, y, self.settings["eps"], nodes=self.settings["nodes"])
        status = [
            "certified" if sure else "broken" if broken else "open"
            for sure, broken in zip(bounds.certified, bounds.broken, strict=True)
        ]
        columns = y.tolist(), image_digests(x), status, bounds.method, bounds.lead.tolist()
        names = ("label", "digest", "status", "method", "lead")
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def result(self, rows: Sequence[Row]) -> dict[str, Any]:
        shares = {
            status: sum(row["status"] == status for row in rows) / len(rows)
            for status in ("certified", "broken", "open")
        }
        clean = sum(row["method"] == "clean" for row in rows) / len(rows)
        return {"clean": 1 - clean, **shares}


class SmoothingTask:
    """Radii of the network smoothed by noise; see `smooth`.

    Args:
        victim: The victim.
        images: The images.
        noise: Text form of the noise.
        draws: Draws that bound a class's probability.

    Raises:
        InputError: If the noise is not known or not the network's, the draws are too few, or the
            images do not suit it.
    """

    choose, alpha = 100, 0.001

    def __init__(self, victim: Victim, images: ImageSet, noise: str, draws: int) -> None:
        kind = parse_noise(noise)
        kind.check(victim)
        draws = checked_draws(draws, self.alpha)
        checked_inputs(victim, images.images, images.labels)
        self.victim, self.images = victim, images
        self.settings: dict[str, Any] = {
            "method": "smoothing",
            "norm": kind.norm,
            "noise": str(kind),
            "choose": self.choose,
            "draws": draws,
            "alpha": self.alpha,
        }

    def rows(self, ids: Tensor) -> list[Row]:
        found = smooth(
            self.victim,
            self.images.images[ids],
            noise=self.settings["noise"],
            choose=self.choose,
            draws=self.settings["draws"],
            alpha=self.alpha,
            ids=ids,
        )
        columns = self.images.labels[ids].tolist(), *(column.tolist() for column in found)
        names = ("label", "predicted", "probability", "radius")
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def result(self, rows: Sequence[Row]) -> dict[str, Any]:
        radius = torch.tensor([float(row["radius"]) for row in rows], dtype=torch.float64)
        predicted = [int(row["predicted"]) for row in rows]
        right = torch.tensor(
            [p == int(row["label"]) for p, row in zip(predicted, rows, strict=True)]
        )
        radii = torch.linspace(0, float(radius.max()), RADII, dtype=torch.float64).tolist()
        return {
            "abstained": predicted.count(ABSTAINS) / len(rows),
            "certified": {
                at: float((right & (radius >= float(at))).double().mean())
                for at in dict.fromkeys(no_more_than(at, 4) for at in radii)
            },
        }
