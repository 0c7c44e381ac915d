"""Attack steps as CUDA graphs: a pass of a network and its gradient, captured and replayed.

A recording is made for one shape of images under the weights of the day. Images, random keys and
the gradient of the loss on the logits are copied into memory that the graphs read; logits and the
gradient on the images are copied out. So every call may have other noise, and a replay launches one
graph where a pass launches hundreds of kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.utils.cuda_graph import CudaRecorder, Recorder
from robust_snn.utils.errors import InputError
from robust_snn.utils.module_trace import ModuleTrace
from robust_snn.utils.plain_context import plain_context
from robust_snn.victim_draws import Run

KEPT = 4  # recordings of a network; each holds the activations of a pass
TOLERANCE = 1e-3  # between a pass and its replay, whose sums may have another order
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

_log = logging.getLogger("robust_snn")
_capturing = RLock()  # one capture at a time, whatever the network


class Recordings:
    """The recordings of a victim and its variants, by what they depend on; a copy starts empty.

    The first pass of a shape runs as it is, which compiles and measures what there is to; the
    second is captured. They last until a tensor of the network
    is replaced; weights that change in place are read by the next replay.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, Recording | None] = {}
        self._places: Hashable = None
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
        places = _addresses(net)

        def run_or_replay(x: Tensor, keys: Tensor) -> Tensor:
            differentiable = torch.is_grad_enabled() and x.requires_grad
            key = (x.shape, x.device, differentiable, settings)
            with self._lock:
                recorder = self._recorder(x.device)
                if not self._seen(key, places):
                    return make_run()(x, keys)
                recording = self._known[key]
                if recording is None:
                    try:
                        recording = Recording(net, make_run(), x, keys, recorder)
                    except torch.OutOfMemoryError:
                        _log.warning("no memory to capture %s; it runs uncaptured", tuple(x.shape))
                        self._known.clear()
                        return make_run()(x, keys)
                del self._known[key]
                self._known[key] = recording  # the dictionary is in the order of use
            logits: Tensor = _Replayed.apply(x, keys, recording, count)
            return logits

        return run_or_replay

    def _seen(self, key: Hashable, places: Hashable) -> bool:
        """Whether such a pass ran before with these tensors; from now on one has."""
        if places != self._places:
            self._known.clear()
            self._places = places
        if key in self._known:
            return True
        self._known[key] = None
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]
        return False

    def _recorder(self, device: torch.device) -> Recorder:
        if device.type != "cuda":
            raise InputError(
                f"graph=True captures CUDA graphs, but the images are on {device}: move victim and "
                "images to a CUDA device, or leave graph out"
            )
        if device not in self._recorders:
            self._recorders[device] = CudaRecorder(device)
        return self._recorders[device]


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
        self._backward: tuple[Callable[[], None], Tensor] | None = None
        self._passes = 0

        def forward() -> Tensor:
            with self._trace:
                self._with_graph = run(self._x, self._keys)
            return self._with_graph.detach()

        self._forward = self._captured(forward)
        self.differentiable = self._with_graph.requires_grad
        self._upstream = torch.zeros_like(self._with_graph)

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
                    self._backward = self._captured(self._differentiate)
                except torch.OutOfMemoryError:
                    return self._differentiate(), self._passes
            replay, gradient = self._backward
            replay()
            return gradient.clone(), self._passes

    def _replay_forward(self, x: Tensor, keys: Tensor) -> None:
        # through `data`: overwriting what autograd has saved is meant here
        self._x.data.copy_(x)
        self._keys.data.copy_(keys)
        self._forward[0]()
        self._passes += 1

    def _differentiate(self) -> Tensor:
        """The gradient of the last pass; it keeps what it reads, so that it can be repeated."""
        with plain_context():
            return torch.autograd.grad(
                self._with_graph, self._x, self._upstream, retain_graph=True
            )[0]

    def _captured(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Captures work after a rehearsal, and checks that a replay gives the same."""
        with _capturing:
            try:
                with self._recorder.apart():
                    work()
                with self._recorder.apart(strict=True):
                    expected = work()
                replay, result = self._recorder.record(work)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise _refusal(self._trace.place, str(error).splitlines()[0]) from error
            replay()
            if not _close(result, expected):
                raise _refusal(self._kind, "it keeps a state between calls, or draws at random")
            return replay, result


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


def _addresses(net: nn.Module) -> Hashable:
    """Where the tensors of a network lie; what is in them may change."""
    addresses = []
    for module in net.modules():
        if any(getattr(module, hooks) for hooks in HOOKS):
            name = next(name for name, m in net.named_modules() if m is module)
            where = f"{name} ({type(module).__name__})" if name else type(module).__name__
            raise _refusal(where, "it has hooks, which no replay would call")
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                addresses.append(tensor.data_ptr())
    return tuple(addresses)


def _close(replayed: Tensor, expected: Tensor) -> bool:
    """Whether a replay gave what the pass gave, but for the order of sums."""
    scale = expected.abs().amax().nan_to_num(posinf=0)
    return torch.allclose(replayed, expected, TOLERANCE, float(scale) * TOLERANCE, equal_nan=True)
