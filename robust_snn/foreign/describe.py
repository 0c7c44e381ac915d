"""What was found in a network, in one line for its owner."""

from __future__ import annotations

from collections import Counter

from robust_snn.foreign.runnable import Study
from robust_snn.gradients import Reach

SHOWN = 4  # names of neurons


def summary(name: str, found: Study, neurons: tuple[str, ...], reach: dict[str, Reach]) -> str:
    """How a network is run, what fires in it, and which gradient modes reach that.

    Args:
        name: Class of the network.
        found: What running it showed.
        neurons: Names of its neurons.
        reach: Which of them each mode reaches, the network's own among them.
    """
    run = f"{name}: shown {found.layout.value}, read {found.reading}"
    if not neurons and found.plan.unreached is not None:
        return f"WARNING: {run}; {found.plan.unreached}"
    if not neurons:
        return (
            f"WARNING: {run}; no spike function was found, so gradient modes reach no neuron and "
            "attacks use the network's own gradient ('own')"
        )
    shown = ", ".join(neurons[:SHOWN]) + (", ..." if len(neurons) > SHOWN else "")
    forms = ", ".join(
        f"{count} {form}" for form, count in Counter(n.form for n in found.plan.neurons).items()
    )
    sites = "1 spike site" if len(neurons) == 1 else f"{len(neurons)} spike sites"
    what = f"{sites} ({shown}){f' by {forms}' if forms else ''}"
    refused = {mode: answer.refusal for mode, answer in reach.items() if answer.refusal}
    taken = [mode for mode, answer in reach.items() if answer.neurons and mode not in refused]
    text = f"{run}; {what}; modes {', '.join(taken) or 'none'}"
    if (no_gradient := refused.pop("own", None)) is not None:
        text += f"; not own: {no_gradient}"
    if refused:
        text += f"; not {', '.join(refused)}: {next(iter(refused.values()))}"
    if found.plan.missed:
        missed = ", ".join(f"{n}: {why}" for n, why in found.plan.missed.items())
        text += f"; WARNING: not reached: {missed}"
    return text
