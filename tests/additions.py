"""A dummy of every kind of addition that CONTRIBUTING's table lists; see `test_contributing`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Addition:
    """What a contributor writes.

    Attributes:
        name: Name of the dummy; it is part of the names of its tests.
        file: Text of the new file, if there is one.
        rows: A row for each registry that CONTRIBUTING names.
        before: What precedes the registry: the import of the new file, or the new class itself.
        test: A row for the table of tests, or the text of a new file of tests.
        before_test: What precedes the table of tests.
        select: Which tests to run, as in `pytest -k`; those whose name holds `name` if left out.
    """

    name: str
    file: str = ""
    rows: tuple[str, ...] = ()
    before: str = ""
    test: str = ""
    before_test: str = ""
    select: str = ""


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

from robust_snn.models.time_layers import DirectEncoding
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
    """`1 + alpha exp(-alpha |z|)`."""

    name = "dummysurrogate"
    alpha: float = 1.0

    def kernel(self) -> Surrogate:
        return Surrogate("exponential", self.alpha, scale=2.0, floor=1.0)
''',
        rows=("DummySurrogate",),
        test='"dummysurrogate(alpha=2)": lambda z: 1 + 2 * torch.exp(-2 * z.abs())',
    ),
    "backbone": Addition(
        "dummynet",
        file="""
from timm.models import generate_default_cfgs

from robust_snn.models.backbone import default_cfg, register_variants, variants
from robust_snn.models.snn_vgg import vgg

STAGES = ((16,), ("A", 32), ("A", 64))

default_cfgs = generate_default_cfgs(
    {name: default_cfg("stages.0.0.conv", 8) for name in variants("dummynet")}
)

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
epochs: 1
""",
    ),
}
