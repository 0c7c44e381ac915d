"""A diagnosis has every check and every mode, also of networks that take few of them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch.utils.data import TensorDataset

from picky import Picky, pictures, reaches_nothing, refuses_rates
from robust_snn import Victim
from robust_snn.diagnostics import diagnose, diagnosis, full
from robust_snn.utils.errors import InputError


@pytest.mark.parametrize("step", [reaches_nothing, refuses_rates])
def test_a_diagnosis_of_a_network_that_takes_few_modes(step: Callable) -> None:
    net = Picky(step)
    of, told = (Victim(net), *pictures(net, 6)), list[str]()
    found = diagnose(*of, eps=0.1, progress=told.append)
    assert found.notes == tuple(full(*of, eps=0.1))
    assert len(told) == 4 and json.loads(json.dumps(found.to_json()))["images"] == 6
    assert found.gradient == str(of[0].gradient_in_force)
    accuracies = [result.accuracy for result in found.results]
    assert accuracies == sorted(accuracies)
    assert found.compared[:1] == (found.gradient,)
    assert len(found.cosines) == len(found.compared)
    assert {"eps", "steps", "random points"} <= set(found.curves)
    assert [x for x, _ in found.curves["random points"]] == list(range(1, 21))
    assert found.failed == tuple(note.name for note in found.notes if note.status == "fail")
    if step is reaches_nothing:
        pairs = TensorDataset(*of[1:])
        assert diagnose(of[0], pairs, eps=0.1) == found
        assert "reached neurons" in found.failed


def test_wrong_labels_pass_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Picky(reaches_nothing)
    images, labels = pictures(net, 9)
    shifted = (labels + 1) % 3
    monkeypatch.setattr(diagnosis, "full", lambda *of, **_: [])
    for none, why in (
        ((images, shifted), "none of 9 images right"),
        ((images[:0], labels[:0]), "no images"),
    ):
        with pytest.raises(InputError, match=why):
            diagnose(Victim(net), *none, eps=0.1)
    for right, failed in ((1, ("clean accuracy",)), (8, ())):
        some = torch.cat([labels[:right], shifted[right:]])
        found = diagnose(Victim(net), images, some, eps=0.1)
        assert (found.images, found.failed) == (right, failed)


def test_a_diagnosis_reads_few_images_of_a_large_data_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, read = Picky(reaches_nothing), list[int]()
    images, labels = pictures(net, 8)
    wrong = (labels + 1) % 3

    class Large:
        targets = torch.cat([labels, wrong] * 500).tolist()

        def __len__(self) -> int:
            return len(self.targets)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            read.append(index)
            return images[index % len(images)], self.targets[index]

    asked = list[int]()
    monkeypatch.setattr(diagnosis, "full", lambda victim, x, y, **_: asked.append(len(x)) or [])
    with pytest.raises(InputError, match="labels must be integers"):
        diagnosis.diagnose(Victim(net), Large(), torch.full((8000,), torch.nan), eps=0.1)
    found = diagnosis.diagnose(Victim(net), Large(), eps=0.1)
    assert len(read) < 2 * diagnosis.LOOKED_AT
    assert asked == [found.images] and 0 < found.images < diagnosis.LOOKED_AT
