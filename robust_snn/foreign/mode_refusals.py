"""Gradient modes that a network of other people does not take, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robust_snn.foreign.spike_function import step_of
from robust_snn.foreign.spike_plan import SpikePlan
from robust_snn.gradients import GradientMode
from robust_snn.kernels import Dynamics, RateSlope, Recursion, TimeAverage
from robust_snn.kernels.spiking.adaptive_surrogates import AdaptiveSurrogate
from robust_snn.utils.errors import InputError

if TYPE_CHECKING:
    from robust_snn.foreign.foreign_net import ForeignSNN

NOT_FOUND = "its spike function was not found"


def refuse_mode(net: ForeignSNN, mode: GradientMode, plan: SpikePlan) -> None:
    """Refuses a gradient mode that a network does not take.

    Args:
        net: The network.
        mode: The mode.
        plan: Its spike functions.

    Raises:
        InputError: Naming a neuron, the reason and the way out.
    """
    for path, twin in zip(net.paths, net.members, strict=True):
        if (reason := twin.owner.fixed(twin.node)) is not None and path not in plan.idle:
            raise InputError(
                f"{mode.name} cannot reach {path}: {reason}; adapt the net with gradient='own'"
            )
    if plan.unreached is not None:
        raise InputError(plan.unreached)
    if not net.exchanges(mode) or not net.neurons:
        return
    rule = mode.rule(Dynamics())
    firing = any(call.neuron >= 0 for call in plan.outside(net.paths).calls)
    if plan.own_alone is not None and (firing or not isinstance(rule, Recursion)):
        raise InputError(
            f"{mode.name} cannot be used on {net.name}: {plan.own_alone}; choose gradient='own'"
        )
    if isinstance(rule, Recursion):
        for node, owner in net.nodes():
            owner.swap(node, step_of(node, owner), rule.detach_reset)  # it may refuse
        return
    refusals = net.refusals
    reasons = {path: refusals.get(path, NOT_FOUND) for path in net.unplanned(plan)}
    reasons |= plan.mixed if isinstance(rule, AdaptiveSurrogate) else plan.unrecognised
    if isinstance(rule, TimeAverage) and plan.feedback is not None and not reasons:
        reasons[net.name] = plan.feedback
    if not isinstance(rule, AdaptiveSurrogate | RateSlope | TimeAverage):
        reasons = {net.name: "it replaces spikes, which the net's own neurons do not allow"}
    if reasons:
        path, reason = next(iter(reasons.items()))
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        others = "choose bptt with a surrogate, or ste"
        raise InputError(
            f"{mode.name} cannot be used on {net.name}: {path}: {reason}{more}; "
            + (others if plan.reached or net.paths else "choose gradient='own'")
        )
