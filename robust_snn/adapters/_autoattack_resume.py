"""The state of an AutoAttack run: what is done so far, on disk after every batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from robust_snn.foreign.identity import changes
from robust_snn.utils.atomic_files import write_whole
from robust_snn.utils.checked_files import DamagedFile
from robust_snn.utils.errors import InputError

OURS = (b'"run"', b'"sha256"')  # in every state, of which damage may have hit one


@dataclass
class RunState:
    """How far a run is.

    Attributes:
        images: Adversarial where an attack succeeded, else clean, `[N, C, H, W]`.
        robust: The images on which no attack has succeeded so far, bool `[N]`.
        robust_before: Those of them when the current attack began, which it attacks, bool `[N]`.
        hardest: Images of highest loss, of a noisy victim, `[N, C, H, W]`.
        after: The images after each finished attack.
        batches: Finished batches of the current attack.
        warnings: Warnings of the library.
    """

    images: Tensor
    robust: Tensor
    robust_before: Tensor
    hardest: Tensor | None
    after: dict[str, Tensor]
    batches: int
    warnings: list[str]

    def save(self, path: Path, configuration: Mapping[str, Any]) -> None:
        """Writes the state, whole or not at all."""
        tensors = {
            "images": self.images,
            "robust": self.robust,
            "robust_before": self.robust_before,
        }
        if self.hardest is not None:
            tensors["hardest"] = self.hardest
        tensors |= {f"after.{name}": value for name, value in self.after.items()}
        header = {
            "configuration": configuration,
            "batches": self.batches,
            "warnings": self.warnings,
        }
        tensors = {name: value.cpu().contiguous().clone() for name, value in tensors.items()}
        text = json.dumps(header)
        data = save(tensors, {"run": text, "sha256": _digest(text, tensors)})
        write_whole(path, lambda file: file.write(data))

    @classmethod
    def load(cls, path: Path, configuration: Mapping[str, Any], device: torch.device) -> RunState:
        """Reads the state of a run with the same configuration.

        Raises:
            InputError: If the file is another run's, or somebody else's.
            DamagedFile: If it is not as it was written.
        """
        try:
            with safe_open(path, framework="pt") as file:
                text, digest = file.metadata()["run"], file.metadata()["sha256"]
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if digest != _digest(text, tensors):
                raise ValueError("it has changed since it was written")
            header = json.loads(text)
        except Exception as error:
            content = path.read_bytes()
            if not any(mark in content for mark in OURS):
                raise InputError(f"'{path}' is no AutoAttack run; give another path") from error
            raise DamagedFile(f"'{path}' is no AutoAttack run, or damaged: {error}") from None
        if changed := "; ".join(
            changes(header["configuration"], json.loads(json.dumps(configuration)))
        ):
            raise InputError(
                f"'{path}' holds another run ({changed}); give the same arguments or another path"
            )
        tensors = {name: value.to(device) for name, value in tensors.items()}
        return cls(
            tensors["images"],
            tensors["robust"],
            tensors["robust_before"],
            tensors.get("hardest"),
            {name[6:]: value for name, value in tensors.items() if name.startswith("after.")},
            header["batches"],
            header["warnings"],
        )


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    """Of everything in a file: its header, and names, types and values of its tensors."""
    names = sorted(tensors)
    types = [(name, str(tensors[name].dtype)) for name in names]
    values = tensors_sha256(*(tensors[name] for name in names))
    return hashlib.sha256(f"{header}{types}{values}".encode()).hexdigest()


def tensors_sha256(*tensors: Tensor) -> str:
    """SHA-256, in hexadecimal, of the shapes and values of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
