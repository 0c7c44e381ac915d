"""What certificates say of the images of a run: the lower end of the bracket."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from robust_snn.certificates.certificate_folder import read_certificates
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution.job import Job
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.verdict import Certified
from robust_snn.foreign.identity import identity
from robust_snn.utils.atomic_files import differences
from robust_snn.utils.errors import InputError

NAMED = 5  # images that a message names


class CertificateContradicted(RuntimeError):
    """An attack misclassified an image whose certificate says that none can."""


class CertifiedImages(NamedTuple):
    """What is proven of the images of a run.

    Attributes:
        certified: Whether no attack can break an image, bool `[N]`.
        broken: Whether the proof found an image in the ball of the run that is misclassified, bool
            `[N]`.
        known: Whether there is a certificate of the image at all, bool `[N]`.
        eps: Radius of the certificates, at least that of the run.
    """

    certified: np.ndarray
    broken: np.ndarray
    known: np.ndarray
    eps: float

    def bracket(self, right: np.ndarray) -> Certified:
        """The certified accuracy beside what attacks left, bool `[N]`.

        Raises:
            CertificateContradicted: If a certified image is misclassified.
        """
        if (against := np.flatnonzero(self.certified & ~right)).size:
            which = ", ".join(map(str, against[:NAMED]))
            raise CertificateContradicted(
                f"{len(against)} certified images are misclassified after an attack (images "
                f"{which}): either the proof or the attack is wrong, so neither number can be "
                "trusted; please report this with the run's folder"
            )
        estimate = intervals.accuracy_estimate(self.certified[:, None])
        decided = self.certified | ~right | self.broken
        return Certified(
            *estimate,
            decided=float(decided.mean()),
            images=int(self.known.sum()),
            eps=self.eps,
        )

    def missed(self, right: np.ndarray) -> list[Diagnostic]:
        """What the proofs broke and no attack did, of what attacks left, bool `[N]`."""
        count = int((self.broken & right).sum())
        why = f"proofs found misclassified images near {count} that no attack broke"
        status = "warn" if count else "pass"
        return [Diagnostic("attacks against proofs", count / len(right), status, why)]


def certified_images(job: Job, folder: str | Path) -> CertifiedImages:
    """The certificates of a folder that are of a run's images, whatever their order.

    Raises:
        InputError: If the folder holds none, or those of another network or a smaller threat.
    """
    settings, rows = read_certificates(Path(folder))
    if settings["method"] != "bounds":
        raise InputError(
            f"'{folder}' certifies the network smoothed by {settings['noise']}, which is another "
            "classifier than the one attacked here; bounds (certify --eps) bracket this one"
        )
    threat = job.threat
    if settings["norm"] != threat.norm or settings["eps"] < threat.eps:
        raise InputError(
            f"'{folder}' certifies eps = {settings['eps']:.6g} in {settings['norm']}, the attacks "
            f"have {threat.eps:.6g} in {threat.norm}; certify again with --eps {threat.eps:.6g}"
        )
    ours = identity(job.victim, job.images)
    changed = [
        text
        for part in ("network", "weights")
        for text in differences(settings["model"].get(part), ours[part], part)
    ]
    if changed:
        raise InputError(f"'{folder}' certifies another network ({'; '.join(changed[:NAMED])})")
    status = {(row["digest"], row["label"]): row["status"] for row in rows}
    assert job.digests is not None
    digests, labels = job.digests.images, job.labels.tolist()
    found = [status.get((d, str(y)), "") for d, y in zip(digests, labels, strict=True)]
    if not any(found):
        raise InputError(f"'{folder}' has no certificate of any of these {len(found)} images")
    states, eps = np.array(found), float(settings["eps"])
    broken = (states == "broken") & (eps == threat.eps)  # a larger ball says nothing of this one
    return CertifiedImages(states == "certified", broken, states != "", eps)
