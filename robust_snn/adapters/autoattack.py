"""AutoAttack (Croce and Hein, ICML 2020) through `pyautoattack`, its release on PyPI.

The attacks are the library's own. Where it trusts a single noisy call, a noisy victim gets help:

* AutoAttack's APGD skips an image that the first call happens to misclassify, and gives the clean
  image back where the last call happens to be right. Here it attacks every image, and `hardest`
  keeps the image of highest loss whatever the calls said.
* `version="auto"` shows the gradient attacks the mean logits of 20 fresh draws, and shows the
  searches (FAB, Square), which compare calls with each other, 20 draws that stay the same.

`success` is what the library claims. It is no measurement for a noisy victim: score the images on
fresh draws with `robust_snn.victim.accuracy`, or let `robust_snn.evaluate` do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pyautoattack
from torch import Tensor

from robust_snn.adapters._autoattack_drop_in import AutoAttack
from robust_snn.adapters._autoattack_engine import VERSIONS, AttackSettings
from robust_snn.adapters._autoattack_run import (
    LEAST_CLASSES,
    AutoAttackProgress,
    AutoAttackResult,
    run_attacks,
)
from robust_snn.adapters._autoattack_state import EvaluationState, shim
from robust_snn.utils.argument_types import checked_types
from robust_snn.victim import Victim

__all__ = [
    "LEAST_CLASSES",
    "VERSIONS",
    "AutoAttack",
    "AutoAttackProgress",
    "AutoAttackResult",
    "EvaluationState",
    "autoattack",
    "shim",
]


@checked_types
def autoattack(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    eps: float = 8 / 255,
    norm: str = "Linf",
    version: str = "auto",
    *,
    attacks: Iterable[str] | None = None,
    n_iter: int | None = None,
    n_queries: int | None = None,
    restarts: int | None = None,
    eot_iter: int | None = None,
    batch_size: int = 250,
    seed: int = 0,
    verbose: bool = False,
    resume: str | Path | None = None,
    progress: bool | Callable[[AutoAttackProgress], None] = False,
    like: pyautoattack.AutoAttack | None = None,
    original: bool = False,
) -> AutoAttackResult:
    """Runs one attack after the other, each on the images where those before had no success.

    Args:
        victim: What to attack.
        images: `[N, C, H, W]` in [0, 1].
        labels: `[N]`, int64.
        eps: Radius of the norm ball.
        norm: `"Linf"`, `"L2"` or `"L1"`.
        version: A released version, `"standard"`, `"plus"` or `"rand"`, on the victim exactly as it
            is; or `"auto"`: `standard` for a deterministic victim, and for a noisy one `rand`, FAB
            and Square, on variants made for it.
        attacks: Run these instead, on the victim exactly as it is.
        n_iter: Steps of APGD and FAB (released: 100).
        n_queries: Queries of Square (released: 5000).
        restarts: Restarts of every attack (released: 1, in `plus` 5).
        eot_iter: Calls over which APGD itself averages gradients (released: 1, in `rand` 20). The
            victim's own `eot` averages logits, and both multiply.
        batch_size: Images attacked together.
        seed: Seed of every attack.
        verbose: Let the library's log through, on the logger `auto-attack`.
        resume: File that keeps the run after every batch. The same call with the same file resumes
            where it was killed, to the result of an uninterrupted one.
        progress: Show a bar, or tell a listener each `AutoAttackProgress`.
        like: Take the attacks, with all their numbers, from this object of the library.
        original: Run the package of github.com/fra31/auto-attack, where it is installed, in the
            place of `pyautoattack`. The images are the same.

    Raises:
        InputError: If a name is not known, an attack needs more classes than there are, or the
            file to resume from belongs to another run.
        ImportError: If the original package is asked for and is not installed.
    """
    settings = AttackSettings(
        eps=eps,
        norm=norm,
        version=version,
        n_iter=n_iter,
        n_queries=n_queries,
        restarts=restarts,
        eot_iter=eot_iter,
        batch_size=batch_size,
        seed=seed,
        like=like,
        original=original,
    )
    return run_attacks(
        victim,
        images,
        labels,
        settings,
        attacks,
        verbose=verbose,
        resume=resume,
        progress=progress,
    )
