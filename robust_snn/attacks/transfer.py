"""Transfer: images that mislead one victim may mislead another, whose own gradient is masked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.apgd import APGD
from robust_snn.attacks.gradient_attack import IterativeAttack
from robust_snn.attacks.problem import AttackInputs
from robust_snn.neurons.noise_source import POLICIES
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits


@dataclass(frozen=True, kw_only=True)
class Transfer(IterativeAttack):
    """APGD on another victim, or on another variant of this one.

    Attributes:
        source: A victim; or the variant of the attacked one with a noise policy, such as its mean
            field `"mean"`, or with a gradient mode, such as `"activation(relu)"`.
        refine: Gradients of the victim itself that then follow, from the images that transferred.
    """

    name = "transfer"
    norms = APGD.norms
    source: Victim | str = "mean"
    refine: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.refine, "refine", 0)

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        victim, images, labels, ids, eps, norm, seed = inputs
        source = self.source
        if isinstance(source, str):
            key = "noise" if source in POLICIES else "gradient"
            source = victim.replace(**{key: source}, cost=victim.cost)
        apgd = APGD(steps=self.steps, **self.shared_options())
        crafted = apgd(source, images, labels, eps=eps, norm=norm, seed=seed, ids=ids).images
        if self.refine:
            options = self.shared_options() | {"start": crafted}
            return APGD(steps=self.refine, **options).craft(inputs)
        draws = self.select if victim.stochastic else 1
        logits = fresh_logits(victim, crafted, ids, draws, "choose")
        right = torch.stack([(z.argmax(1) == labels).double() for z in logits]).mean(0)
        return crafted, right < 0.5
