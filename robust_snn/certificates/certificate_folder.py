"""The folder of a certification: one row per image, from which a later start resumes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from decimal import ROUND_FLOOR, Context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robust_snn.foreign.identity import changes
from robust_snn.utils.atomic_files import write_text
from robust_snn.utils.checked_files import DamagedFile, read_record, write_record
from robust_snn.utils.errors import InputError
from robust_snn.utils.folder_lock import alone
from robust_snn.utils.user_files import output_folder

CERTIFICATE_FORMAT = 3  # of the rows; a folder with others is refused
ROWS, RECORD = "certificates.csv", "certificate.json"
DIGEST = "sha256"  # column that binds a row to its numbers and to the configuration
Row = dict[str, Any]


class CertificateFolder:
    """What is certified so far.

    Args:
        path: The folder, made if it is not there.
        configuration: Everything that the certificates depend on, such as an `identity`, as JSON
            values.

    Raises:
        InputError: If the folder holds certificates of another configuration, or damaged ones, or
            cannot be made.
    """

    def __init__(self, path: Path, configuration: Mapping[str, Any]) -> None:
        self.path = path
        self.configuration = json.loads(json.dumps(configuration))  # as it is read again
        record = path / RECORD
        if record.exists():
            self._check(record)
        else:
            output_folder(path, "the certificates")
            write_record(record, {"configuration": self.configuration})
        self.rows = self._read()

    def _check(self, record: Path) -> None:
        try:
            known = read_record(record)["configuration"]
        except DamagedFile as error:
            raise InputError(
                f"{error}; it is damaged: delete '{self.path}' or choose another --out"
            ) from None
        if changed := changes(known, self.configuration):
            raise InputError(
                f"{self.path} holds certificates of another run ({'; '.join(changed)}); "
                "choose another --out"
            )

    def _read(self) -> list[Row]:
        file = self.path / ROWS
        if not file.exists():
            return []
        try:
            rows: list[Row] = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
        except (UnicodeError, csv.Error):
            rows = [{}]
        told = [row.pop(DIGEST, None) for row in rows]
        if told != [self._digest(row) for row in rows] or [row["image"] for row in rows] != [
            str(i) for i in range(len(rows))
        ]:
            raise InputError(
                f"'{file}' is damaged, of another run or of an earlier version; delete it, and it "
                "is made again"
            )
        return rows

    def _digest(self, row: Row) -> str:
        parts = [self.configuration, list(map(list, row.items()))]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def finish(
        self,
        count: int,
        batch: int,
        certify: Callable[[Tensor], list[Row]],
        show: Callable[[int], None],
    ) -> list[Row]:
        """Certifies the images that have no row yet, and writes after every batch.

        Where another process certifies in the folder, it waits for it and takes over its rows.

        Args:
            count: Number of images.
            batch: Images between two writes.
            certify: Gives the rows of images, from their numbers.
            show: Called with the number of finished images.
        """
        with alone(self.path, "certifies"):
            self.rows = self._read()
            self._finish(count, batch, certify, show)
        return self.rows

    def _finish(
        self,
        count: int,
        batch: int,
        certify: Callable[[Tensor], list[Row]],
        show: Callable[[int], None],
    ) -> None:
        for first in range(len(self.rows), count, batch):
            ids = torch.arange(first, min(first + batch, count))
            fresh = certify(ids)
            texts = [{name: _text(value) for name, value in row.items()} for row in fresh]
            self.rows += [
                {"image": str(i), **row} for i, row in zip(ids.tolist(), texts, strict=True)
            ]
            table = io.StringIO()
            writer = csv.DictWriter(table, [*self.rows[0], DIGEST], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, DIGEST: self._digest(row)} for row in self.rows)
            write_text(self.path / ROWS, table.getvalue())
            show(len(self.rows))

    def conclude(self, result: Mapping[str, Any]) -> None:
        """Writes the result beside the configuration."""
        write_record(
            self.path / RECORD, {"configuration": self.configuration, "result": dict(result)}
        )


def read_certificates(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """The configuration and the rows of a folder, as texts.

    Raises:
        InputError: If it is none, or holds damaged ones or none of bounds or smoothing.
    """
    try:
        configuration = read_record(path / RECORD)["configuration"]
    except FileNotFoundError:
        raise InputError(f"'{path}' holds no certificates; robust-snn certify makes them") from None
    except (DamagedFile, KeyError) as error:
        raise InputError(f"'{path}' is damaged: {error}") from None
    if configuration.get("method") not in ("bounds", "smoothing"):
        raise InputError(f"'{path / RECORD}' says no method that certifies")
    return configuration, CertificateFolder(path, configuration).rows


def no_more_than(value: float, digits: int = 6) -> str:
    """A lower bound as text, rounded so that it still is one."""
    rounded = Context(prec=digits, rounding=ROUND_FLOOR).create_decimal(value)
    return f"{float(rounded):.{digits}g}"


def _text(value: Any) -> str:
    """A value of a row, whose fractions are all lower bounds."""
    return no_more_than(value) if isinstance(value, float) else str(value)
