"""NIR files that anybody may have made: what does not fit is refused, by the name of the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robust_snn import InputError, adapt
from robust_snn.foreign.nir import nir_file

nir = pytest.importorskip("nir", reason="needs the extra nir")
h5py = pytest.importorskip("h5py")

ONE = np.ones(4)
LINEAR = nir.Linear(np.ones((4, 4)))
Change = Callable[[dict[str, Any], list[tuple[str, str]]], None]


def lif(**changes: Any) -> Any:
    fields = {"tau": 1e-3 * ONE, "r": ONE, "v_leak": 0 * ONE, "v_threshold": ONE, **changes}
    return nir.LIF(**fields)


def conv(**changes: int) -> Any:
    sizes = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **changes}
    return nir.Conv2d(None, np.ones((1, 1, 1, 1)), **sizes, bias=np.ones(1))


def graph(change: Change = lambda nodes, edges: None) -> Any:
    nodes = {"in": nir.Input(np.array([4])), "w": LINEAR, "lif": lif(), "out": nir.Output([4])}
    edges = [("in", "w"), ("w", "lif"), ("lif", "out")]
    change(nodes, edges)
    return nir.NIRGraph(nodes, edges, type_check=False)


def node(name: str, value: Any) -> Change:
    return lambda nodes, edges: nodes.__setitem__(name, value)


def more(added: dict[str, Any], *ways: tuple[str, str]) -> Change:
    def change(nodes: dict[str, Any], edges: list[tuple[str, str]]) -> None:
        nodes.update(added)
        edges.extend(ways)

    return change


GRAPHS: dict[str, tuple[Change, str]] = {
    "unknown node": (node("w", nir.Delay(ONE)), "'w' 'Delay': known"),
    "complex weights": (
        node("w", nir.Linear(np.ones((4, 4), complex))),
        r"'w' \(Linear\): weight holds complex",
    ),
    "missing node": (more({}, ("lif", "gone")), "names 'gone'"),
    "loop without a neuron": (
        more({"a": LINEAR, "b": LINEAR}, ("w", "a"), ("a", "b"), ("b", "a"), ("b", "lif")),
        "'a', 'b' passes no neuron",
    ),
    "two outputs": (more({"z": nir.Output([4])}, ("w", "z")), "type Output, got 2: out, z"),
    "no input": (lambda nodes, edges: nodes.pop("in") and edges.pop(0), "type Input, got 0"),
    "not reached": (more({"a": LINEAR}, ("a", "lif")), "'a' .Linear. is not reached"),
    "shapes that differ": (
        more({"a": nir.Linear(np.ones((3, 4)))}, ("in", "a"), ("a", "lif")),
        r"'lif' .LIF. gets shapes \[4\] and \[3\]",
    ),
    "weights of another shape": (node("w", nir.Linear(np.ones((4, 5)))), "'w' .Linear"),
    "an output of another shape": (
        node("out", nir.Output([5])),
        r"'out' .Output. says the shape \[5\], and gets \[4\]",
    ),
    "an output of nothing": (node("out", nir.Output([0])), r"says the shape \[0\]"),
    "an output cut from another": (node("out", nir.Output([3, 2])), "says the shape"),
    "parameters of another shape": (node("lif", nir.LIF(*(np.ones(3),) * 4)), "'lif'.*do not fit"),
    "a step beyond tau": (node("lif", lif(tau=1e-5 * ONE)), "'lif'.*does not suit its time const"),
    "tau of zero": (node("lif", lif(tau=0 * ONE)), "'lif'.*must be positive"),
    "not a number": (node("lif", lif(v_threshold=np.nan * ONE)), "'lif'.*not finite"),
    "endless weights": (node("w", nir.Linear(np.inf * np.ones((4, 4)))), "'w'.*not finite"),
    "a huge layer": (
        more({"in": nir.Input([1, 2, 2]), "w": conv(padding=2**20)}),
        "'w' .Conv2d.*neurons, more than",
    ),
    "a stride of zero": (
        more({"in": nir.Input([1, 2, 2]), "w": conv(stride=0)}),
        "'w' .Conv2d",
    ),
    "a batch for channels": (
        node("w", nir.Conv1d(None, np.ones((2, 2, 1)), 1, 0, 1, 1, np.ones(2))),
        "'w' .Conv1d",
    ),
    "spikes both ways at once": (
        more(
            {"a": lif(), "w2": LINEAR},
            *[("lif", "w2"), ("w2", "lif"), ("w2", "a"), ("a", "lif")],
        ),
        "'w2' carries the spikes of 'lif'",
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_does_not_fit_is_refused_by_name(name: str) -> None:
    change, message = GRAPHS[name]
    with pytest.raises(InputError, match=message):
        adapt(graph(change), T=2, scheme="euler", dt=1e-4)


@pytest.mark.parametrize("shape", [[4], [1, 4], [16, 4], [2, 2], None])
def test_an_output_may_count_a_batch_or_say_nothing(shape: list[int] | None) -> None:
    changed = graph(node("out", nir.Output(shape)))
    assert adapt(changed, T=2, scheme="euler", dt=1e-4)


def broken(path: Path, change: Callable[[Any], None]) -> Path:
    nir.write(path, graph())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def retype(file: Any) -> None:
    del file["node/nodes/w/type"]
    file["node/nodes/w/type"] = "Lineer"


def bomb(file: Any) -> None:
    size = nir_file.MAX_BYTES // 8 + 1
    file.create_dataset("node/nodes/w/more", (size,), float, chunks=(2**16,), compression="gzip")


def outside(file: Any) -> None:
    file["node/nodes/w/away"] = h5py.ExternalLink("/etc/hostname", "/")


def around(file: Any) -> None:
    file["node/nodes/w/again"] = file["node"]


def stored_elsewhere(file: Any) -> None:
    place = [("/etc/hostname", 0, 8)]
    file.create_dataset("node/nodes/w/away", (1,), float, external=place)


FILES: dict[str, tuple[Callable[[Any], None], str]] = {
    "unknown type": (retype, "'w' 'Lineer': did you mean 'Linear'"),
    "more than it seems": (bomb, "unpacks to more than 4 GiB"),
    "a link to another file": (outside, "away is a link"),
    "a group inside itself": (around, "comes twice"),
    "numbers in another file": (stored_elsewhere, "another file"),
    "no type": (lambda file: file.__delitem__("node/nodes/w/type"), "cannot be read"),
    "no node": (lambda file: file.__delitem__("node"), "no NIR graph"),
    "a field too many": (lambda file: file.__setitem__("node/nodes/w/x", 1), "cannot be read"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_lies_is_refused_before_it_is_read(name: str, tmp_path: Path) -> None:
    change, message = FILES[name]
    with pytest.raises(InputError, match=message):
        adapt(broken(tmp_path / "net.nir", change), T=2, scheme="euler", dt=1e-4)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        adapt(tmp_path / "net.nir", T=2, dt=1e-4)
    (tmp_path / "net.nir").write_text("no HDF5")
    with pytest.raises(InputError, match="cannot be read"):
        adapt(str(tmp_path / "net.nir"), T=2, dt=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name the scheme"),
        ({"scheme": "snntorsch"}, "did you mean 'snntorch'"),
        ({"scheme": "snntorch(reset=substract)"}, "did you mean 'subtract'"),
        ({"scheme": "euler"}, "positive time step"),
        ({"dt": -1.0}, "positive time step"),
        ({"dt": 1e-4, "T": 0}, "at least 1"),
        ({"dt": 1e-4, "readout": "mode"}, "unknown readout"),
        ({"dt": 1e-4, "encoder": "rate"}, "unknown encoder"),
        ({"dt": 1e-4, "shceme": "norse"}, "did you mean 'scheme'"),
        ({"dt": 1e-4, "random": True}, "random"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapt(graph(), **{"T": 2, **arguments})


def test_a_graph_without_a_named_scheme_is_read_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    adapt(graph(), T=2, dt=1e-4)
    assert "name its scheme" in caplog.text


def test_names_of_nodes_may_hold_anything() -> None:
    def rename(nodes: dict[str, Any], edges: list[tuple[str, str]]) -> None:
        nodes["a.b/forward (synapse)"] = nodes.pop("lif")
        edges[1:] = [("w", "a.b/forward (synapse)"), ("a.b/forward (synapse)", "out")]

    victim = adapt(graph(rename), T=2, dt=1e-4)
    assert victim.takes("bptt").neurons == ("a.b/forward (synapse)",)
    assert victim(torch.rand(2, 1, 2, 2)).shape == (2, 4)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with pytest.raises(ImportError, match=r"robust-snn\[nir\]"):
        adapt("net.nir", T=2, dt=1e-4)
