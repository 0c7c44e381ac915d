"""Transfer: images that mislead one victim may mislead another, whose own gradient is masked."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robust_snn.attacks.apgd import APGD
from robust_snn.attacks.gradient_attack import IterativeAttack, other_victim
from robust_snn.attacks.problem import AttackInputs, fresh_answers
from robust_snn.utils.values import whole
from robust_snn.victim import Victim


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
        source = other_victim(self.source, victim)
        apgd = APGD(steps=self.steps, **self.shared_options())
        crafted = apgd(source, images, labels, eps=eps, norm=norm, seed=seed, ids=ids).images
        if self.refine:
            options = self.shared_options() | {"start": crafted}
            return APGD(steps=self.refine, **options).craft(inputs)
        _, errors = fresh_answers(inputs, crafted, self.select)
        return crafted, errors > 0.5
