"""The original package, github.com/fra31/auto-attack: its state files, its names, itself."""

from __future__ import annotations

import json
import math
import sys
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pyautoattack.state
import torch

from robust_snn.adapters._autoattack_resume import RunState
from robust_snn.utils.atomic_files import write_text
from robust_snn.utils.errors import InputError

PACKAGE = "autoattack"
_LIBRARY_FILES = (
    "autopgd_base",
    "checks",
    "fab_base",
    "fab_projections",
    "fab_pt",
    "other_utils",
    "square",
)


class EvaluationState(pyautoattack.state.EvaluationState):
    """How far a run is, in the form of `autoattack.state.EvaluationState`.

    That class cannot resume from its own files, because it reads the set of attacks as a text; here
    it is a set again.
    """

    def to_disk(self, force: bool = False) -> None:
        """Writes the state whole or not at all, at most once a minute unless forced."""
        now = datetime.now()
        waited = (now - self._last_saved).total_seconds()
        if self.path is None or (waited < self._SAVE_TIMEOUT and not force):
            return
        self._last_saved: datetime = now
        flags = self.robust_flags
        fields = {
            **vars(self),
            "_attacks_to_run": sorted(self.attacks_to_run),
            "_run_attacks": sorted(self.run_attacks),
            "_robust_flags": None if flags is None else flags.cpu().tolist(),
        }
        write_text(Path(self.path), json.dumps(fields, default=str))

    @classmethod
    def from_disk(cls, path: str | Path) -> EvaluationState:
        """Reads a state that this class or the original wrote.

        Raises:
            InputError: If the file holds none.
        """
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
            flags, attacks = fields["_robust_flags"], fields["_attacks_to_run"]
            if isinstance(attacks, str):
                attacks = attacks.strip("{}").replace("'", "").split(", ")
            return cls(
                set(attacks),
                Path(path),
                set(fields["_run_attacks"]),
                None if flags is None else torch.tensor(flags, dtype=torch.bool),
                datetime.fromisoformat(fields["_last_saved"]),
                _clean_accuracy=float(fields["_clean_accuracy"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"'{path}' is no state of AutoAttack; delete it, or give another path"
            ) from error


def images_beside(state_path: Path) -> Path:
    """Where the images of a run lie, which the original's state leaves out."""
    return state_path.with_name(state_path.name + ".safetensors")


def check_state(path: Path) -> None:
    """Raises `InputError` if a file is no state, or one whose images are not beside it."""
    if not path.exists():
        return
    EvaluationState.from_disk(path)
    if not images_beside(path).exists():
        raise InputError(
            f"'{path}' has no images of its run beside it, {images_beside(path).name}, and a run "
            "cannot resume without; delete it, or give another path"
        )


def note(path: Path, attacks: tuple[str, ...], run: RunState, clean: float | None) -> None:
    """Writes how far a run is as the original would.

    Args:
        path: The file.
        attacks: Attacks of the run.
        run: The run.
        clean: Accuracy on the images before any attack; None for what the file says.
    """
    if clean is None:
        clean = EvaluationState.from_disk(path).clean_accuracy if path.exists() else math.nan
    state = EvaluationState(set(attacks), path, set(run.after), run.robust, _clean_accuracy=clean)
    state.to_disk(force=True)


def original_package() -> ModuleType:
    """The package of github.com/fra31/auto-attack.

    Raises:
        ImportError: If it is not installed.
    """
    with suppress(ImportError):
        package = import_module(PACKAGE)
        if not isinstance(package, _StandIn):
            return package
    raise ImportError(
        "the original autoattack is not installed; install it with: "
        "pip install git+https://github.com/fra31/auto-attack"
    )


class _StandIn(ModuleType):
    """A module under a name of the original package."""


def shim() -> None:
    """Lets `import autoattack` and its modules work where fra31's package is not installed.

    RobustBench's own code imports `autoattack` and `autoattack.state`. Opt-in: nothing here calls
    it. `AutoAttack` is ours, and the attacks are those of `pyautoattack`, which are the same.
    RobustBench's `aa_state_path` ends in an error of its own after the attacks, with the original
    too: it takes the mean of truth values. The file it names holds the state.
    """
    if PACKAGE in sys.modules or find_spec(PACKAGE) is not None:
        return
    ours = import_module("robust_snn.adapters.autoattack")
    package = _StandIn(PACKAGE, ours.__doc__)
    package.__path__ = []
    package.AutoAttack = ours.AutoAttack  # type: ignore[attr-defined]
    files = {name: import_module(f"pyautoattack.{name}") for name in _LIBRARY_FILES}
    for name, names in (
        ("autoattack", {"AutoAttack": ours.AutoAttack}),
        ("state", {"EvaluationState": EvaluationState}),
    ):
        files[name] = _StandIn(f"{PACKAGE}.{name}")
        vars(files[name]).update(names)
    sys.modules[PACKAGE] = package
    for name, module in files.items():
        setattr(package, name, module)
        sys.modules[f"{PACKAGE}.{name}"] = module
