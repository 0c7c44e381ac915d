"""What `Victim(net)` takes without `adapt`: networks of ours, and layers that cannot fire."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robust_snn.foreign.bridges import Bridged
from robust_snn.foreign.hidden_state import restore_all, same, snapshot
from robust_snn.foreign.library import find_states
from robust_snn.foreign.network_modes import inside_network
from robust_snn.foreign.survey import survey, tensors_of
from robust_snn.gradients import TakesModes
from robust_snn.kernels import sample_keys
from robust_snn.neurons.fixed_network import STATELESS, fixed_network
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.neurons.pass_settings import PassSettings, is_neuron
from robust_snn.utils.errors import InputError
from robust_snn.victim import add_network_check
from robust_snn.victim.batch_grouping import known_groupings, passed

HIDING = (torch.jit.ScriptModule, torch.fx.GraphModule)  # code of anybody, in classes of PyTorch
HARMLESS = ("__init__", "__repr__", "extra_repr", "reset_parameters")  # of a subclass
SHOWN = 3  # names of classes
LOOKED_AT = 4  # images

_looked_at: WeakKeyDictionary[nn.Module, list[type]] = WeakKeyDictionary()  # of its modules
_looking = Lock()


def refuse_unadapted(net: nn.Module) -> None:
    """Refuses a network of somebody else's, which `adapt` runs to see what it does.

    It is one of ours if neurons of ours are in it. What else is in it is looked at on the first
    images; see `refuse_unreached`. Layers of PyTorch, torchvision and timm alone, which neither
    fire nor keep anything, are taken too.

    Raises:
        InputError: If it holds a neuron of another library outside of a `ForeignSNN`, or no neuron
            of ours and a class that nobody knows.
    """
    adapted = inside_adapted(net)
    for module, owner in find_states(net):
        if module not in adapted:
            raise InputError(
                f"{type(net).__name__} holds {type(module).__name__} of {owner.name}, which keeps "
                "a state between calls; use robust_snn.adapt(net, T=...) instead of Victim(net)"
            )
    if (unknown := unknown_classes(net)) and not has_neurons_of_ours(net):
        raise InputError(
            f"{type(net).__name__} is no network of robust_snn, and {_listed(unknown)} may fire or "
            "keep a state in ways that Victim(net) does not see; use robust_snn.adapt(net), which "
            "runs it to find out"
        )


def refuse_unreached(net: nn.Module, images: Tensor, modules: Sequence[nn.Module]) -> None:
    """Refuses a network of ours in which something else fires, or keeps a state between calls.

    Only networks with classes that nobody knows are run, on a few images, once in a process and
    again where a module of another class was put in. What a bridge crosses is its own work.

    Args:
        net: The network.
        images: Some images, `[B, ...]`.
        modules: All modules of the network.

    Raises:
        InputError: If `what_is_not_ours` says something.
    """
    if isinstance(net, Bridged):
        modules = [module for module in modules if module is not net]
        net = net.net
    kinds = list(map(type, modules))
    if _looked_at.get(net) == kinds:
        return
    with _looking:
        if _looked_at.get(net) == kinds:
            return
        if (found := what_is_not_ours(net, images)) is not None:
            raise InputError(f"{found}; use robust_snn.adapt(net) instead of Victim(net)")
        _looked_at[net] = kinds


def what_is_not_ours(net: nn.Module, images: Tensor) -> str | None:
    """What a network of ours does on a few images beside what its neurons do, if anything."""
    unknown = unknown_classes(net)
    if not unknown or inside_adapted(net):
        return None
    images = images[:LOOKED_AT].detach().float()
    settings = PassSettings(sample_keys(0, torch.arange(len(images), device=images.device)))

    def run(shown: Tensor) -> list[Tensor]:
        with inside_network():
            return tensors_of(passed(net, shown.clone, settings, known_groupings(net)))

    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([images.device] if images.is_cuda else []))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(fixed_network(net))
        before = snapshot(net)
        with torch.no_grad():
            first, _, again = run(images), run(1 - images), run(images)
        if not same(first, again):
            restore_all(net, before)
            return (
                f"{type(net).__name__} answers the same images differently: {_listed(unknown)} "
                "keeps a state between calls, or draws random numbers"
            )
        plan = survey(net, run, images)
        known = {path for path, module in net.named_modules() if is_known(module)}
        fires = [n for n in plan.neurons if n.name.split("#")[0] not in known]
        if not fires:
            return None
        restore_all(net, before)
        return (
            f"{fires[0].name} fires by {fires[0].form} beside the neurons of robust_snn, and "
            "gradient modes would not reach it"
        )


def unknown_classes(net: nn.Module) -> list[str]:
    """Names of the classes of a network that neither we nor `adapt` know."""
    adapted = inside_adapted(net)
    strange = (m for m in net.modules() if m not in adapted and not is_known(m))
    return sorted({type(module).__name__ for module in strange})


def is_known(module: nn.Module) -> bool:
    """Whether a module is of a package whose layers keep no state, or adds no code to such a one.

    A neuron of ours in a subclass is one of ours.
    """
    if type(module).__name__ == "OptimizedModule":  # of torch.compile: what it compiles is inside
        return True
    if isinstance(module, HIDING) or "forward" in vars(module):
        return False
    if isinstance(module, NoisyModule) or is_neuron(module):
        return True
    for cls in type(module).__mro__:
        if cls.__module__.partition(".")[0] in STATELESS:
            return True
        if any(_is_code(value) and name not in HARMLESS for name, value in vars(cls).items()):
            return False
    return False


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, staticmethod | classmethod | property)


def has_neurons_of_ours(net: nn.Module) -> bool:
    """Whether neurons of ours are in a network, or a module that says which modes it takes."""
    return any(is_neuron(m) or isinstance(m, NoisyModule) or _takes(m) for m in net.modules())


def inside_adapted(net: nn.Module) -> set[nn.Module]:
    """The modules of a network about which a module around them says which modes it takes."""
    return {m for known in net.modules() if _takes(known) for m in known.modules()}


def _takes(module: nn.Module) -> bool:
    """Whether it is a `TakesModes`, of which `isinstance` takes 50 us, for every new victim."""
    return hasattr(module, TakesModes.takes.__name__)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" and others" if len(names) > SHOWN else "")


add_network_check(refuse_unadapted, refuse_unreached)
