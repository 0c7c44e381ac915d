"""A dummy of every kind of addition that CONTRIBUTING's table lists; see `test_contributing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Edit(NamedTuple):
    """Text that is put in front of a mark in a file."""

    path: str
    mark: str
    text: str


@dataclass(frozen=True)
class Addition:
    """What a contributor writes.

    Attributes:
        name: Name of the dummy; it is part of the names of its tests.
        file: Text of the new file, if there is one.
        edits: Changes of files that CONTRIBUTING names without a registry.
        rows: A row for each registry that CONTRIBUTING names.
        before: What precedes the last registry: an import of the new file, or the new class itself.
        test: A row for the table of tests, or the text of a new file of tests.
        before_test: What precedes the table of tests.
        select: Which tests to run, as in `pytest -k`; those whose name holds `name` if left out.
    """

    name: str
    file: str = ""
    edits: tuple[Edit, ...] = ()
    rows: tuple[str, ...] = ()
    before: str = ""
    test: str = ""
    before_test: str = ""
    select: str = ""


_NUMBA = "robust_snn/kernels/spiking/numba/slopes.py"
_DIAGNOSE = "robust_snn/diagnostics/all_checks.py"
_TRITON = "robust_snn/kernels/spiking/triton/slopes.py"

ADDITIONS = {
    "neuron": Addition(
        "dummyneuron",
        file='''
from robust_snn.neurons.lif import LIF


class DummyLIF(LIF):
    """A neuron with half of the leak."""

    def __init__(self, decay: float = 1.0, **options: object) -> None:
        super().__init__(decay=(1 + decay) / 2, **options)
''',
        before="from robust_snn.neurons.dummyneuron import DummyLIF",
        rows=('"dummyneuron": Mechanism(lambda shape, steps, options: DummyLIF(**options.lif))',),
        select="snn_vgg5_dummyneuron",
    ),
    "input encoder": Addition(
        "dummycode",
        file='''
from torch import Tensor

from robust_snn.models.encodings import DirectEncoding
from robust_snn.neurons import PhaseEncoder


class PhaseEncoding(DirectEncoding):
    """Images as weighted spikes, a bit of every pixel per step."""

    def encode(self, x: Tensor) -> Tensor:
        return PhaseEncoder()(x, self.steps if x.shape[0] == 1 else x.shape[0])
''',
        before="from robust_snn.models.dummycode_encoding import PhaseEncoding",
        rows=('"dummycode": Mechanism(_lif, PhaseEncoding)',),
        select="snn_vgg5_dummycode and (parameter or saved)",
    ),
    "surrogate of a known shape": Addition(
        "dummysurrogate",
        before='''
@dataclass(frozen=True)
class DummySurrogate(SurrogateFunction):
    """`alpha exp(-alpha |z|)`."""

    name = "dummysurrogate"
    alpha: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("exponential", self.alpha, scale=2.0)
''',
        rows=("DummySurrogate",),
        test='"dummysurrogate(alpha=2)": (lambda z: 2 * torch.exp(-2 * z.abs()), 2)',
    ),
    "surrogate of a new shape": Addition(
        "dummyshape",
        edits=(
            Edit(
                _NUMBA,
                "_fill_triangle, _fill_rectangle = ",
                "@helper\ndef _dummyshape(u):\n    return max(_ONE - u * u, _ZERO)\n\n\n"
                "_fill_dummyshape = _over_block(_dummyshape)\n",
            ),
            Edit(
                _NUMBA,
                "    else:\n        _fill_step(",
                "    elif args.surrogate_shape == Shape.DUMMYSHAPE:\n"
                "        _fill_dummyshape(v, threshold, sharpness, scale, floor, out)\n",
            ),
            Edit(
                _TRITON,
                "LOGARITHM = ",
                "DUMMYSHAPE = tl.constexpr(int(Shape.DUMMYSHAPE))\n",
            ),
            Edit(
                _TRITON,
                "    else:  # step",
                "    elif SHAPE == DUMMYSHAPE:\n        return tl.maximum(1.0 - u * u, 0.0)\n",
            ),
        ),
        before='''
@dataclass(frozen=True)
class DummyShape(SurrogateFunction):
    """`max(0, 1 - z^2)`."""

    name = "dummyshape"
    alpha: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("dummyshape", self.alpha)
''',
        rows=(
            '"dummyshape": UnitShape(lambda u: (1 - u.square()).clamp(min=0))',
            "DUMMYSHAPE = 10",
            "DummyShape",
        ),
        test='"dummyshape": (lambda z: (1 - z.square()).clamp(min=0), 4 / 3)',
        select="dummyshape and not integrate_to_one",
    ),
    "gradient mode of a known kind": Addition(
        "dummymode",
        before='''
@dataclass(frozen=True)
class DummyMode(GradientMode):
    """A slope of a half everywhere."""

    name = "dummymode"

    def rule(self, dynamics: Dynamics) -> Rule:
        return RateSlope(0.5)
''',
        rows=("DummyMode",),
        test='"dummymode"',
    ),
    "membrane-noise family": Addition(
        "dummynoise",
        before='''
@dataclass(frozen=True)
class DummyNoise(NoiseFamily):
    """Gaussian noise by its variance."""

    name = "dummynoise"
    variance: float = 0.09

    def density(self) -> SurrogateFunction:
        return Gaussian(self.variance**0.5)

    def quantile(self, u: Tensor) -> Tensor:
        return (2 * self.variance) ** 0.5 * torch.erfinv(2 * u - 1)
''',
        rows=("DummyNoise",),
    ),
    "attack": Addition(
        "dummyattack",
        file='''
from dataclasses import dataclass

from robust_snn.attacks.gradient_attack import IterativeAttack
from robust_snn.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class DummyAttack(IterativeAttack):
    """Steps of length `eps / 2` along the gradient's sign."""

    name = "dummyattack"
    steps: int = 5

    def run(self, problem: Problem) -> None:
        x = problem.images
        for _ in range(self.steps):
            step = problem.eps / 2 * problem.ball.steepest(problem.loss_gradient(x).gradient)
            x = problem.ball.project(x + step)
        problem.record(x)
''',
        before="from robust_snn.attacks.dummyattack import DummyAttack",
        rows=("DummyAttack",),
        test='("dummyattack", "Linf", {"steps": 3})',
    ),
    "attack of another threat": Addition(
        "dummythreat",
        file='''
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.base import Attack
from robust_snn.attacks.problem import AttackInputs


@dataclass(frozen=True, kw_only=True)
class DummyThreat(Attack):
    """Mirrors every image."""

    name = "dummythreat"

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        mirrored = inputs.images.flip(-1)
        with torch.no_grad():
            return mirrored, inputs.victim(mirrored).argmax(1) != inputs.labels
''',
        before="from robust_snn.attacks.dummythreat import DummyThreat",
        rows=('"dummythreat": _only(DummyThreat)',),
        test="""
import torch
from torch import nn

import robust_snn
from robust_snn.eval import AttackSpec, Suite


def test_dummythreat_runs_in_a_suite(tmp_path):
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), torch.rand(4, 1, 4, 4)
    suite = Suite("mirror", (AttackSpec("mirror", "dummythreat", "dummythreat"),), eps=1.0)
    labels = net(images).argmax(1)
    verdict = robust_snn.evaluate(net, images, labels, suite=suite, out=tmp_path)
    turned = net(images.flip(-1)).argmax(1) == labels
    assert verdict.robust.accuracy == turned.double().mean()
""",
    ),
    "attack on event frames": Addition(
        "dummyevents",
        file='''
from dataclasses import dataclass

from robust_snn.attacks.events.flips import EventPGD


@dataclass(frozen=True, kw_only=True)
class DummyEvents(EventPGD):
    """Projected gradients in few steps."""

    name = "dummyevents"
    steps: int = 2
''',
        before="from robust_snn.attacks.events.dummyevents import DummyEvents",
        rows=("DummyEvents",),
        test='("dummyevents", {"steps": 3})',
    ),
    "image data set": Addition(
        "dummyimages",
        file='''
from pathlib import Path

from robust_snn.data.builtin import load_digits
from robust_snn.data.image_set import ImageSet


def load_dummy(name: str, split: str, root: Path | None, size: int | None) -> ImageSet:
    """Loads the digits under another name."""
    return load_digits(name, split, root, size)
''',
        before="from robust_snn.data.dummyimages import load_dummy",
        rows=('"dummyimages": NamedImages(load_dummy, classes=10)',),
        test='"dummyimages": None',
    ),
    "event set": Addition(
        "dummyrecordings",
        rows=(
            '"dummyrecordings": EventFiles('
            'gesture, "unpack them there", (128, 128), 32, 4, "count", GESTURES)',
        ),
        test='"dummyrecordings": Written("dummyrecordings", make_gesture_arrays, '
        "dict.fromkeys(BOTH, [1, 10]), (4, 32), dict.fromkeys(BOTH, 1000))",
    ),
    "library of spiking networks": Addition(
        "dummysnn",
        file='''
from torch import Tensor, nn

from robust_snn.foreign.library import Library, overriding
from robust_snn.foreign.spike_function import SpikeFunction
from robust_snn.gradients import BPTT
from robust_snn.gradients.surrogates import Triangle
from robust_snn.kernels import Dynamics


class Unit(nn.Module):
    """A neuron as a library may have it: it keeps its membrane between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.fire = SpikeFunction(Triangle().kernel(), lambda z: (z >= 0).to(z.dtype))
        self.membrane = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.membrane = 0.5 * self.membrane + x
        spike = self.fire(self.membrane - 1)
        self.membrane = self.membrane * (1 - spike)
        return spike


LIBRARY = Library(
    name="dummysnn",
    owns=lambda module: isinstance(module, Unit),
    swap=lambda node, spike, detach_reset: overriding(node, fire=spike),
    reset=lambda node: setattr(node, "membrane", 0.0),
    read=lambda node: Dynamics(0.5),
    own_mode=lambda node: BPTT(),
)
''',
        rows=('"dummysnn"',),
        before_test="from robust_snn.foreign.dummysnn import Unit",
        test='"dummysnn": (lambda: stack(nn.Conv2d, nn.Flatten, nn.Linear, lambda last=False: '
        'Unit()), "bptt(surrogate=triangle(gamma=1),detach_reset=false)")',
    ),
    "adapter of an attack library": Addition(
        "dummylib",
        file='''
"""Attacks of a library with a single one: noise of the length eps."""

import torch
from torch import Tensor

from robust_snn.victim import Victim


def attack(victim: Victim, images: Tensor, eps: float, seed: int) -> Tensor:
    """Moves every pixel by `eps` up or down at random, within [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.rand(images.shape, generator=generator).round() * 2 - 1
    return (images + eps * signs).clamp(0, 1)
''',
        before="""
def _dummylib(asked):
    from robust_snn.adapters.dummylib import attack

    crafted = attack(asked.victim, asked.images, asked.threat.eps, asked.seed)
    return Crafted((crafted,), torch.ones_like(asked.labels, dtype=torch.bool))
""",
        rows=(
            '"dummylib": "dummylib"',
            'dummylib = ["dummylib"]',
            '"dummylib": Implementation('
            '"torch", lambda row, threat: None, _dummylib, lambda row: 2)',
        ),
        test="""
import torch

import robust_snn
from robust_snn.eval.protocol.suite import AttackSpec, Suite


def test_dummylib_crafts_and_a_suite_can_name_it(tmp_path):
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    moved = robust_snn.adapters.dummylib.attack(robust_snn.Victim(net), x, 0.1, seed=0)
    assert (moved - x).abs().max() <= 0.1 + 1e-6
    suite = Suite("mine", (AttackSpec("noise", "dummylib", "noise"),))
    y = net(x).argmax(1)
    verdict = robust_snn.evaluate(net, x, y, suite=suite, eps=0.1, out=tmp_path)
    assert verdict.attacks[0].implementation.endswith(": noise")
""",
    ),
    "diagnostic": Addition(
        "dummydiagnostic",
        file='''
from torch import Tensor

from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.victim import Victim


def brightness(victim: Victim, images: Tensor, labels: Tensor, *, seed: int = 0) -> Diagnostic:
    """Warns of images that are all dark."""
    mean = float(images.mean())
    status = "pass" if mean > 0 else "warn"
    return Diagnostic("dummydiagnostic", mean, status, f"mean pixel {mean:.2f}")
''',
        edits=(
            Edit(
                _DIAGNOSE,
                "from robust_snn.diagnostics.diagnostic import",
                "from robust_snn.diagnostics.dummydiagnostic import brightness\n",
            ),
            Edit(
                _DIAGNOSE,
                '        *measure_or_warn("batch independence", lambda: batch_independence(',
                "        brightness(*of, seed=seed),\n",
            ),
        ),
        test="""
import torch

from robust_snn.diagnostics import cheap


def test_dummydiagnostic_is_among_the_cheap_ones():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    found = {d.name: d.status for d in cheap(net, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))}
    assert found["dummydiagnostic"] == "pass"
""",
    ),
    "metric": Addition(
        "dummymetric",
        file='''
from torch import Tensor


def silence(spikes: Tensor) -> Tensor:
    """Share of the neurons that never fire, `[B]`, of spikes `[T, B, N]`."""
    return (spikes.sum(0) == 0).float().mean(1)
''',
        before="from robust_snn.metrics.dummymetric import silence",
        rows=('"silence"',),
        test="""
import torch

from robust_snn.metrics import silence


def test_dummymetric_counts_the_silent():
    spikes = torch.tensor([[[0.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 0.0]]])
    assert silence(spikes).item() == 0.5
""",
    ),
    "loss of a training": Addition(
        "dummyloss",
        rows=(
            '"dummyloss": TaskLoss(lambda logits, labels, recipe: '
            "F.multi_margin_loss(logits, labels))",
        ),
    ),
    "perturbation of a training": Addition(
        "dummyperturbation",
        before='''
def darker(batch: Batch, recipe: Recipe) -> Tensor:
    """`x - eps`."""
    return (batch.images - recipe.eps).clamp(0, 1)
''',
        rows=('"dummyperturbation": darker',),
    ),
    "corruption": Addition(
        "dummycorruption",
        before='''
@dataclass(frozen=True)
class Darkening:
    """Every pixel times `1 - share` of its draw."""

    share: float

    def logits(self, victim: Victim, x: Tensor, keys: Tensor, *draw: Any) -> Tensor:
        factor = 1 - self.share * (keys % 1000).float() / 1000
        return victim.sample(x * factor.view(-1, *[1] * (x.ndim - 1)), *draw)
''',
        rows=('"dummycorruption": Darkening',),
        test='("dummycorruption", {"share": 0.9})',
    ),
    "backbone": Addition(
        "dummynet",
        file="""
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.snn_vgg import vgg

STAGES = ((16,), ("A", 32), ("A", 64))

default_cfgs = family_cfgs("stages.0.0.conv", {"dummynet": 8})

register_variants(__name__, vgg, "dummynet", len(STAGES), stages=STAGES, head_width=(256, 128))
""",
        rows=("from robust_snn.models import snn_dummynet  # noqa",),
        select="snn_dummynet and not snn_dummynet_",
    ),
    "suite": Addition(
        "dummysuite",
        file="""\
# One step, for a test.
name: dummysuite
source: "Anonymous, A test of tests, 2026"
attacks:
  - {name: fgsm, implementation: robust_snn, attack: fgsm}
""",
    ),
    "recipe": Addition(
        "dummyrecipe",
        file="""\
name: dummyrecipe
source: "Anonymous, A test of tests, 2026"
epochs: 5
""",
    ),
}
