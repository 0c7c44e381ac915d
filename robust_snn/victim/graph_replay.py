"""Attack steps as CUDA graphs: a pass of a network and its gradient, captured and replayed.

A recording is made for one shape of images under the weights of the day. Images, random keys and
the gradient of the loss on the logits are copied into memory that the graphs read; logits and the
gradient on the images are copied out. So every call may have other noise, and a replay launches one
graph where a pass launches hundreds of kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.utils.cuda_graph import CudaRecorder, Recorder
from robust_snn.utils.errors import InputError
from robust_snn.utils.module_trace import ModuleTrace, place_text
from robust_snn.utils.plain_context import plain_context, tf32_is_on
from robust_snn.victim.averaged_draws import Run

KEPT = 4  # recordings of a network; each holds the activations of a pass
TOLERANCE = 1e-3  # between a pass and its replay, whose sums may have another order

_log = logging.getLogger("robust_snn")
_capturing = RLock()  # one capture at a time, whatever the network


class Stage(Enum):
    """What became of a pass that is not recorded."""

    SEEN = auto()
    TOO_LARGE = auto()


class Recordings:
    """The recordings of a victim and its variants, by what they depend on; a copy starts empty.

    The first pass of a shape runs as it is, the second is captured. Recordings last until a tensor
    of the network is replaced; weights that change in place are read by the next replay.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, Recording | Stage] = {}
        self._layout: Hashable = None
        self._recorders: dict[torch.device, Recorder] = {}
        self._lock = RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Recordings, ()

    def replayed(
        self,
        net: nn.Module,
        make_run: Callable[[], Run],
        settings: Hashable,
        count: Callable[[int], None],
    ) -> Run:
        """A function of images `[B, ...]` and keys `[B]`, replayed from its second call on.

        Args:
            net: The network that it runs.
            make_run: Makes the function.
            settings: What it depends on besides the network.
            count: Called with the number of images whose forward pass a late backward pass repeats.

        Raises:
            InputError: If the network cannot be captured.
        """
        layout = _layout(net)

        def run_or_replay(x: Tensor, keys: Tensor) -> Tensor:
            differentiable = torch.is_grad_enabled() and x.requires_grad
            key = (x.shape, x.device, differentiable, settings)
            with self._lock:
                recorder = self._recorder(x.device)
                known = self._known.get(key) if layout == self._layout else None
                if known is Stage.SEEN:
                    known = _captured(net, make_run(), x, keys, recorder)
                self._keep(key, known or Stage.SEEN, layout)
            if not isinstance(known, Recording):
                return make_run()(x, keys)
            logits: Tensor = _Replayed.apply(x, keys, known, count)
            return logits

        return run_or_replay

    def _keep(self, key: Hashable, known: Recording | Stage, layout: Hashable) -> None:
        """Keeps what was used last, of a network as it is now."""
        if layout != self._layout:
            self._known.clear()
            self._layout = layout
        self._known.pop(key, None)
        self._known[key] = known
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]

    def _recorder(self, device: torch.device) -> Recorder:
        if device.type != "cuda":
            raise InputError(
                f"graph=True captures CUDA graphs, but the images are on {device}: move victim and "
                "images to a CUDA device, or leave graph out"
            )
        if device not in self._recorders:
            self._recorders[device] = CudaRecorder(device)
        return self._recorders[device]


def _captured(
    net: nn.Module, run: Run, x: Tensor, keys: Tensor, recorder: Recorder
) -> Recording | Stage:
    """A recording, where there is memory for it."""
    try:
        return Recording(net, run, x, keys, recorder)
    except torch.OutOfMemoryError:
        return _too_large("passes", x)


def _too_large(what: str, x: Tensor) -> Stage:
    _log.warning("no memory to capture %s of images %s: they run as they are", what, tuple(x.shape))
    return Stage.TOO_LARGE


class Recording:
    """A captured pass, and from its first backward pass on, its captured gradient.

    Args:
        net: The network that `run` runs.
        run: The function to capture.
        x: Images `[B, ...]`; they need a gradient if later ones do.
        keys: Keys `[B]`.
        recorder: What captures.

    Raises:
        InputError: If it cannot be captured, or a replay gives something else than the pass did.
    """

    def __init__(
        self, net: nn.Module, run: Run, x: Tensor, keys: Tensor, recorder: Recorder
    ) -> None:
        self._recorder, self._lock = recorder, RLock()
        self._trace, self._kind = ModuleTrace(net), type(net).__name__
        self._x = x.detach().clone().requires_grad_(torch.is_grad_enabled() and x.requires_grad)
        self._keys = keys.clone()
        self._with_graph: Tensor  # logits of the last pass
        self._backward: tuple[Callable[[], None], Tensor] | Stage | None = None
        self._passes, self._tf32 = 0, tf32_is_on()

        def forward() -> Tensor:
            with self._trace:
                self._with_graph = run(self._x, self._keys)
            return self._with_graph.detach()

        expected = self._rehearsed(forward)
        self.differentiable = self._with_graph.requires_grad
        self._with_graph = self._upstream = torch.zeros_like(expected)  # frees what it held
        self._forward = self._recorded(forward, expected)

    def logits(self, x: Tensor, keys: Tensor) -> tuple[Tensor, int]:
        """Logits `[B, K]`, and the number of the pass."""
        with self._lock:
            self._replay_forward(x, keys)
            return self._forward[1].clone(), self._passes

    def gradient(
        self,
        x: Tensor,
        keys: Tensor,
        upstream: Tensor,
        number: int,
        count: Callable[[int], None],
    ) -> tuple[Tensor, int]:
        """Gradient on the images of a pass, `[B, ...]`, and the number that the pass has now.

        Args:
            x: The images.
            keys: Their keys.
            upstream: Gradient on the logits, `[B, K]`.
            number: Number of the pass; it is repeated if another one came since.
            count: Called with the number of images that are passed forward again.
        """
        with self._lock, torch.no_grad():
            if number != self._passes:
                count(len(x))
                self._replay_forward(x, keys)
            self._upstream.copy_(upstream)
            if self._backward is None:
                try:
                    expected = self._rehearsed(self._differentiate)
                    self._backward = self._recorded(self._differentiate, expected)
                except torch.OutOfMemoryError:
                    self._backward = _too_large("gradients", x)
            if isinstance(self._backward, Stage):
                return self._differentiate(), self._passes
            replay, gradient = self._backward
            replay()
            return gradient.clone(), self._passes

    def _replay_forward(self, x: Tensor, keys: Tensor) -> None:
        self._x.data.copy_(x)  # unseen by PyTorch, which would say that a saved tensor changed
        self._keys.data.copy_(keys)
        self._forward[0]()
        self._passes += 1

    def _differentiate(self) -> Tensor:
        """The gradient of the last pass; it keeps what it reads, so that it can be repeated."""
        with plain_context(self._tf32):  # that of the forward pass, whatever surrounds this one
            return torch.autograd.grad(
                self._with_graph, self._x, self._upstream, retain_graph=True
            )[0]

    def _rehearsed(self, work: Callable[[], Tensor]) -> Tensor:
        """The result of work that is about to be recorded.

        Its first run compiles what it needs, and the second shows whether it waits for the GPU.
        """
        with _capturing, self._named():
            with self._recorder.apart():
                work()
            with self._recorder.apart(strict=True):
                return work().clone()

    def _recorded(
        self, work: Callable[[], Tensor], expected: Tensor
    ) -> tuple[Callable[[], None], Tensor]:
        """Records work, and checks that a replay gives what is expected."""
        with _capturing, self._named():
            replay, result = self._recorder.record(work)
        replay()
        if not _close(result, expected):
            raise _refusal(self._kind, "it keeps a state between calls, or draws at random")
        return replay, result

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Says where an error came from."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise _refusal(self._trace.place, str(error).splitlines()[0]) from error


class _Replayed(torch.autograd.Function):
    """One draw of a network from a recording."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, keys: Tensor, recording: Recording, count: Callable[[int], None]
    ) -> Tensor:
        ctx.save_for_backward(x.clone(), keys)  # the caller may write into his images
        ctx.recording, ctx.count = recording, count
        logits, ctx.number = recording.logits(x, keys)
        if not recording.differentiable:
            ctx.mark_non_differentiable(logits)
        return logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        gradient, ctx.number = ctx.recording.gradient(
            *ctx.saved_tensors, upstream[0], ctx.number, ctx.count
        )
        return gradient, None, None, None


def _refusal(where: str, why: str) -> InputError:
    return InputError(f"graph=True cannot capture {where}: {why}; leave graph=True out")


def _layout(net: nn.Module) -> Hashable:
    """The modules of a network and where its tensors lie; what is in those may change.

    Raises:
        InputError: If a module has hooks.
    """
    found, seen = list[Hashable](), set[nn.Module]()
    left: list[nn.Module | None] = [net]
    while left:  # `net.modules()` takes as long as all of this
        module = left.pop()
        if module is None or module in seen:
            continue
        seen.add(module)
        left.extend(module._modules.values())
        forward, backward = module._forward_hooks, module._backward_hooks
        if forward or backward or module._forward_pre_hooks or module._backward_pre_hooks:
            raise _refusal(_path(net, module), "it has hooks, which no replay would call")
        found.append(id(module))
        for tensors in (module._parameters, module._buffers):
            for tensor in tensors.values():
                if tensor is not None:
                    found += (tensor.data_ptr(), tensor.shape, tensor.dtype)
    return tuple(found)


def _path(net: nn.Module, module: nn.Module) -> str:
    name = next(name for name, m in net.named_modules() if m is module)
    return place_text(name, type(module).__name__)


def _close(replayed: Tensor, expected: Tensor) -> bool:
    """Whether a replay gave what the pass gave, but for the order of sums."""
    scale = expected.abs().amax().nan_to_num(posinf=0)
    return torch.allclose(replayed, expected, TOLERANCE, float(scale) * TOLERANCE, equal_nan=True)
