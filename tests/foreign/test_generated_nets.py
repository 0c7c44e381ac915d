"""Networks that nobody has seen: every one is reached and verified, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.foreign.generated_nets import CLASSES, SIDE, write_net
from tests.helpers import assert_close_rms

IMAGES = torch.rand(8, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
MODES = ("ste", "pdsg", "assg", "bptr", "rga", "hart")


def author(net: nn.Module, x: Tensor) -> Tensor:
    """Logits as the author of a generated network means them."""
    for module in net.modules():
        if isinstance(vars(module).get("v"), Tensor):
            module.v = 0.0  # type: ignore[assignment]
    out: Any = net(x)
    if isinstance(out, dict):
        return out["logits"]
    out = out[0] if isinstance(out, tuple) else out
    out = torch.stack(out) if isinstance(out, list) else out
    if out.dim() == 2:
        return out
    return out.mean(0 if out.shape[1] == len(x) else 1)


def gradient(logits: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad((logits * torch.arange(1.0, 1 + CLASSES)).sum(), x)[0]


def check(seed: int, device: str | torch.device = "cpu", modes: tuple[str, ...] = MODES) -> int:
    """Adapts a generated network on a device; returns how many modes reach it."""
    written, images = write_net(seed), IMAGES.to(device)
    torch.manual_seed(seed)
    net = written.build().make_net().to(device)
    victim = adapt(net, images=images)
    assert victim.net.neurons, written.source
    x = images.clone().requires_grad_()
    expected = author(net, x)
    own = gradient(expected, x)
    logits = victim(x)
    assert torch.equal(logits, expected), written.source
    assert_close_rms(gradient(logits, x), own)
    same = victim.replace(gradient=f"bptt(surrogate={written.surrogate})")(x)
    assert torch.equal(same, expected), written.source
    assert_close_rms(gradient(same, x), own)
    detached = write_net(seed, detached=True).build().make_net().to(device)
    detached.load_state_dict(net.state_dict())
    mode = f"bptt(surrogate={written.surrogate},detach_reset=true)"
    if not victim.takes(mode).missed:
        assert_close_rms(
            gradient(victim.replace(gradient=mode)(x), x), gradient(author(detached, x), x)
        )
    reached = 0
    for mode in modes:
        reach = victim.takes(mode)
        if reach.refusal is None:
            other = victim.replace(gradient=mode)(x)
            assert torch.equal(other, expected) and gradient(other, x).isfinite().all()
            reached += 1
        else:
            assert mode in reach.refusal and "choose" in reach.refusal
    return reached


@pytest.mark.parametrize("start", range(0, 40, 10))
def test_generated_networks_are_reached(start: int, device: torch.device) -> None:
    seeds = range(start, start + 10)
    if device.type != "cpu":  # some make their first membrane on the CPU
        seeds = [seed for seed in seeds if "torch.zeros(1)" not in write_net(seed).source]
    assert sum(check(seed, device) for seed in seeds) > 3 * len(seeds)


def test_spikes_that_come_again() -> None:
    """A network whose neurons fire alike in their first step and in a later one."""
    assert check(227) == len(MODES)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(40, 500, 20))
def test_more_generated_networks_are_reached(start: int) -> None:
    for seed in range(start, start + 20):
        check(seed, modes=("pdsg", "bptr"))
