"""How somebody's network is to be run and read, found by running it on a few images.

It is run in the ways that its arguments allow, and that way is taken in which every image gets
logits of its own, whatever images are beside it.
"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from robust_snn.foreign.counted_steps import refuse_one_step, refuse_own_steps, warn_of_other_lists
from robust_snn.foreign.hidden_state import restore_all, snapshot
from robust_snn.foreign.layout_trial import BATCHES, Differs, ImagesMix, try_layout
from robust_snn.foreign.outside_state import moved_outside, outside
from robust_snn.foreign.runnable import Layout, Runnable, Study, spike_plan, surveyed
from robust_snn.utils.errors import InputError, is_out_of_memory
from robust_snn.utils.modules import unlike_images


class NotRunnable(InputError):
    """The network runs in none of the ways in which it may be shown images of a shape."""


def study(subject: Runnable, x: Tensor) -> Study:
    """Finds out how a network is to be run on images like these.

    Args:
        subject: The network.
        x: Images `[B, C, H, W]`, or event frames `[B, T, C, H, W]`.

    Raises:
        InputError: If it cannot be run so that every image gets logits of its own; a `NotRunnable`
            if that may be for the shape of the images.
    """
    images, elsewhere = _some(x), outside(subject.net)
    if subject.T is not None and x.dim() == 4:
        refuse_own_steps(subject, images)
    failures, mixes = list[str](), False
    before = snapshot(subject.net)
    for layout in _layouts(subject, x):
        try:
            found = try_layout(subject, images, layout)
        except Differs as error:
            kept = moved_outside(elsewhere, subject.net)
            raise InputError(
                f"{subject.name} answers the same images differently; {kept or error}"
            ) from None
        except InputError:
            raise
        except Exception as error:  # whatever a network does with what it is not made for
            restore_all(subject.net, before)
            if is_out_of_memory(error):  # a smaller batch may do
                raise
            mixes = mixes or isinstance(error, ImagesMix)
            failures.append(f"shown {layout.value}: {error}")
            continue
        try:
            if subject.T is None:
                refuse_one_step(subject, images, found)
            plan = spike_plan(subject, x, layout, found.reading)
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, InputError):
                raise
            raise InputError(_why_not_surveyed(subject, x, layout, error)) from error
        warn_of_other_lists(subject, images, found, plan.loop)
        return found._replace(plan=plan)
    if kept := moved_outside(elsewhere, subject.net):
        raise NotRunnable(f"{subject.name} runs on one batch of images and not on another; {kept}")
    if mixes and subject.T is None and not _takes_steps(subject, images):
        raise InputError(_why_mixed(subject, failures[-1]))
    raise NotRunnable(_why_no_logits(subject, x, failures))


def _some(x: Tensor) -> Tensor:
    """Three images, made of those at hand where they are fewer."""
    images = [x[i % len(x)] for i in range(BATCHES[0])]
    return torch.stack([im if i < len(x) else im.flip(-1) for i, im in enumerate(images)]).detach()


def _layouts(subject: Runnable, x: Tensor) -> tuple[Layout, ...]:
    if subject.T is None and x.dim() == 5:
        first, second = Layout.BATCH_FIRST, Layout.TIME_FIRST
        return (second, first) if subject.sequences else (first, second)
    if subject.T is None:
        return (Layout.IMAGES,)
    if subject.sequences:
        return Layout.TIME_FIRST, Layout.BATCH_FIRST
    return Layout.STEPS, Layout.TIME_FIRST, Layout.BATCH_FIRST, Layout.TIME_LAST


def _takes_steps(subject: Runnable, images: Tensor) -> bool:
    """Whether the network runs on images with an axis of time, which `T` gives them."""
    frames = images.unsqueeze(1).expand(-1, 2, *images.shape[1:])
    for layout in (Layout.TIME_FIRST, Layout.BATCH_FIRST):
        with suppress(Exception), torch.no_grad():  # not made for it
            subject.raw(frames, layout)
            return True
    return False


def _why_mixed(subject: Runnable, failure: str) -> str:
    """What is said of a network whose images influence each other where it is shown images."""
    return (
        f"{subject.name}: {failure.partition(': ')[2]}, so that no image has logits of its own; "
        "somewhere the batch is an axis of time or of features, or has statistics: give neurons "
        "and norms [T, B, ...] there in place of [T * B, ...], and each image statistics of its own"
    )


def _why_no_logits(subject: Runnable, x: Tensor, failures: list[str]) -> str:
    """What is said of a network that failed in every way in which it was shown images."""
    call = "adapt(net)" if subject.T is not None else "adapt(net, T=...)"
    return (
        f"{subject.name} gives no logits for each of {tuple(x.shape)} images "
        f"({'; '.join(failures)}); say robust_snn.{call}, or which part of its output to read: "
        "adapt(net, output=function); what it keeps outside of its modules its forward has to reset"
        f"{unlike_images(subject.net)}"
    )


def _why_not_surveyed(subject: Runnable, x: Tensor, layout: Layout, error: Exception) -> str:
    """What is said of a network that runs on a few images, and failed while it was looked at."""
    images, why = surveyed(x), f"{type(error).__name__}: {error}"
    try:
        subject.raw(images, layout)
    except Exception:  # whatever a network does with another number of images
        return (
            f"{subject.name} takes {BATCHES[0]} images, and fails on {len(images)} ({why}); it "
            "must take any number of them"
        )
    return (
        f"{subject.name} runs, but not while its operations are looked at ({why}); write what "
        "fails with plain operations of PyTorch, as a loop over steps"
    )
