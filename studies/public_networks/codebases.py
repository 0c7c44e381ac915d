"""What the networks of public codebases share: where they come from, and how they come to fire.

Nothing of the codebases is here. The folder PUBLIC_NETWORKS holds them, one folder each by the name
of its repository, and below `packages/` the versions of libraries that some of them need.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn
from torch.nn import functional

Make = Callable[[], nn.Module]
Logits = Callable[[nn.Module, Tensor], Tensor]

SIGMOID = "bptt(surrogate=sigmoid(alpha=4),detach_reset=true)"
ATAN = "bptt(surrogate=atan(alpha=2),detach_reset=true)"
TRIANGLE = "bptt(surrogate=triangle(gamma=1))"
RECTANGLE = "bptt(surrogate=rectangle(width=1))"
SMALL = [[16, "A"], [32, "A"], [64, "A"], [64, "A"], [512, "A"]]  # widths of a VGG, by stage
PASSES = 4  # over random images, to settle a network
SMALLEST_VARIANCE = 0.05  # a channel that was silent is not made a loud one


@dataclass(frozen=True)
class Codebase:
    """A network, where it comes from, and how its authors call it.

    Attributes:
        make: Makes the network.
        repository: Its public repository.
        commit: The commit that was read.
        T: Time steps.
        image: Shape `(C, H, W)` of an image.
        logits: The authors' way from the network and images to logits `[B, K]`.
        surrogate: The gradient mode that the authors have; None where it is none of ours.
        adapt: Arguments of `robust_snn.adapt`.
        images: How many images the suites get; fewer where a network is slow.
    """

    make: Make
    repository: str
    commit: str
    T: int
    image: tuple[int, int, int]
    logits: Logits
    surrogate: str | None
    adapt: dict[str, Any]
    images: int


CODEBASES: dict[str, Codebase] = {}


def plain(net: nn.Module, x: Tensor) -> Tensor:
    """Logits by the network alone."""
    return net(x)


def mean_of_steps(net: nn.Module, x: Tensor) -> Tensor:
    """Logits of a network that returns `[T, B, K]`, alone or first in a tuple."""
    out = net(x)
    return (out[0] if isinstance(out, tuple) else out).mean(0)


def mean_of_batch_first(net: nn.Module, x: Tensor) -> Tensor:
    """Logits of a network that returns `[B, T, K]`."""
    return net(x).mean(1)


def codebase(
    repository: str,
    commit: str,
    *,
    T: int,
    image: tuple[int, int, int] = (3, 32, 32),
    logits: Logits = plain,
    surrogate: str | None = None,
    packages: tuple[str, ...] = (),
    steps: int | None = None,
    images: int = 2,
    **adapt: Any,
) -> Callable[[Make], Make]:
    """Registers a function that builds a network with the authors' modules on `sys.path`.

    Args:
        repository: `owner/name`.
        commit: See `Codebase`.
        T: See `Codebase`.
        image: See `Codebase`.
        logits: See `Codebase`.
        surrogate: See `Codebase`.
        packages: Folders below `packages/` that come before what is installed.
        steps: `T` of `robust_snn.adapt`, for a network that does not repeat images itself.
        images: See `Codebase`.
        **adapt: See `Codebase`.
    """
    if steps is not None:
        adapt["T"] = steps

    def register(build: Make) -> Make:
        @wraps(build)
        def make() -> nn.Module:
            folder = Path(os.environ["PUBLIC_NETWORKS"])
            found = [folder / repository.split("/")[1]]
            found += [folder / "packages" / package for package in packages]
            sys.path[:0] = [str(path) for path in found]
            torch.manual_seed(0)
            used = build()
            settle(used, image, logits)
            return with_weights_of(used, build())

        CODEBASES[build.__name__] = Codebase(
            make, repository, commit, T, image, logits, surrogate, adapt, images
        )
        return make

    return register


@torch.no_grad()
def settle(net: nn.Module, image: tuple[int, int, int], logits: Logits) -> None:
    """Scales weights and fits batch norm to smooth random images, so that neurons fire.

    Linear layers and convolutions are scaled to outputs of unit deviation the first time that their
    input is not silent.
    """
    generator = torch.Generator().manual_seed(1)
    norms = [m for m in net.modules() if hasattr(m, "running_mean")]
    net.train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    waiting = set(layers)

    def scale(layer: nn.Module, inputs: Any, out: Tensor) -> Tensor | None:
        deviation = out.std()
        if layer not in waiting or not deviation > 1e-6:
            return None
        waiting.remove(layer)
        for tensor in (layer.weight, layer.bias):
            if tensor is not None:
                tensor /= deviation
        return out / deviation

    hooks = [layer.register_forward_hook(scale) for layer in layers]
    for number in range(1, PASSES + 1):
        for norm in norms:
            norm.momentum = 1 / number
        coarse = torch.rand(8, image[0], 4, 4, generator=generator)
        logits(net, functional.interpolate(coarse, image[1:], mode="bilinear"))
        reset(net)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        norm.running_var.clamp_(min=SMALLEST_VARIANCE)


@torch.no_grad()
def with_weights_of(used: nn.Module, net: nn.Module) -> nn.Module:
    """A network that has never run, with the weights and statistics of one that has."""
    for mine, its in zip(net.parameters(), used.parameters(), strict=True):
        mine.data = its.data.clone()  # some have no shape before they run
    buffers = dict(used.named_buffers())
    for name, mine in net.named_buffers():
        if mine.shape == buffers[name].shape:  # others hold a state of some batch
            mine.copy_(buffers[name])
    return net.eval()


def reset(net: nn.Module) -> None:
    """Clears the state of the libraries' neurons."""
    for module in net.modules():
        if hasattr(module, "v") and hasattr(module, "reset"):
            module.reset()
        if hasattr(module, "reset_states"):
            module.reset_states()


class Repeated(nn.Module):
    """A network that wants images repeated, as its authors' training loop repeats them.

    Args:
        net: The network.
        repeat: Repeats a batch of images.
    """

    def __init__(self, net: nn.Module, repeat: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net
        self.repeat = repeat

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `[B, C, H, W]` to what the network returns."""
        return self.net(self.repeat(x))


def absent(*names: str) -> None:
    """Stands in for modules that the authors import and the network does not use."""
    for name in names:
        module = MagicMock()
        module.__spec__ = ModuleSpec(name, None)
        sys.modules.setdefault(name, module)


def without_cuda() -> None:
    """Lets `.cuda()` in the authors' code leave tensors where they are."""
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]


def modules_of(net: nn.Module, name: str) -> Iterator[nn.Module]:
    """The modules of a network whose class has this name."""
    return (module for module in net.modules() if type(module).__name__ == name)


def notebook(path: Path, start: str, **names: Any) -> dict[str, Any]:
    """Runs the cell of an authors' notebook that begins with `start`; returns its names."""
    cells = json.loads(path.read_text())["cells"]
    source = next(text for c in cells if (text := "".join(c["source"])).startswith(start))
    exec(source, names)
    return names
