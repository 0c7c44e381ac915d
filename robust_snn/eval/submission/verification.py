"""Verification of a submission: its files against each other, then its images against the network.

Every adversarial image is checked against the threat model and scored on noise that the submitter
could not know, and a short attack looks for what was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import fisher_exact
from torch import Tensor

from robust_snn.data.image_digests import data_digests
from robust_snn.data.lazy_images import Images, LazyImages
from robust_snn.data.map_style import MapStyle, with_labels
from robust_snn.eval.protocol.threat_model import ConstraintViolation, Threat
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.finished_run import check_agreement
from robust_snn.eval.submission.fresh_scores import Scoring, batches
from robust_snn.eval.submission.submission_folder import (
    HASHES,
    VERDICT,
    RefusedSubmission,
    Submission,
    file_hashes,
    load_submission,
)
from robust_snn.foreign.identity import changes, identity, public, structure_sha256
from robust_snn.kernels import derive_seed
from robust_snn.utils.atomic_files import write_json
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.share_texts import percent, span
from robust_snn.utils.values import whole
from robust_snn.utils.version import __version__
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import checked_set

RECORD = "verification.json"
SLACK = 1e-6  # what writing a share as text may cost
OTHER_ANSWERS = 0.05  # share of images whose answers rounding on another machine may turn
UNLIKELY = 1e-4  # that the draws of any image would differ so under one network


@dataclass(frozen=True)
class Verification:
    """What a verification found.

    Attributes:
        reasons: Why the submission is refused; none where it is accepted.
        notes: What differs without harm, or could not be checked.
        clean: Clean accuracy on fresh noise, with its interval; None where it came to no scoring.
        robust: The same on the worst version of every image.
        attacked: Robust accuracy after the short attack of the verification; None without one.
        holds: Images whose adversarial version still is misclassified in most draws.
        fell: Images whose adversarial version was misclassified, and no longer is.
    """

    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    clean: intervals.Estimate | None = None
    robust: intervals.Estimate | None = None
    attacked: intervals.Estimate | None = None
    holds: tuple[int, ...] = ()
    fell: tuple[int, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.reasons


def verify(
    folder: str | Path,
    victim: Victim,
    images: Images | MapStyle,
    labels: Tensor | None = None,
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> Verification:
    """Verifies a submission and, where it is accepted, writes `verification.json` beside it.

    Args:
        folder: The submission.
        victim: The network that it is about, from its own checkpoint.
        images: The evaluated images, `[N, C, H, W]`, from the data set itself; or a map-style data
            set, whose images are read as they are needed, as are those of `open_dataset`.
        labels: `[N]`; those of the data set if left out.
        seed: Seed of the fresh noise, together with the submission's hashes.
        progress: Called with a line for every step.

    Raises:
        InputError: If the folder is no submission, or network and images do not fit each other.
    """
    seed = whole(seed, "seed")
    try:
        submission = load_submission(folder)
    except RefusedSubmission as error:
        (Path(folder) / RECORD).unlink(missing_ok=True)
        return Verification((str(error),))
    (submission.folder / RECORD).unlink(missing_ok=True)
    reasons = [*_changed_files(submission), *_contradictions(submission)]
    images, labels = with_labels(images, labels)
    digests = data_digests(images, labels)
    reasons += _other_data(submission, digests.sha256, labels)
    if reasons:
        return Verification(tuple(reasons))
    if isinstance(images, LazyImages):
        images = images.verified(digests.images, read=True)
    labels, _ = checked_set(victim, images, labels)
    try:
        reasons = _outside(submission, images)
    except InputError as error:
        return Verification((str(error),))
    progress("the network against the one that was evaluated")
    others, notes = _other_network(submission, victim, images)
    if reasons or others:
        return Verification((*reasons, *others), tuple(notes))
    judge = victim.replace(seed=derive_seed(seed, "verify", submission.digest))
    found = _rescored(Scoring(submission, judge, images, labels), progress)
    if submission.verdict.certified is not None:
        notes = [*notes, "the certified accuracy is not verified: a submission holds no proofs"]
    found = replace(found, notes=(*notes, *found.notes))
    if found.accepted:
        write_json(submission.folder / RECORD, _record(submission, found))
    return found


def is_verified(folder: str | Path) -> bool:
    """Whether a submission was verified and accepted here, as it is now."""
    try:
        submission = load_submission(folder)
        record = read_json(submission.folder / RECORD, "the verification")
    except InputError:
        return False
    unchanged = not _changed_files(submission)
    return unchanged and isinstance(record, dict) and record.get("of") == submission.digest


def _record(submission: Submission, found: Verification) -> dict[str, object]:
    shares = {"clean": found.clean, "robust": found.robust, "attacked": found.attacked}
    return {
        "of": submission.digest,
        **{name: None if one is None else [one.value, *one.ci] for name, one in shares.items()},
        "holds": list(found.holds),
        "fell": list(found.fell),
        "notes": list(found.notes),
    }


def _changed_files(submission: Submission) -> list[str]:
    written = read_json(submission.folder / HASHES, "the hashes").get("sha256")
    there = file_hashes(submission.folder)
    if not isinstance(written, dict):
        return [f"{HASHES} holds no hashes"]
    changed = sorted(name for name in {**written, **there} if written.get(name) != there.get(name))
    return [f"{name} has changed since the submission was made" for name in changed]


def _contradictions(submission: Submission) -> list[str]:
    """Where verdict, predictions and record do not say the same."""
    verdict, predictions, record = submission.verdict, submission.predictions, submission.network
    try:
        check_agreement(verdict, predictions, submission.folder / VERDICT)
    except InputError as error:
        return [str(error)]
    found = []
    pairs = {
        key: (getattr(verdict, key), record[key]) for key in ("model", "data", "threat", "seed")
    }
    pairs["suite"] = (verdict.suite, record["suite"].get("name"))
    if "structure_sha256" in verdict.model:  # not in older verdicts
        structure = {"structure_sha256": structure_sha256(record["victim"])}
        pairs["model"] = (verdict.model, {**record["model"], **structure})
    for key, (says, was) in pairs.items():
        found += [
            f"the run's record and {VERDICT} differ in {text}" for text in changes(was, says, key)
        ]
    changed = np.flatnonzero(predictions.by >= 0)
    if not np.array_equal(np.sort(submission.positions), changed):
        found.append(
            f"there are adversarial images of {len(submission.positions)} images, the predictions "
            f"are of {len(changed)} attacked ones"
        )
    return found


def _other_data(submission: Submission, sha256: str, labels: Tensor) -> list[str]:
    verdict = submission.verdict
    if len(labels) == verdict.data["n"] and sha256 == verdict.data["sha256"]:
        if np.array_equal(labels.cpu().numpy(), submission.predictions.labels):
            return []
        return ["the labels are not those of the data"]
    return [
        f"the {len(labels)} images are not the {verdict.data['n']} of {verdict.data['name']} that "
        "were evaluated"
    ]


def _outside(submission: Submission, images: Images) -> list[str]:
    """Which adversarial images the threat model does not allow."""
    threat = Threat(submission.verdict.threat["norm"], submission.verdict.threat["eps"])
    outside, why = [], ""
    for rows in batches(submission.positions):
        clean = images[torch.from_numpy(rows)].cpu().float()
        versions = submission.worst(clean, rows)
        for at, version, image in zip(rows.tolist(), versions, clean, strict=True):
            try:
                threat.check(version[None], image[None], f"adversarial image {at}")
            except ConstraintViolation as error:
                outside.append(at)
                why = why or str(error)
    if not outside:
        return []
    return [f"{len(outside)} adversarial images are outside the threat model: {why}"]


def _other_network(
    submission: Submission, victim: Victim, images: Images
) -> tuple[list[str], list[str]]:
    """How the network is another one, and what else differs: reasons and notes."""
    then, now = submission.network["victim"], identity(victim, images)
    for tree in (then, now):  # gradients are those of the victim's own mode, which scores nothing
        tree["behaviour"] = {**tree["behaviour"], "gradients": None}
    others = changes({"weights": then["weights"]}, {"weights": now["weights"]})
    environment = submission.verdict.environment
    ran = {key: environment.get(key) for key in ("robust_snn", "torch")}
    here = {"robust_snn": __version__, "torch": torch.__version__}
    libraries = changes({**ran, **then["libraries"]}, {**here, **now["libraries"]})
    was, is_now = ({"network": public(tree["network"])} for tree in (then, now))
    structure = changes(was, is_now)
    answers = changes({"behaviour": then["behaviour"]}, {"behaviour": now["behaviour"]})
    if not libraries:  # other versions of a library may describe the same layers otherwise
        others += structure
    shown = [f"another network: {text}" for text in [*others, *answers][:3]]
    return shown, [f"other versions: {text}" for text in libraries]


def _rescored(scoring: Scoring, progress: Callable[[str], None]) -> Verification:
    submission = scoring.submission
    verdict, predictions = submission.verdict, submission.predictions
    labels = predictions.labels
    progress(f"scoring {len(scoring.labels)} clean images")
    clean = scoring.clean("report").predictions
    progress(f"scoring {len(submission.positions)} adversarial images")
    robust = scoring.worst("report")
    answers = {
        "clean": (predictions.clean, clean),
        "robust": (predictions.worst, robust.predictions),
    }
    estimates, reasons = dict[str, intervals.Estimate](), list[str]()
    for name, (then, now) in answers.items():
        estimates[name] = intervals.accuracy_estimate(now == labels[:, None])
        low, high = getattr(verdict, name).ci
        if not low - SLACK <= estimates[name].value <= high + SLACK:
            reasons.append(
                f"{name} accuracy is {percent(estimates[name].value)} on fresh noise, outside the "
                f"submission's interval {span((low, high))}"
            )
        reasons += _other_answers(name, then, now, labels)
    misclassified = (predictions.worst != labels[:, None]).mean(1) > 0.5
    still = robust.accuracy < 0.5
    claimed = [int(at) for at in submission.positions if misclassified[at]]
    found = Verification(
        tuple(reasons),
        clean=estimates["clean"],
        robust=estimates["robust"],
        holds=tuple(at for at in claimed if still[at]),
        fell=tuple(at for at in claimed if not still[at]),
    )
    if reasons:
        return found
    progress("a short attack on the images that are still right")
    attacked = scoring.attacked(robust.predictions)
    if attacked is None:
        return replace(found, notes=("no short attack: none of ours is for this threat",))
    after = intervals.accuracy_estimate(attacked == labels[:, None])
    low, high = verdict.robust.ci
    left_out = (
        f"a short attack of the verification leaves {percent(after.value)}, below the submission's "
        f"interval {span((low, high))}: adversarial images were left out, or its attacks were too "
        "weak"
    )
    weak = after.value < low - SLACK
    return replace(found, attacked=after, reasons=(left_out,) if weak else ())


def _other_answers(
    name: str, then: np.ndarray, now: np.ndarray, labels: np.ndarray
) -> Iterator[str]:
    """Says where the answers cannot come from one network: more images than rounding turns."""
    draws = then.shape[1]
    if draws == 1:
        differ = (then != now)[:, 0]
    else:
        hits = [(answers == labels[:, None]).sum(1) for answers in (then, now)]
        tables = np.stack([hits[0], draws - hits[0], hits[1], draws - hits[1]], axis=1)
        chances = np.array([fisher_exact(row.reshape(2, 2)).pvalue for row in tables])
        differ = chances < UNLIKELY / len(labels)
    if differ.sum() > max(1, OTHER_ANSWERS * len(labels)):
        yield (
            f"the network answers otherwise on {differ.sum()} of {len(labels)} {name} images than "
            "the submission says"
        )
