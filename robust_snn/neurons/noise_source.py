"""Where the keys of random draws come from.

A module that draws asks for one key per sample. Where the settings of the pass give keys, it takes
those: that is how `Victim` decides what is random and what repeats. Otherwise it makes its own.

A wrapper may show its noisy network other batches than it gets: flips of the images, crops, one
image at a time, steps folded into the batch. Then every sample that passes has a key of its own,
made from its image's key, and two never share a draw.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from robust_snn.kernels import sample_keys
from robust_snn.kernels.philox import Purpose, philox
from robust_snn.neurons.pass_settings import DrawKeys, PassSettings, current_settings
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.exporting import exporting, warn_of_frozen_draws
from robust_snn.utils.modules import modules_of

POLICIES = ("fresh", "frozen", "mean")
MOST_LAYERS = 2**16  # addresses of later uses in a pass begin behind these
# Which image the r-th sample of a pass belongs to: r modulo B where batches follow each other, as
# in torch.cat([x, x.flip(-1)]) or one image at a time; r // n where n samples of an image do.
GROUPINGS = ("batches", "images")


class RegroupedBatch(InputError):
    """A network passes other batches than it gets, and which image is which is not known."""


def policy_keys(
    noise: str,
    seed: int,
    batch: int,
    call: int | Tensor,
    draw: int = 0,
    device: torch.device | None = None,
    ids: Tensor | None = None,
) -> Tensor:
    """Sample keys `[B]` of a noise policy.

    `fresh` keys differ between calls and samples, which `ids` `[B]` tell apart, or their positions
    in the batch. `frozen` keys are one constant, so that the network is a deterministic function of
    each image, whatever its place in a batch.
    """
    samples = torch.arange(batch, device=device) if ids is None else ids.to(device)
    if noise == "frozen":
        return sample_keys(seed, torch.zeros_like(samples), draw)
    return sample_keys(seed, samples, draw, call)


class NoisyModule(nn.Module):
    """Base of the modules that draw random numbers.

    Attributes:
        layer: Address of the module in the random stream, where the settings of the pass have none;
            `number_layers` makes it unique in a net.
        noise: Policy while no caller gives keys: `"fresh"`, `"frozen"` or `"mean"`.
        seed: Seed of the module's own keys, taken from PyTorch's generator when it is built.
        known_seed: Seed of the draws that it repeats; see `with_known_noise`.
        known_by_image: Whether those are the keys that a `Victim` gives, and not one for all.
    """

    known_seed: int | None = None
    known_by_image = False
    draws_once_a_call = True  # so that every call of it passes other samples
    described_without = ("seed", "noise")  # of draws without a victim, which gives keys

    def __init__(self) -> None:
        super().__init__()
        self.layer = 0
        self.noise = "fresh"
        self.seed = int(torch.randint(2**62, (), device="cpu"))
        with torch.inference_mode(False):
            self._count = torch.zeros((), dtype=torch.int64, device="cpu")

    @property
    def calls(self) -> int:
        """How often it made keys of its own, which is the number that the next ones follow from.

        It is kept in a tensor, since `torch.compile` compiles anew for every value of a number.
        """
        return int(self._count.numpy())

    @calls.setter
    def calls(self, value: int) -> None:
        self._count.numpy()[...] = value  # also in inference mode

    @property
    def stochastic(self) -> bool:
        """Whether two draws can differ."""
        return True

    def draw(self, batch: int, device: torch.device) -> DrawKeys:
        """The keys `[B]` to draw with in this call, and the address."""
        settings = current_settings()
        if settings.replayed is not None:
            return next(settings.replayed)
        if settings.keys is not None:
            drawn = self._draw_of_pass(settings, settings.keys, batch)
        else:
            keys = policy_keys(self.noise, self.seed, batch, self._next_call(), device=device)
            drawn = DrawKeys(keys, self.noise == "mean", self.layer)
        given = self.known_by_image and settings.keys is not None
        if self.known_seed is not None and not given and not drawn.mean:
            known = policy_keys("frozen", self.known_seed, len(drawn.keys), 0, device=device)
            drawn = drawn._replace(keys=known)
        if settings.recorded is not None:
            settings.recorded.append(drawn)
        return drawn

    def _next_call(self) -> int | Tensor:
        """The number of this call, which is counted."""
        if exporting():
            warn_of_frozen_draws(type(self).__name__)
            return 0
        if torch.compiler.is_compiling():
            call = self._count.clone()
            self._count.add_(1)
            return call
        self.calls += 1
        return self.calls - 1

    def _draw_of_pass(self, settings: PassSettings, keys: Tensor, batch: int) -> DrawKeys:
        """The draw of the samples that pass now, `[batch]`, where images `[B]` have these keys.

        Raises:
            RegroupedBatch: If they are others than the images, and the settings do not say how
                they are grouped.
        """
        layer, mean, before = settings.layers.get(self, self.layer), settings.mean_field, 0
        if settings.drawn is not None and self.draws_once_a_call:
            before = settings.drawn.get(self, 0)
            settings.drawn[self] = before + batch
        use, rest = divmod(before, len(keys))
        if batch == len(keys) and not rest:  # the images, once more
            return DrawKeys(keys, mean, layer + MOST_LAYERS * use)
        grouping = GROUPINGS[0] if mean else settings.grouping
        each, rest = divmod(batch, len(keys))
        if grouping is None or (grouping == "images" and (before or rest)):
            raise RegroupedBatch(
                f"random draws need one key per sample: {batch} samples pass {type(self).__name__} "
                f"after {before} others, of {len(keys)} images"
            )
        rows = torch.arange(before, before + batch, device=keys.device)
        if grouping == "images":
            return DrawKeys(_keys_of_copies(keys[rows // each], rows % each), mean, layer)
        return DrawKeys(_keys_of_copies(keys[rows % len(keys)], rows // len(keys)), mean, layer)


def _keys_of_copies(keys: Tensor, copies: Tensor) -> Tensor:
    """Keys of the copies of samples `[n]`; the first copy of a sample, number 0, has its own."""
    low, high, _, _ = philox(keys, (copies, 0, 1, int(Purpose.KEY)))
    return torch.where(copies == 0, keys, low | (high << 32))


def layer_numbers(modules: Iterable[nn.Module]) -> dict[nn.Module, int]:
    """An address for every noisy one of the modules of a network, in their order."""
    return {module: layer for layer, module in enumerate(_noisy(modules))}


def number_layers(net: nn.Module) -> None:
    """Gives every noisy module of `net` its own address, for passes that bring none."""
    for layer, module in enumerate(_noisy(modules_of(net))):
        module.layer = layer


def _noisy(modules: Iterable[nn.Module]) -> list[NoisyModule]:
    return [module for module in modules if isinstance(module, NoisyModule)]


def is_random(module: nn.Module) -> bool:
    """Whether two draws of a module can differ."""
    return isinstance(module, NoisyModule) and module.stochastic and module.known_seed is None


def set_noise(net: nn.Module, noise: str, seed: int | None = None) -> None:
    """Sets the noise policy of a net that is used without a `Victim`.

    Args:
        net: The net; modules that draw nothing are left alone.
        noise: `"fresh"`, `"frozen"` or `"mean"`.
        seed: New seed for every noisy module, which also restarts its calls.

    Raises:
        InputError: If the policy is not known.
    """
    if noise not in POLICIES:
        raise unknown("noise policy", noise, POLICIES)
    for module in net.modules():
        if isinstance(module, NoisyModule):
            module.noise = noise
            if seed is not None:
                module.seed, module.calls = seed, 0
