"""The model as an attacker sees it: any network as a plain, state-free classifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.gradients import GradientMode, Own, Reach, TakesModes, parse_mode
from robust_snn.kernels import SPARSE, SharpnessMemory, derive_seed, sample_keys
from robust_snn.models.readout import Readout
from robust_snn.neurons.known_noise import known_draws
from robust_snn.neurons.noise_source import (
    POLICIES,
    is_random,
    layer_numbers,
    policy_keys,
)
from robust_snn.neurons.pass_settings import is_neuron, layer_gradient
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.fork_safe_lock import ForkSafeLock
from robust_snn.utils.modules import modules_of
from robust_snn.utils.plain_context import plain_context, tf32_is_on
from robust_snn.utils.values import whole
from robust_snn.victim.averaged_draws import (
    ALONE,
    CPU_PIXELS,
    Cost,
    DrawBatch,
    Draws,
    Run,
    logits_of_draws,
    mean_logits,
)
from robust_snn.victim.graph_replay import Recordings
from robust_snn.victim.passes import attack_pass, entered, scoring_pass
from robust_snn.victim.refusals import check_batch, in_one_thread, refuse_parameters

RECORDED = ("noise", "output", "sparse", "channels_last", "bf16", "tf32")  # what a pass depends on
OUTPUTS = ("logits", "probabilities", "steps")

_counting = ForkSafeLock()
NetworkCheck = Callable[[nn.Module], None]
ImagesCheck = Callable[[nn.Module, Tensor, list[nn.Module]], None]
_network_checks: list[tuple[NetworkCheck, ImagesCheck]] = []


def add_network_check(check: NetworkCheck, check_on_images: ImagesCheck) -> None:
    """Lets a room above this one look at the network of every new `Victim`.

    Args:
        check: Called with the network; raises `InputError` where it is no plain function of images.
        check_on_images: Called with the network, images and all modules of the network before every
            pass; raises the same.
    """
    _network_checks.append((check, check_on_images))


class Victim(nn.Module):
    """Wraps a network for attackers, with a gradient mode, an EOT count and a noise policy.

    `victim(x)` maps float images `[B, C, H, W]` in [0, 1] to float32 logits `[B, K]`. It draws
    nothing from global generators, gives contiguous gradients in `eval()`, and can be copied and
    pickled at any time. One call leaves nothing to the next but `calls`, their count, which tells
    fresh draws apart, and under ASSG the `statistics` of the attack run.

    Its weights are frozen: a backward pass reaches the image and nothing else. Batch norms in eval
    mode run inside the spiking kernel, which is exact up to rounding; `sample` scores with the
    plain float32 network, always.

    `sparse`, `channels_last`, `bf16` and `tf32` make attacks faster and are other roundings of the
    network: a spike at the edge may move, so what they find is only worth what `sample` says of it.

    Args:
        net: The network, which maps images in [0, 1] to logits.
        gradient: Gradient mode of its neurons; see `robust_snn.gradients`.
        eot: Draws whose logits are averaged. Backward repeats them, so the memory is that of those
            that pass together.
        eot_batch: How many do: a count, or `"auto"`, one on CPUs and as many as fit into the memory
            of a GPU. It changes the rounding of convolutions and nothing else: where an image's
            gradient depends on its batch, and in other people's networks, draws pass one by one.
        noise: `"fresh"` draws anew in every call; another victim of the same seed, `replace`
            included, begins at the same draws. `"frozen"` draws the same in every call and for
            every image. `"mean"` replaces each draw by its mean, for attacks only.
        seed: Seed of all noise.
        output: `"logits"`, `"probabilities"`, or `"steps"` for logits of every step, `[T, B, K]`.
        sparse: On CPUs, `"auto"` computes a convolution from its input's spikes, skipping the
            silent ones, wherever that is faster on this machine; `"always"` wherever it reads
            spikes. Either lays activations channels-last.
        channels_last: Whether images and activations lie channels-last in memory.
        bf16: Whether convolutions and what they pass on are bfloat16; membranes stay float32.
        tf32: Whether convolutions on GPUs round their factors to TF32.
        graph: Whether passes and their gradients are captured as CUDA graphs, per shape, and
            replayed. What is not in tensors of the network must not change then.
        cost: Where its passes are counted; a count of its own if left out.

    Raises:
        InputError: If a name is not known, `eot` is not positive, or the network holds a victim or
            is somebody else's, for which there is `robust_snn.adapt`.
    """

    @checked_types
    def __init__(
        self,
        net: nn.Module,
        *,
        gradient: str | GradientMode = "bptt",
        eot: int = 1,
        eot_batch: int | str = "auto",
        noise: str = "fresh",
        seed: int = 0,
        output: str = "logits",
        sparse: str = "never",
        channels_last: bool = False,
        bf16: bool = False,
        tf32: bool = False,
        graph: bool = False,
        cost: Cost | None = None,
    ) -> None:
        super().__init__()
        net = in_one_thread(net)
        _refuse_victims(net)
        refuse_parameters(net)
        for check, _ in _network_checks:
            check(net)
        if noise not in POLICIES:
            raise unknown("noise policy", noise, POLICIES)
        if output not in OUTPUTS:
            raise unknown("output", output, OUTPUTS)
        if sparse not in SPARSE:
            raise unknown("setting of sparse", sparse, SPARSE)
        self.net = net
        self.gradient = parse_mode(gradient)
        self.eot = whole(eot, "eot", 1)
        self.eot_batch = eot_batch
        self.noise = noise
        self.seed = whole(seed, "seed")
        self.output = output
        self.sparse = sparse
        self.channels_last = channels_last
        self.bf16 = bf16
        self.tf32 = tf32
        self.graph = graph
        self.cost = Cost() if cost is None else cost
        self.calls = 0
        self.statistics = SharpnessMemory()
        self.recordings = Recordings()
        self._draw_batch = DrawBatch(eot_batch)
        self._query_batch = DrawBatch(eot_batch, CPU_PIXELS)
        self.training = net.training

    @property
    def stochastic(self) -> bool:
        """Whether two forward passes can differ."""
        return any(map(is_random, modules_of(self.net)))

    @property
    def draws_by_batch(self) -> bool:
        """Whether the network draws once for a whole batch, so that its images share noise."""
        return any(getattr(module, "draws_by_batch", False) for module in modules_of(self.net))

    @property
    def stepwise(self) -> bool:
        """Whether the network can show its logits of every step."""
        return any(isinstance(m, Readout) for m in self.net.modules())

    def takes(self, mode: str | GradientMode) -> Reach:
        """Which neurons of the network a gradient mode reaches.

        None at all means that the gradient is the network's own, whatever the mode says.

        Raises:
            InputError: If the mode is not known, or a network of other people has not run yet.
        """
        mode = parse_mode(mode)
        wrapped = [m for m in self.net.modules() if isinstance(m, TakesModes)]
        theirs = {m for wrapper in wrapped for m in wrapper.modules()}
        answers = [wrapper.takes(mode) for wrapper in wrapped]
        ours = {m: name for name, m in self.net.named_modules() if is_neuron(m) and m not in theirs}
        if isinstance(mode, Own):
            refused = f"{type(self.net).__name__} has neurons of robust_snn, which have no own mode"
            answers.append(Reach(refusal=refused if ours else None))
        else:
            answers.append(Reach(tuple(ours.values())))
        return Reach(
            tuple(name for reach in answers for name in reach.neurons),
            {name: why for reach in answers for name, why in reach.missed.items()},
            next((reach.refusal for reach in answers if reach.refusal is not None), None),
        )

    @property
    def gradient_in_force(self) -> GradientMode:
        """The gradient mode, or `own` where it reaches no neuron."""
        return self.gradient if self.takes(self.gradient).neurons else Own()

    def replace(self, **changes: Any) -> Victim:
        """Another victim with some arguments of the constructor changed; this one stays as it is.

        What passes through it counts as its own, unless `cost=victim.cost` is among the changes.
        """
        settings = {name: getattr(self, name) for name in ("net", *SETTINGS)}
        variant = Victim(**{**settings, **changes})
        if variant.net is self.net:
            variant.recordings = self.recordings
        return variant

    def forward(
        self, x: Tensor, ids: Tensor | None = None, purpose: tuple[str | int, ...] = ()
    ) -> Tensor:
        """Maps images `[B, C, H, W]` in [0, 1] to float32 logits `[B, K]`.

        Args:
            x: The images.
            ids: Index of each image in the attacked set, `[B]`: fresh draws then follow from it and
                from `purpose`. They follow from places in the batch and the number of the call if
                left out.
            purpose: What tells these draws of the images from all others.
        """
        check_batch(x)
        if not len(x):  # no layer has to know what to do with no image
            return self(_one_image(x)).narrow(-2, 0, 0)
        modules = modules_of(self.net)
        self._check_network(x, modules)
        drawn = self.eot > 1 and self.noise != "mean" and any(map(is_random, modules))
        draws = self.eot if drawn else 1
        # backward passes of PyTorch follow what surrounds them, a replay does not
        surrounded = torch.is_autocast_enabled(x.device.type)
        surrounded = surrounded or (x.is_cuda and tf32_is_on() != self.tf32)
        replay = draws > 1 or surrounded
        layers = layer_numbers(modules)
        with plain_context(self.tf32, x.device):
            keys = self._next_keys(x, draws, bool(layers), ids, purpose)
            make_run = self._replayed_pass if self.graph else partial(attack_pass, self)
            run = make_run(modules, layers)
            batch = self._draw_batch if draws > 1 and self._draws_apart(gradients=True) else ALONE
            logits = mean_logits(entered(x), Draws(run, keys, batch, self.cost), replay)
        if torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad:
            raise InputError(
                f"no gradient of {type(self.net).__name__} reaches the image, something on its way "
                "detaches it; attacks that need none, such as square, still run"
            )
        return logits.softmax(-1) if self.output == "probabilities" else logits

    @torch.compiler.disable
    def _check_network(self, x: Tensor, modules: list[nn.Module]) -> None:
        for _, check_on_images in _network_checks:
            check_on_images(self.net, x, modules)

    @torch.compiler.disable  # it would compile anew for every number of a call
    def _next_keys(
        self,
        x: Tensor,
        draws: int,
        noisy: bool,
        ids: Tensor | None,
        purpose: tuple[str | int, ...],
    ) -> list[Tensor]:
        """The keys `[B]` of the draws of a call, which is counted.

        They are zeros, which nothing reads, where the network draws nothing.
        """
        call = self._next_call()
        if not noisy:
            return [torch.zeros(len(x), dtype=torch.int64, device=x.device)] * draws
        if (known := known_draws(self.net)) is not None:
            return [known.keys(x)] * draws
        seed = self.seed
        if ids is not None and self.noise == "fresh":
            seed, call = derive_seed(seed, *purpose), 0
        return [
            policy_keys(self.noise, seed, len(x), call, draw, x.device, ids)
            for draw in range(draws)
        ]

    def _next_call(self) -> int:
        """The number of a call, which no other thread gets."""
        with _counting:
            self.calls += 1
            return self.calls - 1

    def _replicate_for_data_parallel(self) -> Victim:
        """A replica of `nn.DataParallel`, whose share of the images draws as a call of its own."""
        call = self._next_call()
        replica: Victim = super()._replicate_for_data_parallel()
        replica.calls = call
        return replica

    def _draws_apart(self, gradients: bool) -> bool:
        """Whether an image's logits, and gradients, are the same with other draws in its batch."""
        mode = layer_gradient(self).mode
        mixed = gradients and (mode.accumulates or mode.mixes_images)
        takers = (m for m in self.net.modules() if hasattr(type(m), TakesModes.takes.__name__))
        return not (mixed or any(takers))

    def _replayed_pass(self, modules: list[nn.Module], layers: dict[nn.Module, int]) -> Run:
        """One draw of the network as attacks see it, captured as a CUDA graph."""
        mode = layer_gradient(self).mode
        if mode.accumulates:
            raise InputError(
                f"graph=True cannot capture {mode.brief}, whose gradient depends on earlier "
                "passes; leave graph=True out"
            )
        settings = (mode, *(getattr(self, name) for name in RECORDED))
        count = self.cost.count_forwards
        make_run = partial(attack_pass, self, modules, layers)
        return self.recordings.replayed(self.net, make_run, settings, count)

    def sample(self, x: Tensor, ids: Tensor, draw: int = 0, purpose: str = "report") -> Tensor:
        """Scores images with one draw of the plain float32 network.

        The noise depends on the seed, the purpose, the image and the draw, and on nothing else:
        any split or order of the images gives the same logits. Networks that draw once for a whole
        batch (`draws_by_batch`) draw for the first image: see `scoring.scoring_logits`.

        Args:
            x: Images `[B, C, H, W]`.
            ids: Index of each image in the evaluated set, `[B]`.
            draw: Number of the draw.
            purpose: Name of the stream; draws of two purposes are independent.

        Returns:
            Logits `[B, K]`.
        """
        return self.samples(x, ids, range(draw, draw + 1), purpose)[0]

    @torch.no_grad()
    def samples(self, x: Tensor, ids: Tensor, draws: range, purpose: str = "report") -> Tensor:
        """Scores images with several draws, which pass together as `eot_batch` says.

        Under `"auto"`, small images do so on CPUs, too: as many as are 32,768 pixels.

        Args:
            x: Images `[B, C, H, W]`.
            ids: Index of each image in the evaluated set, `[B]`.
            draws: Numbers of the draws.
            purpose: Name of the stream.

        Returns:
            Logits of every draw as of `sample`, `[draws, B, K]`.
        """
        check_batch(x)
        if not len(x):
            return self.samples(_one_image(x), ids.new_zeros(1), draws, purpose)[:, :0]
        modules = modules_of(self.net)
        self._check_network(x, modules)
        layers = layer_numbers(modules)
        with plain_context(False, x.device):
            ids = ids.to(x.device)
            keys = [ids] * len(draws)  # nothing reads them where the network draws nothing
            if layers:
                seed, known = derive_seed(self.seed, purpose), known_draws(self.net)
                keys = [
                    sample_keys(seed, ids, draw) if known is None else known.keys(x)
                    for draw in draws
                ]
            together = len(draws) > 1 and self._draws_apart(gradients=False)
            run = scoring_pass(self.net, modules, layers)
            batch = self._query_batch if together else ALONE
            return logits_of_draws(x, Draws(run, keys, batch, self.cost))

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in SETTINGS)


SETTINGS = tuple(
    name for name in inspect.signature(Victim).parameters if name not in ("net", "cost")
)


def _one_image(x: Tensor) -> Tensor:
    """A black image in place of none; gradients flow on to `x`, `[0, ...]`."""
    return torch.cat([x, x.new_zeros(1, *x.shape[1:])])


def _refuse_victims(net: nn.Module) -> None:
    """Refuses a network that holds a victim, whose noise would not follow the outer one's seed."""
    if isinstance(net, Victim):
        raise InputError("this is a Victim already; victim.replace(...) changes its settings")
    if any(isinstance(module, Victim) for module in net.modules()):
        raise InputError(
            f"{type(net).__name__} holds a Victim, whose draws are its own; wrap the network "
            "inside, victim.net, and make a Victim of the whole"
        )
