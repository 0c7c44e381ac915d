"""Small spiking networks as people write them: random source code, and what it must come to."""

from __future__ import annotations

import random
from types import ModuleType
from typing import NamedTuple

SIDE, CLASSES = 6, 5

# How a spike function takes its membrane and its threshold, and how it is called.
CALLS = {
    "outside": ("v", "v {over} 0", "{apply}(v - {th})", "v", "None"),
    "inside": ("v", "v {over} {th}", "{apply}(v)", "v - {th}", "None"),
    "number": ("v, th", "v {over} th", "{apply}(v, {th})", "v - th", "None, None"),
    "tensor": ("v, th", "v {over} th", "{apply}(v, torch.tensor({th}))", "v - th", "None, None"),
    "first": ("gamma, v", "v {over} 0", "{apply}(1.0, v - {th})", "v", "None, None"),
}
SURROGATES = {
    "(z.abs() < 0.5).float()": "rectangle(width=1)",
    "(1 - z.abs()).clamp(min=0)": "triangle(gamma=1)",
    "1 / (1 + (3.141592653589793 * z) ** 2)": "atan(alpha=2)",
    "4 * torch.sigmoid(4 * z) * (1 - torch.sigmoid(4 * z))": "sigmoid(alpha=4)",
}
CHARGES = (
    "{d} * v + x",
    "v * {d} + x",
    "v + (x - v) * {r}",
    "x + {d} * v",
    "torch.add(v * {d}, x)",
)
RESETS = (
    "v * (1 - {s})",
    "(1 - {s}) * v",
    "v - {th} * {s}",
    "v - {s} * {th}",
    "torch.where({s} > 0.5, torch.zeros_like(v), v)",
    "v.masked_fill({s} > 0.5, 0.0)",
)


class Written(NamedTuple):
    """A network's source code, and our text of its surrogate."""

    source: str
    surrogate: str

    def build(self) -> ModuleType:
        """The module of the source, which has a function `make_net`."""
        module = ModuleType("written_net")
        exec(compile(self.source, "written_net.py", "exec"), module.__dict__)
        return module


def write_net(seed: int, detached: bool = False) -> Written:
    """The source of a network, all of whose choices follow from a number.

    Args:
        seed: The number.
        detached: Whether no gradient passes through its reset in any case.
    """
    pick = random.Random(seed)
    fire, cell, net = (pick.choice(names) for names in (FIRES, CELLS, NETS))
    arguments, test, call, z, rest = CALLS[pick.choice(list(CALLS))]
    threshold, decay = pick.choice(["1.0", "0.5", "1.5"]), pick.choice([0.5, 0.9, 0.25])
    surrogate = pick.choice(list(SURROGATES))
    spikes = "s.detach()" if pick.random() < 0.4 or detached else "s"
    words = {
        "over": pick.choice([">", ">="]),
        "th": threshold,
        "d": str(decay),
        "r": str(1 - decay),
        "s": spikes,
        "apply": pick.choice([f"{fire}.apply", "fire"]),
    }
    cast = pick.choice([".float()", ".to(v.dtype)", ".type_as(v)", " * 1.0"])
    places = arguments.split(", ").index("v")
    gradients = ["g * slope", *rest.split(", ")[1:]]
    if places:
        gradients.reverse()
    step = STEPS[pick.choice(list(STEPS))]
    source = HEAD.format(
        fire=fire,
        arguments=arguments,
        test=test.format(**words),
        cast=cast,
        z=z.format(**words),
        slope=surrogate,
        back=", ".join(gradients),
    )
    lines = {
        "charge": pick.choice(CHARGES).format(**words),
        "spike": call.format(**words),
        "reset": pick.choice(RESETS).format(**words),
    }
    out = pick.choice(list(OUTPUTS))
    source += step.format(cell=cell, net=net, T=pick.choice([3, 4, 6]), out=OUTPUTS[out], **lines)
    return Written(source, SURROGATES[surrogate])


FIRES = ("ZIF", "SpikeAct", "Heavi", "ActFun", "_Step", "Q")
CELLS = ("LIFSpike", "Neuron", "IFCell", "MemUpdate")
NETS = ("Net", "SNN", "VGG", "MyModel")
OUTPUTS = {
    "mean": "sum(outs) / len(outs)",
    "steps": "torch.stack(outs)",
    "batch first": "torch.stack(outs, 1)",
    "tuple": "(torch.stack(outs), None)",
    "dictionary": "{'logits': sum(outs) / len(outs), 'T': len(outs)}",
    "list": "outs",
}
HEAD = """
import torch
from torch import nn


class {fire}(torch.autograd.Function):
    @staticmethod
    def forward(ctx, {arguments}):
        ctx.save_for_backward({z})
        return ({test}){cast}

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        slope = {slope}
        return {back}


fire = {fire}.apply
"""
STEPS = {
    "state on the module": """
class {cell}(nn.Module):
    def __init__(self):
        super().__init__()
        self.v = None

    def forward(self, x):
        v = torch.zeros_like(x) if self.v is None else self.v
        v = {charge}
        s = {spike}
        self.v = {reset}
        return s


class {net}(nn.Module):
    def __init__(self):
        super().__init__()
        layers = nn.Conv2d(1, 6, 3), {cell}(), nn.Flatten(), nn.Linear(96, 5), {cell}()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        for m in self.modules():
            if isinstance(m, {cell}):
                m.v = None
        outs = [self.body(4 * x) for _ in range({T})]
        return {out}
""",
    "state left behind": """
class {cell}(nn.Module):
    def __init__(self):
        super().__init__()
        self.v = 0.0

    def forward(self, x):
        v = self.v
        v = {charge}
        s = {spike}
        self.v = {reset}
        return s


class {net}(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = {cell}(), {cell}()
        self.conv, self.fc = nn.Conv2d(1, 6, 3), nn.Linear(96, 5)

    def forward(self, x):
        outs = []
        for _ in range({T}):
            outs.append(self.two(self.fc(self.one(self.conv(4 * x)).flatten(1))))
        return {out}
""",
    "loop in the neuron": """
class {cell}(nn.Module):
    def forward(self, inputs):
        v, spikes = torch.zeros_like(inputs[0]), []
        for t in range(inputs.shape[0]):
            x = inputs[t]
            v = {charge}
            s = {spike}
            v = {reset}
            spikes.append(s)
        return torch.stack(spikes)


class {net}(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lif1 = nn.Conv2d(1, 6, 3), {cell}()
        self.fc, self.lif2 = nn.Linear(96, 5), {cell}()

    def forward(self, x):
        x = (4 * x).unsqueeze(0).repeat({T}, 1, 1, 1, 1)
        h = self.lif1(self.conv(x.flatten(0, 1)).unflatten(0, ({T}, -1)))
        h = self.lif2(self.fc(h.flatten(0, 1).flatten(1)).unflatten(0, ({T}, -1)))
        outs = list(h.unbind(0))
        return {out}
""",
    "by hand": """
def mem_update(x, v):
    v = {charge}
    s = {spike}
    v = {reset}
    return v, s


class {net}(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 6, 3), nn.Linear(96, 5)

    def forward(self, x):
        v1 = v2 = torch.zeros(1)
        outs = []
        for _ in range({T}):
            v1, s1 = mem_update(self.conv(4 * x), v1)
            v2, s2 = mem_update(self.fc(s1.flatten(1)), v2)
            outs.append(s2)
        return {out}
""",
}
for kind, body in STEPS.items():
    STEPS[kind] = body + "\n\ndef make_net():\n    return {net}().eval()\n"
