"""A finished run as a folder that somebody else can verify.

It holds the verdict, the predictions behind it, what identifies the network and the protocol, the
adversarial images that gave the number, their hashes, and a card to read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_snn.data.exact_differences import decode, pack, unpack
from robust_snn.eval.execution.grown_run import CONFIG
from robust_snn.eval.execution.job import piece_name
from robust_snn.eval.execution.kept_versions import LOST, read_versions
from robust_snn.eval.protocol.implementations import IMPLEMENTATIONS
from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.predictions import NAME, Predictions
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.utils.atomic_files import write_json, write_text
from robust_snn.utils.checked_files import DamagedFile, read_arrays, read_record, write_arrays
from robust_snn.utils.errors import InputError, reason_of
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.places import is_remote, place
from robust_snn.utils.share_texts import percent, tenths
from robust_snn.utils.user_files import check_output_folder, output_folder

VERDICT, NETWORK, IMAGES = "verdict.json", "network.json", "adversarial.npz"
FILES = (VERDICT, NAME, NETWORK, IMAGES)
HASHES, CARD = "hashes.json", "README.md"
FORM = 2  # of the folder; another one is refused
RECORDED = ("model", "data", "threat", "suite", "attacks", "victim", "batch_size", "seed")


@dataclass(frozen=True, eq=False)
class Submission:
    """A submission as it lies in its folder.

    Attributes:
        folder: The folder.
        verdict: Its verdict.
        predictions: Predictions on the report draws, as the submitter measured them.
        network: What identifies the network and the protocol, JSON values.
        differences: What differs in the worst version of every image that an attack changed, `M`.
        positions: Which images they are versions of, `[M]`.
        digest: Of all its hashes.
    """

    folder: Path
    verdict: Verdict
    predictions: Predictions
    network: dict[str, Any]
    differences: list[bytes]
    positions: np.ndarray
    digest: str

    def worst(self, clean: Tensor, rows: np.ndarray) -> Tensor:
        """The worst versions of some images, float32 `[B, C, H, W]`; others stay clean.

        Args:
            clean: The images, `[B, C, H, W]`.
            rows: Which of the evaluated images they are, `[B]`.

        Raises:
            InputError: If one is no version of its image.
        """
        found = clean.cpu().float().numpy().copy()
        try:
            for place, row in enumerate(rows.tolist()):
                if row in self._places:
                    found[place] = decode(self.differences[self._places[row]], found[place])
        except ValueError as error:
            raise InputError(f"'{self.folder / IMAGES}': {error}") from None
        return torch.from_numpy(found)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {at: place for place, at in enumerate(self.positions.tolist())}


def submit(run: str | Path, out: str | Path | None = None) -> Path:
    """Makes a submission of a finished run.

    Args:
        run: The folder of the run, or its URL, with the adversarial images in it.
        out: The folder to make, beside the run and called `RUN-submission` if left out.

    Returns:
        The folder.

    Raises:
        InputError: If the run is not finished, its files do not agree or are gone, it only corrupts
            at random, or the place is taken.
    """
    run = place(run)
    if out is None and is_remote(run):
        raise InputError(f"name the folder of this machine to make (--out) from '{run}'")
    folder = run.with_name(f"{run.resolve().name}-submission") if out is None else Path(out)
    _check_place(folder)
    verdict, predictions = load_run(run)
    try:
        config = read_record(run / CONFIG)
    except (FileNotFoundError, DamagedFile) as error:
        raise InputError(f"'{run}' is not the folder of a whole run: {error}") from None
    _check_rows(verdict, config)
    if "noise" in verdict.threat:
        raise InputError(f"'{run}' is of known noise, and others check on noise of their own")
    positions = np.flatnonzero(predictions.by >= 0)
    contents = _worst_versions(run, config, verdict, predictions, positions)
    output_folder(folder, "the submission")
    verdict.save(folder / VERDICT)
    predictions.save(folder)
    write_json(folder / NETWORK, {key: config[key] for key in RECORDED})
    write_arrays(
        folder / IMAGES,
        {"positions": positions.astype(np.int64), **pack(contents)},
    )
    write_json(folder / HASHES, {"submission": FORM, "sha256": file_hashes(folder)})
    if not (folder / CARD).exists():
        write_text(folder / CARD, _card(verdict, len(positions), folder))
    return folder


class RefusedSubmission(InputError):
    """A submission with a file that cannot be read, or that contradicts itself."""


def load_submission(folder: str | Path) -> Submission:
    """Reads a submission; whether it is true is for `verify` to say.

    Raises:
        InputError: If the folder is none, or one of another version.
        RefusedSubmission: If a file in it cannot be read or contradicts itself.
    """
    folder = Path(folder)
    if not (folder / HASHES).exists():
        raise InputError(f"'{folder}' is no submission; make one by robust-snn submit RUN")
    hashes = read_json(folder / HASHES, "the hashes")
    if not isinstance(hashes, dict) or hashes.get("submission") != FORM:
        raise InputError(f"'{folder}' is a submission of another version of robust_snn")
    try:
        return _read(folder, hashes)
    except InputError as error:
        raise RefusedSubmission(str(error)) from None


def _read(folder: Path, hashes: dict[str, Any]) -> Submission:
    network = read_json(folder / NETWORK, "what identifies the network")
    if not isinstance(network, dict) or set(RECORDED) - set(network):
        raise InputError(f"'{folder / NETWORK}' lacks {', '.join(RECORDED)}")
    try:
        arrays = read_arrays(folder / IMAGES, digested=False)
        differences, positions = unpack(arrays), arrays["positions"]
    except (FileNotFoundError, DamagedFile, KeyError, ValueError) as error:
        raise InputError(f"cannot read '{folder / IMAGES}': {reason_of(error)}") from None
    if positions.dtype.kind not in "iu" or positions.shape != (len(differences),):
        raise InputError(
            f"'{folder / IMAGES}' holds {len(differences)} images for positions "
            f"{positions.dtype} {positions.shape}"
        )
    return Submission(
        folder,
        Verdict.load(folder / VERDICT),
        Predictions.load(folder),
        network,
        differences,
        positions,
        hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest(),
    )


def is_submission(folder: Path) -> bool:
    """Whether a folder holds a submission, or what is left of one, rather than a run."""
    return any((folder / name).exists() for name in (HASHES, NETWORK, IMAGES))


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a number depends on, by name."""
    there = (folder / name for name in FILES if (folder / name).exists())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in there}


def _check_rows(verdict: Verdict, config: dict[str, Any]) -> None:
    """Refuses a run whose worst case rests on random corruptions, of which no image is kept."""
    rows = config["attacks"]
    for row in verdict.attacks:
        runs = IMPLEMENTATIONS.get(rows.get(row.name, {}).get("implementation", ""))
        if runs is not None and runs.judge is not None:
            raise InputError(
                f"'{row.name}' corrupts at random and leaves no adversarial images to verify; "
                "submit a run of attacks alone"
            )


def _worst_versions(
    run: Path,
    config: dict[str, Any],
    verdict: Verdict,
    predictions: Predictions,
    positions: np.ndarray,
) -> list[bytes]:
    """What differs in the worst versions of images, as the run has kept them."""
    contents = []
    shards, places = np.divmod(positions, int(config["batch_size"]))
    for shard in np.unique(shards).tolist():
        rows = enumerate((attack.name for attack in verdict.attacks), 1)
        kept = read_versions(run, [piece_name(number, name, shard) for number, name in rows])
        for at, row in zip(positions[shards == shard], places[shards == shard], strict=True):
            content = kept.get((int(row), int(predictions.by[at])))
            if content is None:
                raise InputError(f"'{run}': {LOST.format(f'image {at}')}")
            contents.append(content)
    return contents


def _check_place(folder: Path) -> None:
    check_output_folder(folder, "the submission")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / HASHES).exists():
        raise InputError(f"'{folder}' holds something else; choose another folder")


def _card(verdict: Verdict, changed: int, folder: Path) -> str:
    """What a person reads first; they may write into it, for no hash covers it."""
    model, data, threat = verdict.model, verdict.data, verdict.threat
    clean, robust = verdict.clean, verdict.robust
    failed = [note.name for note in verdict.diagnostics if note.status == "fail"]
    return f"""# {model["name"]}: {threat["norm"]}, eps = {threat["eps"]:.6g}, {data["name"]}

| | accuracy | 95 %, in percent |
|---|---|---|
| clean | {percent(clean.accuracy)} | {" to ".join(tenths(clean.ci))} |
| robust | {percent(robust.accuracy)} | {" to ".join(tenths(robust.ci))} |

- suite `{verdict.suite}`, {data["n"]} images, {verdict.draws["report"]} report draws
- failed diagnostics: {", ".join(failed) or "none"}
- weights: `{model["weights_sha256"]}`
- `{IMAGES}` holds the worst version of the {changed} images that an attack changed

To verify it:

    robust-snn verify {folder.name} --checkpoint FILE --data {data["name"]}

Who made the network and the attacks, and where they are described: write it here.
"""
