"""Where the keys of random draws come from.

A module that draws asks for one key per sample. Where the settings of the pass give keys, it takes
those: that is how `Victim` decides what is random and what repeats. Otherwise it makes its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_snn.kernels import sample_keys
from robust_snn.neurons.pass_settings import DrawKeys, current_settings, next_use
from robust_snn.utils.errors import unknown

POLICIES = ("fresh", "frozen", "mean")
MOST_LAYERS = 2**16  # addresses of later uses in a pass begin behind these


def policy_keys(
    noise: str, seed: int, batch: int, call: int, draw: int = 0, device: torch.device | None = None
) -> Tensor:
    """Sample keys `[B]` of a noise policy.

    `fresh` keys differ between calls and samples. `frozen` keys are one constant, so that the
    network is a deterministic function of each image, whatever its place in a batch.
    """
    positions = torch.arange(batch, device=device)
    if noise == "frozen":
        return sample_keys(seed, torch.zeros_like(positions), draw)
    return sample_keys(seed, positions, draw, call)


class NoisyModule(nn.Module):
    """Base of the modules that draw random numbers.

    Attributes:
        layer: Address of the module in the random stream, where the settings of the pass have none;
            `number_layers` makes it unique in a net.
        noise: Policy while no caller gives keys: `"fresh"`, `"frozen"` or `"mean"`.
        seed: Seed of the module's own keys, taken from PyTorch's generator when it is built.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = 0
        self.noise = "fresh"
        self.seed = int(torch.randint(2**62, (), device="cpu"))
        self.calls = 0

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
            layer = settings.layers.get(self, self.layer) + MOST_LAYERS * next_use(self)
            drawn = DrawKeys(settings.keys, settings.mean_field, layer)
        else:
            keys = policy_keys(self.noise, self.seed, batch, self.calls, device=device)
            drawn = DrawKeys(keys, self.noise == "mean", self.layer)
            self.calls += 1
        if settings.recorded is not None:
            settings.recorded.append(drawn)
        return drawn


def layer_numbers(net: nn.Module) -> dict[nn.Module, int]:
    """An address for every noisy module of `net`, in the order of `net.modules()`."""
    return {module: layer for layer, module in enumerate(_noisy_modules(net))}


def number_layers(net: nn.Module) -> None:
    """Gives every noisy module of `net` its own address, for passes that bring none."""
    for layer, module in enumerate(_noisy_modules(net)):
        module.layer = layer


def _noisy_modules(net: nn.Module) -> list[NoisyModule]:
    return [module for module in net.modules() if isinstance(module, NoisyModule)]


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
