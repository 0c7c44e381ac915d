"""What every spiking backbone shares: timm's model interface over stages that carry time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from robust_snn.models.early_exit import EarlyExit
from robust_snn.models.gradient_checkpointing import checkpointed
from robust_snn.models.initialisation import init_weights
from robust_snn.models.mechanisms import OPTIONS, Builder
from robust_snn.models.readout import Readout
from robust_snn.neurons import (
    change_settings,
    current_settings,
    number_layers,
)
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import number, time_steps, whole


class Trunk(NamedTuple):
    """What a backbone family builds.

    Attributes:
        stages: Modules from `[T, B, C, H, W]` to the same, one per feature level.
        channels: Channels after each stage.
        sizes: Height and width after each stage.
        norm: Last spiking layer after the stages, or an identity.
        head: From spikes `[T, B, C, H, W]` to hidden features `[B, width]`.
        width: Number of hidden features.
    """

    stages: list[nn.Module]
    channels: list[int]
    sizes: list[tuple[int, int]]
    norm: nn.Module
    head: nn.Module
    width: int


class Input(NamedTuple):
    """What a family builds its trunk for."""

    channels: int
    size: tuple[int, int]
    readout: Readout


Family = Callable[..., Trunk]


class SpikingBackbone(nn.Module):
    """A spiking network from images to logits, with timm's conventions.

    The time axis stays inside: features and logits are read out over time.

    Args:
        family: Function that builds the trunk from a `Builder`, an `Input` and its own arguments.
        T: Time steps that a static image is presented for.
        mechanism: Row of `robust_snn.models.mechanisms.MECHANISMS`.
        img_size: Height and width of the input; gates and flattened features are built for it.
        in_chans: Input channels.
        num_classes: Number of classes; 0 removes the classifier.
        global_pool: `"avg"`, or `""` for features without pooling and classifier.
        drop_rate: Dropout before the classifier.
        readout: `"mean"` over time, or `"membrane"` of a leaky neuron that never fires.
        early_exit: Rule by which it stops reading in eval mode, such as `"confidence(at=0.9)"` or
            `"entropy(at=0.5)"`; it reads all steps if left out.
        exit_gradient: What an attack's gradient knows of that rule; see `EarlyExit`.
        mean: Mean per input channel, subtracted inside the model; CIFAR-10's for three channels.
        std: Standard deviation per input channel.
        defaults: Fields of `NeuronOptions` in which the backbone's paper differs from the defaults.
        device: Where to put the parameters.
        dtype: Type of the parameters.
        **kwargs: Arguments of the family, and fields of `NeuronOptions`.

    Raises:
        InputError: If an argument is not known or out of range.
    """

    output_fmt = "NCHW"

    def __init__(
        self,
        family: Family,
        *,
        T: int = 8,
        mechanism: str = "none",
        img_size: int | tuple[int, int] = 32,
        in_chans: int = 3,
        num_classes: int = 10,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        readout: Literal["mean", "membrane"] = "mean",
        early_exit: str | None = None,
        exit_gradient: Literal["aware", "taken", "unaware"] = "taken",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        defaults: dict[str, Any] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        T, in_chans = time_steps(T), whole(in_chans, "in_chans", 1)
        num_classes, size = whole(num_classes, "num_classes", 0), _sides(img_size)
        wiring, options = _split_arguments(family, kwargs)
        wiring = {k: tuple(v) if isinstance(v, list) else v for k, v in wiring.items()}  # of JSON
        _check_widths(wiring)
        if not 0 <= number(drop_rate, "drop_rate") < 1:
            raise InputError(f"drop_rate must be in [0, 1), got {drop_rate:g}")
        if early_exit is not None and readout != "mean":
            raise InputError("an early exit averages the logits so far: leave readout at 'mean'")
        self.early_exit = None if early_exit is None else EarlyExit(early_exit, exit_gradient)
        build = Builder(mechanism, T, defaults, **options)
        self.encoder = build.encoding(in_chans, mean, std)
        entry = Input(self.encoder.out_chans, size, Readout(readout, build.options.decay))
        trunk = checked_types(family)(build, entry, **wiring)
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": channels, "reduction": size[0] // height, "module": f"stages.{index}"}
            for index, (channels, (height, _)) in enumerate(
                zip(trunk.channels, trunk.sizes, strict=True)
            )
        ]
        self.num_features = trunk.channels[-1]
        self.head_hidden_size = trunk.width
        self.grad_checkpointing = False
        self.stages = nn.Sequential(*trunk.stages)
        self.norm = trunk.norm
        self.pre_logits = trunk.head
        self.drop = nn.Dropout(drop_rate)
        self.global_pool = global_pool
        self.reset_classifier(num_classes)
        self.apply(init_weights)
        number_layers(self)
        self.to(device=device, dtype=dtype)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier; `global_pool=""` makes the model return its feature map."""
        global_pool = self.global_pool if global_pool is None else global_pool
        if global_pool not in ("avg", ""):
            raise unknown("global_pool", global_pool, ("avg", ""))
        if not global_pool and num_classes:
            raise InputError("global_pool='' leaves nothing to classify: use num_classes=0 with it")
        self.global_pool = global_pool
        self.num_classes = num_classes
        like = next(self.stages.parameters())
        self.fc: nn.Module = (
            nn.Linear(self.head_hidden_size, num_classes, device=like.device, dtype=like.dtype)
            if num_classes
            else nn.Identity()
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades compute for memory: the backward pass recomputes blocks, noise included, from the
        outputs of their convolutions.
        """
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        blocks = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"
        return {"stem": r"^stages\.0\.0", "blocks": blocks}

    def no_weight_decay(self) -> set[str]:
        """Names of the gates' probabilities, whose penalty is the training objective's own."""
        return {name for name, _ in self.named_parameters() if name.endswith(".probability")}

    def __prepare_scriptable__(self) -> Any:
        raise InputError(
            "torch.jit.script does not compile spiking layers; use torch.export.export, "
            "torch.compile or, for a deterministic network, torch.jit.trace"
        )

    def _stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        if not self.grad_checkpointing:
            return stage(x)
        for block in stage.children():
            x = checkpointed(block, x)
        return x

    def _spikes(self, x: Tensor) -> Tensor:
        """Spikes of the last layer before the head, `[T, B, C, H, W]`."""
        x = self.encoder(x)
        for stage in self.stages:
            x = self._stage(stage, x)
        return self.norm(x)

    def _readout(self, spikes: Tensor, pre_logits: bool = False) -> Tensor:
        if not self.global_pool:
            return spikes.mean(0)
        hidden = self.drop(self.pre_logits(spikes))
        return hidden if pre_logits else self.fc(hidden)

    def forward_features(self, x: Tensor) -> Tensor:
        """Firing rates of the last layer before the head, `[B, C, h, w]`."""
        return self._spikes(x).mean(0)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits from firing rates `[B, C, h, w]`.

        A head with spiking layers sees the rates as a constant current. `forward` gives it the
        spikes themselves, so it can differ from `forward_head(forward_features(x))`.
        """
        return self._readout(x.unsqueeze(0), pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `[B, C, H, W]` or event frames `[B, T, C, H, W]` to logits `[B, K]`."""
        spikes = self._spikes(x)
        exits = bool(self.num_classes) and not self.training
        if self.early_exit is None or not exits or current_settings().every_step:
            return self._readout(spikes)
        with change_settings(every_step=True):
            logits = self._readout(spikes)
        return self.early_exit(logits.unflatten(0, (-1, len(x))))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Time means of the stages' outputs, each `[B, C, h, w]`; see timm for the arguments."""
        if output_fmt != "NCHW":
            raise unknown("output_fmt", output_fmt, ("NCHW",))
        take, last = feature_take_indices(len(self.stages), indices)
        stages = self.stages[: last + 1] if stop_early else self.stages
        intermediates = []
        x = self.encoder(x)
        for level, stage in enumerate(stages):
            x = self._stage(stage, x)
            if level in take:
                final = norm and level == len(self.stages) - 1
                intermediates.append((self.norm(x) if final else x).mean(0))
        if intermediates_only:
            return intermediates
        return self.norm(x).mean(0), intermediates

    def prune_intermediate_layers(
        self,
        indices: int | list[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Drops the stages after the last index, and the head; returns the indices left."""
        take, last = feature_take_indices(len(self.stages), indices)
        pruned = last < len(self.stages) - 1
        self.stages = self.stages[: last + 1]
        self.num_features = self.feature_info[last]["num_chs"]
        if prune_norm or pruned:
            self.norm = nn.Identity()
        if prune_head or pruned:
            self.pre_logits = nn.Identity()
            self.head_hidden_size = self.num_features
            self.reset_classifier(0, "")
        return take


def _sides(img_size: Any) -> tuple[int, int]:
    """Height and width of images.

    Raises:
        InputError: If they are none.
    """
    sides = tuple(img_size) if isinstance(img_size, tuple | list) else (img_size, img_size)
    if len(sides) != 2:
        raise InputError(f"img_size is a side, or height and width, got {img_size!r}")
    height, width = (whole(side, "img_size", 1) for side in sides)
    return height, width


def _check_widths(wiring: Mapping[str, Any]) -> None:
    """Refuses factors on channels and numbers of neurons that are not positive."""
    if "width" in wiring and not number(wiring["width"], "width") > 0:
        raise InputError(f"width must be above 0, got {wiring['width']}")
    hidden = wiring.get("head_width", ())
    for count in hidden if isinstance(hidden, tuple | list) else (hidden,):
        whole(count, "head_width", 1)


def _split_arguments(
    family: Family, arguments: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of the family, and those of the neurons."""
    wiring = list(inspect.signature(family).parameters)[2:]
    own = set(inspect.signature(SpikingBackbone).parameters) - {"family", "kwargs"}
    for name in arguments:
        if name not in wiring and name not in OPTIONS:
            raise unknown("argument of the model", name, {*own, *wiring, *OPTIONS})
    return (
        {name: value for name, value in arguments.items() if name in wiring},
        {name: value for name, value in arguments.items() if name in OPTIONS},
    )
