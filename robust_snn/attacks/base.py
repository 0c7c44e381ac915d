"""What every attack is: a frozen dataclass of its options, called on a victim and images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from robust_snn.attacks.problem import AttackInputs
from robust_snn.attacks.threat_radius import NORMS, checked_radius
from robust_snn.kernels import derive_seed
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import device_of, evaluating
from robust_snn.utils.plain_context import plain_context
from robust_snn.utils.text_form import call_text
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import check_victim, checked_inputs


@dataclass(frozen=True)
class Adversarial:
    """What an attack made and what it claims.

    Attributes:
        images: The hardest of the images it evaluated, within the threat model, `[B, C, H, W]`.
        success: The images that most of the attack's own selection draws misclassify, bool `[B]`.
            It is no measurement: score the images on fresh noise, as `robust_snn.evaluate` does.
    """

    images: Tensor
    success: Tensor


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """Base of all attacks; a subclass adds its options as fields and says how to `craft`.

    Its text form names it and its settings, such as `pgd(steps=20,random_start=true)`.

    Attributes:
        name: Its name in suites.
        norms: The norms of the threats that it knows; the first is the default.
        least_images: Fewest images that it attacks at once.
    """

    name: ClassVar[str]
    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")
    least_images: ClassVar[int] = 1

    @checked_types
    def __call__(
        self,
        victim: Victim,
        images: Tensor,
        labels: Tensor,
        *,
        eps: float,
        norm: str | None = None,
        seed: int = 0,
        ids: Tensor | None = None,
    ) -> Adversarial:
        """Attacks images; the victim and the global generators stay as they were.

        Args:
            victim: What to attack.
            images: `[B, C, H, W]` in [0, 1], or event frames `[B, T, C, H, W]`.
            labels: `[B]`.
            eps: Radius of the threat.
            norm: Its norm, one of `norms`; the first of them if left out.
            seed: Seed of all noise and random numbers.
            ids: Index of each image in the attacked set, `[B]`; positions in the batch if left out.
                Random numbers depend on it, so without noise a split into batches changes nothing.

        Raises:
            InputError: If the attack cannot run on these images or under this threat.
        """
        norm = self.norms[0] if norm is None else norm
        self.check_norm(norm)
        return self.within(
            victim, images, labels, checked_radius(eps, norm), norm, whole(seed, "seed"), ids
        )

    def within(
        self,
        victim: Victim,
        images: Tensor,
        labels: Tensor,
        eps: float,
        norm: str,
        seed: int = 0,
        ids: Tensor | None = None,
    ) -> Adversarial:
        """The same for a radius that was computed, and may be one that nobody would ask for."""
        with attack_variant(victim, seed) as variant:
            x, y, ids = on_device(variant, images, labels, ids)
            self.check_inputs(images, eps, norm)
            if 0 < len(images) < self.least_images:
                raise InputError(
                    f"{self.name} needs {self.least_images} images at once, got {len(images)}: "
                    "what is put on one is made on others"
                )
            made, success = self.craft(AttackInputs(variant, x, y, ids, eps, norm, seed))
        return Adversarial(made.to(images.device), success.to(images.device))

    @abstractmethod
    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        """The adversarial images `[B, ...]`, and whether they are misclassified, bool `[B]`."""

    def check_norm(self, norm: str) -> None:
        """Refuses the norm of a threat that the attack does not know.

        Raises:
            InputError: Naming both.
        """
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
        if norm not in self.norms:
            plural = "s" if len(self.norms) > 1 else ""
            known = " and ".join(self.norms)
            raise InputError(f"{self.name} knows the norm{plural} {known}, got {norm}")

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        """Refuses images and threats that the attack cannot handle, before anything runs.

        Raises:
            InputError: Saying what is wrong.
        """
        self.check_norm(norm)

    @property
    def least_classes(self) -> int:
        """Fewest classes with which the attack can run."""
        return 2

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Names of the options, as suites write them."""
        return tuple(f.name for f in fields(cls))

    def settings(self) -> dict[str, Any]:
        """The options that have a value, by name."""
        values = {name: getattr(self, name) for name in self.option_names()}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return call_text(self.name, self.settings())


@contextmanager
def attack_variant(victim: Victim, seed: int) -> Iterator[Victim]:
    """A variant of the victim in eval mode and a plain context; its passes count as the victim's.

    Its noise depends on `seed` alone, and the statistics of its gradient mode are its own.
    """
    check_victim(victim)
    with plain_context(), evaluating(victim.net):
        noise = derive_seed(seed, "noise")
        yield victim.replace(seed=noise, output="logits", cost=victim.cost)


def on_device(
    victim: Victim, images: Tensor, labels: Tensor, ids: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and ids where the network is, as float32 and int64, once they are checked.

    Raises:
        InputError: If they do not suit the victim, or are not equally many.
    """
    images, labels, _ = checked_inputs(victim, images, labels)
    if ids is None:
        ids = torch.arange(len(images), device="cpu")
    if ids.shape != labels.shape:
        raise InputError(f"{len(images)} images need as many ids, got {tuple(ids.shape)}")
    device = device_of(victim, images)
    x = images.detach().to(device, torch.float32).clone(memory_format=torch.contiguous_format)
    # copies, for tensors of inference mode cannot be saved for a backward pass
    return x, labels.to(device).clone(), ids.to(device).long().clone()
