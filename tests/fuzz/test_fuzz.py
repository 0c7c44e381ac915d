"""Wrong input of every kind ends in a right answer or in one clean line, and never hangs.

`make fuzz FUZZ_SECONDS=3600 FUZZ_SEED=7` runs for an hour per kind. A case that fails is printed
as a line of JSON, which belongs into `corpus/KIND.jsonl`: what is there is tried first ever after.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuzz.archive_kinds import ARCHIVE_KINDS
from fuzz.call_kinds import CALL_KINDS
from fuzz.file_kinds import FILE_KINDS
from fuzz.kinds import Place
from fuzz.mutation import packed, unpacked
from fuzz.outcome import for_seconds
from fuzz.sound_files import write_sound_files
from fuzz.text_kinds import TEXT_KINDS

KINDS = {**TEXT_KINDS, **FILE_KINDS, **ARCHIVE_KINDS, **CALL_KINDS}
CORPUS = Path(__file__).parent / "corpus"
CASES = int(os.environ.get("FUZZ_CASES", 150))  # of every kind,
SECONDS = float(os.environ.get("FUZZ_SECONDS", 0))  # or as many as there is time for
SEED = os.environ.get("FUZZ_SEED", "0")
MOST = int(os.environ.get("FUZZ_FAILURES", 1))  # after which a kind ends


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_SNN_BACKEND", "torch")  # a compiler would take longer than a case
        write_sound_files(folder)
        yield folder


def tried(kind: str, case: Any, good: Path, work: Path) -> str | None:
    """What is wrong with how a case ends, if anything."""
    work.mkdir()
    try:
        KINDS[kind].run(case, Place(good, work))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a hang is no Exception
        line = json.dumps(packed(case))
        return f"{type(error).__name__}: {str(error)[:1500]}\n{line[:4000]}\n"
    finally:
        shutil.rmtree(work)
    return None


def corpus() -> list[Any]:
    """Every case that failed once, with its kind."""
    return [
        pytest.param(path.stem, unpacked(json.loads(line)), id=f"{path.stem}-{number}")
        for path in sorted(CORPUS.glob("*.jsonl"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines())
    ]


@pytest.mark.parametrize(("kind", "case"), corpus())
def test_past_failures(kind: str, case: Any, good: Path, tmp_path: Path) -> None:
    assert tried(kind, case, good, tmp_path / "work") is None


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_input(kind: str, good: Path, tmp_path: Path) -> None:
    failures, number = [], 0
    for number in for_seconds(SECONDS) if SECONDS else range(CASES):
        rng = random.Random(f"{SEED} {kind} {number}")
        case = KINDS[kind].make(rng, Place(good, tmp_path))
        if (wrong := tried(kind, case, good, tmp_path / "work")) is not None:
            failures.append(f"case {number}: {wrong}")
            if len(failures) >= MOST:
                break
    print(f"{kind}: {number + 1} cases, {len(failures)} failures")  # noqa: T201
    assert not failures, "\n".join(failures)
