"""Texts that people write: numbers, gradient modes, axes, suites and recipes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import torch
import yaml

from fuzz.kinds import Kind, Place
from fuzz.mutation import mutated_text, mutated_tree, wrong_value
from fuzz.outcome import check_call
from robust_snn import Victim
from robust_snn.cli.adapt_text import parse_adapt
from robust_snn.cli.options import chosen_device
from robust_snn.data import load_dataset
from robust_snn.eval import load_suite
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.preflight import preflight
from robust_snn.eval.protocol.suite_files import parse_suite
from robust_snn.eval.protocol.sweep_axes import radius, read_axes
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.gradients import parse_mode
from robust_snn.training import load_recipe
from robust_snn.training.recipe import phases
from robust_snn.utils.file_texts import parse_json, parse_yaml
from robust_snn.utils.user_function import load_function
from robust_snn.utils.values import assignments, number
from zoo import awake, narrow

READERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "number": (lambda text: number(text, "it"), "8/255"),
    "radius": (lambda text: radius(text, "it"), "0.03"),
    "assignments": (lambda text: assignments([text], "it"), "T=4 width=.25 decay=[0.9,1]"),
    "adapt": (parse_adapt, "T=8,readout=mean,mean=0.5/0.5,std=0.2/0.2,resize=24/32,random=true"),
    "axes": (lambda text: read_axes([text], "it"), "gradient=bptt,bptt(surrogate=atan(alpha=4))"),
    "mode": (parse_mode, "bptt(surrogate=triangle(gamma=0.5),detach_reset=true)"),
    "phases": (phases, "none,fgsm@5,pgd@15"),
    "function": (load_function, "file.py:make_net"),
    "device": (chosen_device, "cuda:0"),
    "suite": (load_suite, "autoattack-rand"),
    "recipe": (load_recipe, "stog-at"),
    "data": (lambda text: load_dataset(text, n=1), "digits"),
    "yaml": (lambda text: parse_yaml(text, "it"), "{a: &x [1, 2.5], b: {c: *x}, 'd': 2021-01-02}"),
    "json": (lambda text: parse_json(text, "it"), '{"a": [1, -2.5e3, null, true, "x\\u00e9"]}'),
}


def _text(rng: random.Random, place: Place) -> list[str]:
    name = rng.choice(list(READERS))
    wrong = wrong_value(rng)
    near = mutated_text(rng, READERS[name][1])
    return [name, wrong if isinstance(wrong, str) and rng.random() < 0.3 else near]


def _read(case: list[str], place: Place) -> None:
    check_call(lambda: READERS[case[0]][0](case[1]))


@cache
def _victim() -> Victim:
    net = narrow("snn_vgg5_stog", "fresh", T=1, img_size=8, num_classes=3)
    return Victim(awake(net, torch.rand(4, 3, 8, 8)))


def _check_suite(text: str) -> None:
    suite = parse_suite(text, "fuzzed.yaml")
    images, labels = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    threat = Threat(suite.norm, suite.eps)
    preflight(Job(_victim(), images, labels, suite, threat, seed=0, batch_size=2))


def _yaml_case(folder: str) -> Callable[[random.Random, Place], str]:
    package = {"suites": "robust_snn.eval.protocol", "recipes": "robust_snn.training"}[folder]
    shipped = sorted(
        (e.name, e.read_text(encoding="utf-8"))
        for e in (files(package) / folder).iterdir()
        if e.name.endswith(".yaml")
    )

    def make(rng: random.Random, place: Place) -> str:
        text = rng.choice(shipped)[1]
        if rng.random() < 0.3:
            return mutated_text(rng, text)
        tree = mutated_tree(rng, yaml.safe_load(text))
        return str(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False))

    return make


def _suite(case: str, place: Place) -> None:
    check_call(lambda: _check_suite(case))


def _recipe(case: str, place: Place) -> None:
    path = place.work / "fuzzed.yaml"
    path.write_bytes(case.encode("utf-8", "surrogatepass"))
    check_call(lambda: load_recipe(path))


TEXT_KINDS = {
    "texts": Kind(_text, _read),
    "suites": Kind(_yaml_case("suites"), _suite),
    "recipes": Kind(_yaml_case("recipes"), _recipe),
}
