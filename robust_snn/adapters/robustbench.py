"""RobustBench's `benchmark` without RobustBench, and the card that its leaderboard asks for.

The signature and the returned pair are RobustBench's (1.1.1). Beyond it, a noisy victim is attacked
and scored as one: AutoAttack's `auto` version, and accuracies over fresh draws.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_snn.adapters._autoattack_engine import logging_to
from robust_snn.adapters.autoattack import autoattack
from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.data import load_dataset
from robust_snn.foreign import adapt
from robust_snn.utils.atomic_files import write_text
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import file_name
from robust_snn.victim import Victim
from robust_snn.victim.scoring import SCORING_DRAWS, accuracy

THREATS = ("Linf", "L2")
_log = logging.getLogger("robust_snn")


def benchmark(
    model: nn.Module,
    n_examples: int = 10_000,
    dataset: Any = "cifar10",
    threat_model: Any = "Linf",
    to_disk: bool = False,
    model_name: str | None = None,
    data_dir: str | Path | None = None,
    corruptions_data_dir: str | None = None,
    device: torch.device | str | None = None,
    batch_size: int = 32,
    eps: float | None = None,
    log_path: str | None = None,
    preprocessing: str | Callable[..., Any] | None = None,
    aa_state_path: str | Path | None = None,
    *,
    size: int | None = None,
    version: str = "auto",
    draws: int = SCORING_DRAWS,
    **settings: Any,
) -> tuple[float, float]:
    """Clean and robust accuracy under AutoAttack, as `robustbench.eval.benchmark` gives them.

    Args:
        model: A victim, or a net that becomes one.
        n_examples: Images from the front of the data set.
        dataset: A name, a path (see `robust_snn.data.load_dataset`), or RobustBench's enumeration.
        threat_model: `"Linf"` or `"L2"`.
        to_disk: Write the card to `model_info/<dataset>/<threat_model>/<model_name>.md`.
        model_name: Name of the model.
        data_dir: Where the data set lies.
        corruptions_data_dir: Not used; accepted because RobustBench's signature has it.
        device: Where to run; where the model is, if left out.
        batch_size: Images attacked together.
        eps: Radius of the ball.
        log_path: A file that AutoAttack's log is appended to.
        preprocessing: Only None: a model normalises its images itself.
        aa_state_path: File to resume from; see `autoattack`.
        size: Side of the square that images are resized to; as stored, if left out.
        version: AutoAttack's version.
        draws: Fresh draws that each accuracy of a noisy victim averages.
        **settings: More arguments of `autoattack`.

    Returns:
        Clean and robust accuracy, in [0, 1].

    Raises:
        InputError: If the threat model is not known, or `eps` or `model_name` is missing.
    """
    threat, name = str(getattr(threat_model, "value", threat_model)), _plain(dataset)
    if threat not in THREATS:
        raise unknown("threat model", threat, THREATS)
    if eps is None:
        raise InputError(f"eps is needed: the radius of the {threat} ball")
    if preprocessing is not None:
        raise InputError("preprocessing is not supported; let the model normalise its images")
    if to_disk and model_name is None:
        raise InputError("to_disk=True needs model_name, which names the file")
    if to_disk:
        model_name = file_name(model_name, "model_name")
    eps = checked_radius(eps, threat)
    victim = adapt(model).replace()  # its noise begins anew, so that every call says the same
    if device is not None:
        victim.to(device)
    data = load_dataset(name, root=data_dir, size=size, n=n_examples)
    with logging_to(log_path):
        result = autoattack(
            victim,
            data.images,
            data.labels,
            eps,
            threat,
            version,
            batch_size=batch_size,
            verbose=log_path is not None,
            resume=aa_state_path,
            **settings,
        )
    clean = accuracy(victim, data.images, data.labels, draws=draws)
    adversarial = accuracy(victim, result.strongest, data.labels, draws=draws)
    for text in result.warnings:
        _log.warning("AutoAttack: %s", text)
    if to_disk:
        card = submission_card(
            str(model_name), victim, data.name, threat, eps, (clean, adversarial), len(data)
        )
        path = Path("model_info") / data.name / threat / f"{model_name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, card)
    return clean, adversarial


def submission_card(
    name: str,
    victim: Victim,
    dataset: str,
    threat_model: str,
    eps: float,
    accuracies: tuple[float, float],
    n_examples: int,
    *,
    title: str = "",
    url: str = "",
    checkpoint: str = "",
) -> str:
    """A submission in the form of RobustBench's issue template for new models, as Markdown.

    Args:
        name: Name of the model.
        victim: The model.
        dataset: Name of the data set.
        threat_model: `"Linf"` or `"L2"`.
        eps: Radius of the ball.
        accuracies: Clean and robust, as `benchmark` returns them.
        n_examples: Number of images.
        title: Title of the paper.
        url: Address of the paper.
        checkpoint: Address of weights and code.
    """
    clean, robust = accuracies
    how = f"AutoAttack, eps = {eps:g}, {n_examples} images of {dataset}"
    if victim.stochastic:
        how += (
            f"; the model is random: gradients of the mean over {SCORING_DRAWS} draws or more, "
            "accuracies over fresh draws. RobustBench lists no random models"
        )
    return f"""# Paper Information

- **Paper Title**: {title}
- **Paper URL**: {url}

# Leaderboard Claim(s)

## {name}

- **Architecture**: {type(victim.net).__name__}
- **Threat Model**: {threat_model}
- **Clean accuracy**: {clean:.2%}
- **Robust accuracy**: {robust:.2%}
- **Evaluation method**: {how}
- **Checkpoint and code**: {checkpoint}

# Model Zoo:

- [ ] I want to add my models to the Model Zoo (check if true)
- [ ] I use an architecture that is **not** included among those of RobustBench (check if true).
- [ ] I agree to release my model(s) under MIT license (check if true) **OR**
- [ ] I want my models to be released under a custom license, located here:
"""


def _plain(dataset: Any) -> str:
    return str(getattr(dataset, "value", dataset))
