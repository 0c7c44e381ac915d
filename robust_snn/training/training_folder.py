"""The folder of a training: its configuration, the state to resume from, and its results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from robust_snn.training.recipe import Recipe
from robust_snn.utils.atomic_files import differences, write_json, write_text, write_whole
from robust_snn.utils.checked_files import with_digest, without_digest
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.folder_lock import alone
from robust_snn.utils.user_files import is_there

FOLDER_FORMAT = 1


@dataclass(frozen=True)
class Epoch:
    """One row of `history.csv`.

    Attributes:
        epoch: Number of the epoch, from 1.
        lr: Learning rate at its end.
        train_loss: Mean task loss on the images trained on, perturbed as the recipe says.
        train_accuracy: Accuracy on them.
        test_accuracy: Accuracy on the clean test images, one noise draw each.
        opening: Mean opening probability of the stochastic gates; 1 without gates.
        firing_rate: Mean of all spikes on the test images.
        held_out_accuracy: Accuracy on the clean images held out, if there are any.
        attacked_accuracy: Accuracy on them, or else on the test images, after a cheap attack; None
            in epochs without one.
        seconds: Time of the epoch.
        moved: Largest change of a pixel by the perturbation that was trained on.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    test_accuracy: float
    opening: float
    firing_rate: float
    held_out_accuracy: float | None
    attacked_accuracy: float | None
    seconds: float
    moved: float = 0.0


@dataclass(frozen=True)
class State:
    """All that a training is after an epoch, in one file: tensors, numbers and names only.

    Attributes:
        history: The epochs so far.
        net: Weights of the network.
        optimizer: State of the optimiser.
        averaged: Averaged weights, if the recipe has them.
        best: The best weights, if images are held out to choose them by.
        best_epoch: The epoch that they are from.
    """

    history: tuple[Epoch, ...]
    net: dict[str, Any]
    optimizer: dict[str, Any]
    averaged: dict[str, Any] | None
    best: dict[str, Any] | None = None
    best_epoch: int = 0


class TrainingFolder:
    """A folder that holds one training.

    Args:
        path: The folder; nothing is written before `begun`.
        config: Everything that the weights depend on, as JSON values.

    Raises:
        InputError: If the folder holds another training or something else.
    """

    def __init__(self, path: str | Path, config: dict[str, Any]) -> None:
        self.path = Path(path)
        self.config = json.loads(json.dumps({"robust_snn_training": FOLDER_FORMAT, **config}))
        self._check()

    @property
    def weights(self) -> Path:
        """The last weights."""
        return self.path / "model.safetensors"

    @property
    def best(self) -> Path:
        """The best weights, if images are held out to choose them by."""
        return self.path / "best.safetensors"

    def _check(self) -> None:
        if not is_there(self.path / "config.json"):
            if self.weights.exists():
                raise InputError(f"'{self.path}' holds other weights; choose another folder")
            return
        try:
            found = read_json(self.path / "config.json", "the configuration")
        except InputError as error:
            if isinstance(error.__cause__, OSError):
                raise
            found = None
        if not isinstance(found, dict) or "robust_snn_training" not in found:
            raise InputError(f"'{self.path}' holds something else; choose another folder")
        found = _completed(found)
        if found != self.config:
            changes = "; ".join(differences(found, self.config))
            raise InputError(
                f"'{self.path}' holds a training with another configuration ({changes}); "
                "choose another folder, or start it as it was to resume"
            )

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Makes the folder, writes the configuration, and keeps other processes out meanwhile.

        Where another one trains there, it waits for it, and then goes on where that ended.

        Raises:
            InputError: If the folder cannot be written to, or the other training is another one.
        """
        with ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(alone(self.path, "trains"))
                self._check()  # again: another process may have been faster
                write_json(self.path / "config.json", self.config)
            except OSError as error:
                raise InputError(f"cannot write to '{self.path}': {error.strerror}") from None
            yield

    def load(self) -> State | None:
        """The state after the last finished epoch, or None.

        Raises:
            OSError: If the system does not let the file be read.
            InputError: If it is damaged.
        """
        path = self.path / "state.pt"
        if not path.exists():
            return None
        written = path.read_bytes()
        try:
            content = without_digest(written, path, digested=False)
            table = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            history = tuple(Epoch(**row) for row in table["history"])
            return State(**{**table, "history": history})
        except Exception:  # unpicklers raise anything on foreign bytes
            raise InputError(f"'{path}' is damaged; remove it to start again") from None

    def save(self, state: State) -> None:
        """Writes the state, which all other files follow from."""
        table = {**vars(state), "history": [asdict(row) for row in state.history]}
        buffer = io.BytesIO()
        torch.save(table, buffer)
        content = with_digest(buffer.getvalue())  # torch looks at no checksum
        write_whole(self.path / "state.pt", lambda file: file.write(content))

    def write_history(self, history: tuple[Epoch, ...]) -> None:
        """Writes one row per epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {
                key: f"{value:.6g}" if isinstance(value, float) else value
                for key, value in asdict(row).items()
            }
            for row in history
        )
        write_text(self.path / "history.csv", text.getvalue())


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration, of an earlier version perhaps, whose recipe lacks no setting: all usual."""
    usual = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}
    recipe = config.get("recipe")
    if not isinstance(recipe, dict):
        return config
    return {**config, "recipe": {**json.loads(json.dumps(usual)), **recipe}}
