"""What a suite's row needs to run: from a row and a batch to adversarial images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from robust_snn.data.lazy_images import Images
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.utils.text_form import call_text
from robust_snn.utils.version import __version__
from robust_snn.victim import Victim

OWN = "robust_snn"
GRADIENT_FREE = (
    "square",
    "onepixel",
    "pixle",
    "random-flips",
    "flip-search",
    "camera-patterns",
    "student",
    "spatial",
    # of ART and foolbox
    "boundaryattack",
    "hopskipjump",
    "hopskipjumpattack",
    "pixelattack",
    "pointwiseattack",
    "signoptattack",
    "simba",
    "squareattack",
    "thresholdattack",
    "zooattack",
)


class GivenVersions(Protocol):
    """Versions of the evaluated images that were made elsewhere."""

    def versions(self, ids: Tensor, clean: Tensor) -> Tensor:
        """The versions of images `clean`, `[B, C, H, W]`, at `ids`, `[B]`."""

    def check(self, clean: Images, threat: Threat, name: str) -> None:
        """Raises `InputError` unless they are versions of `clean` within the threat."""


class CraftInputs(NamedTuple):
    """A batch that a row of a suite attacks.

    Attributes:
        victim: What is attacked, with the gradient mode, noise policy and draws of the row.
        images: `[B, C, H, W]`, or event frames `[B, T, C, H, W]`.
        labels: `[B]`.
        row: The row.
        threat: What it may do.
        seed: Seed of the row. With it and `ids`, an image gets the same random numbers in every
            batch: this package's attacks use these two.
        ids: Index of each image in the evaluated set, int64 `[B]`.
        batch_seed: Seed of the row on this batch, for what draws from one generator for all of its
            images: attacks of libraries and of users, whose luck depends on the batch size.
    """

    victim: Victim
    images: Tensor
    labels: Tensor
    row: AttackSpec
    threat: Threat
    seed: int
    ids: Tensor
    batch_seed: int = 0


@dataclass(frozen=True)
class Crafted:
    """What an attack made of a batch.

    Attributes:
        candidates: Adversarial images `[B, C, H, W]`, one or more versions.
        claimed_robust: What the attack itself takes for robust, bool `[B]`.
        warnings: What the library complained about.
    """

    candidates: tuple[Tensor, ...]
    claimed_robust: Tensor
    warnings: tuple[str, ...] = ()


def given_settings(row: AttackSpec) -> dict[str, Any]:
    """The settings that a row gives its attack, by name."""
    settings = {"steps": row.steps, "restarts": row.restarts, **row.options}
    return {name: value for name, value in settings.items() if value is not None}


@dataclass(frozen=True)
class Implementation:
    """How to run the attacks of one library.

    Attributes:
        package: Name of the distribution, for the record; of a user's attack its file.
        check: Refuses a row that the library cannot run under a threat, with an `InputError`.
        craft: Attacks a batch.
        least_classes: Fewest classes that an attack can handle.
        least_images: Fewest images that an attack needs together.
        check_images: Refuses images that a row's attack cannot change, likewise.
        events: Whether its attacks take event frames `[B, T, C, H, W]` too.
        norms: Norms of the threats that it knows.
        blind: Whether an attack needs no gradient.
        judge: Who scores instead of the victim, for rows that corrupt at random.
        settings: The settings of a row's attack, for the record.
        release: Version of a package that is no distribution.
        given: Images that were made elsewhere, which stand for what `craft` makes.
        called: Name of the attack for the record, where the row's is a path.
        draws_together: Report draws that only mean something together, as those of all severities.
        steps: Steps that an attack takes, about; None where the row does not say and nobody knows.
    """

    package: str
    check: Callable[[AttackSpec, Threat], None]
    craft: Callable[[CraftInputs], Crafted]
    least_classes: Callable[[AttackSpec], int]
    least_images: Callable[[AttackSpec], int] = lambda row: 1
    check_images: Callable[[AttackSpec, Tensor, Threat], None] = lambda row, images, threat: None
    events: bool = False
    norms: tuple[str, ...] = ("Linf", "L2")
    blind: Callable[[AttackSpec], bool] = lambda row: row.attack.lower() in GRADIENT_FREE
    judge: Callable[[Victim, AttackSpec], Victim] | None = None
    settings: Callable[[AttackSpec], dict[str, Any]] = given_settings
    release: str | None = None
    given: GivenVersions | None = None
    called: str | None = None
    draws_together: Callable[[AttackSpec], int] = lambda row: 1
    steps: Callable[[AttackSpec], int | None] = lambda row: row.steps

    def describe(self, row: AttackSpec) -> str:
        """Library, version, attack and settings, such as `pyautoattack 0.2.0: fab(steps=20)`."""
        settings = self.settings(row)
        if row.noise != "fresh":
            settings["noise"] = row.noise
        own = self.package == OWN  # which runs from its folder too, uninstalled
        release = self.release or (__version__ if own else version(self.package))
        return f"{self.package} {release}: {call_text(self.called or row.attack, settings)}"
