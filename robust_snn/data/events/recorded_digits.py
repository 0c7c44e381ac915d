"""`digits-events`: scikit-learn's digits as an event camera would see them in motion.

The recording imitates that of N-MNIST (Orchard et al., Frontiers in Neuroscience 2015), where a
camera looks at a still digit and makes three quick movements (saccades) of 100 ms along a triangle.
The events follow the usual contrast-threshold model of such cameras (Lichtsteiner et al., IEEE
JSSC 2008; Rebecq et al., ESIM, CoRL 2018): pixel i remembers a log brightness `r_i`, and

    an ON event occurs whenever   log(I_i(t) + 0.1) - r_i >= c_i,    after which  r_i += c_i
    an OFF event occurs whenever  log(I_i(t) + 0.1) - r_i <= -c_i,   after which  r_i -= c_i

with thresholds `c_i` of mean 0.4 that differ from pixel to pixel by 10 %, as on a real sensor.
Brightness is followed in 60 steps of 5 ms, between which it changes linearly, so an event's time is
exact to a microsecond. Saccades are smooth (raised cosine), and their starting point differs from
recording to recording by up to 0.5 pixels. Nothing else is random: there is no background activity.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from robust_snn.data.events.frames import make_events
from robust_snn.data.image_set import ImageSet

CORNERS = ((0.0, 0.0), (1.0, 2.0), (2.0, 0.0), (0.0, 0.0))  # rows and columns, in units of REACH
REACH = 1 / 8  # half of a saccade's width, as a share of the image's
SACCADE = 100_000  # microseconds
STEPS_PER_SACCADE = 20  # brightness steps per saccade
THRESHOLD, MISMATCH = 0.4, 0.1
DARK = 0.1  # brightness of the background, below which contrast means nothing
JITTER = 0.5  # pixels


def record_digits(
    digits: ImageSet, n: int | None = None, seed: int = 0, earlier: int = 0
) -> list[np.ndarray]:
    """Records the images of a set.

    Args:
        digits: Grey images `[N, 1, H, W]` in [0, 1], bright on dark.
        n: How many to record, from the front; all if left out. It changes no recording.
        seed: Seed of the thresholds and of the starting points.
        earlier: Recordings by the same camera before these, such as those of the test set, whose
            starting points are not used again.

    Returns:
        One array of events per image, in the order of time.
    """
    images = digits.images.double()  # so that another CPU rounds no event away
    generator = torch.Generator().manual_seed(seed)
    spread = torch.randn(images.shape[-2:], generator=generator).double()
    threshold = (THRESHOLD * (1 + MISMATCH * spread)).clamp(min=THRESHOLD / 4)
    points = torch.rand(earlier + len(images), 2, generator=generator)[earlier:]
    start, images = ((2 * points - 1) * JITTER)[:n], images[:n]
    path = _path(images.shape[-1])
    remembered = before = _brightness(images, start + path[0])
    found: list[tuple[np.ndarray, ...]] = [(np.empty(0, np.int64),) * 5]  # if nothing is seen
    for step in range(1, len(path)):
        now = _brightness(images, start + path[step])
        found += _crossings(before, now, remembered, threshold, step)
        fired = ((now - remembered) / threshold).trunc()
        remembered, before = remembered + fired * threshold, now
    image, t, y, x, p = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((x, y, t, image))
    events = make_events(t[order], x[order], y[order], p[order])
    ends = np.bincount(image, minlength=len(images)).cumsum()
    return np.split(events, ends[:-1])


def _path(width: int) -> torch.Tensor:
    """Rows and columns by which the image has moved after every step, `[61, 2]`."""
    corners = torch.tensor(CORNERS).double() * (REACH * width)
    corners = corners - corners.mean(0)
    share = (1 - torch.cos(torch.pi * torch.arange(STEPS_PER_SACCADE) / STEPS_PER_SACCADE)) / 2
    legs = [a + share[:, None] * (b - a) for a, b in zip(corners[:-1], corners[1:], strict=True)]
    return torch.cat([*legs, corners[-1:]])


def _brightness(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Log brightness of images moved by `shift` `[N, 2]` rows and columns, `[N, H, W]`."""
    theta = torch.eye(2, 3, dtype=images.dtype).repeat(len(images), 1, 1)
    size = torch.tensor(images.shape[-2:])
    theta[:, :, 2] = -(2 * shift / size).flip(1)  # grid_sample counts columns first
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return torch.log(moved[:, 0] + DARK)


def _crossings(
    before: torch.Tensor,
    now: torch.Tensor,
    remembered: torch.Tensor,
    threshold: torch.Tensor,
    step: int,
) -> list[tuple[np.ndarray, ...]]:
    """Image, time, row, column and polarity of the events of one step."""
    times = ((now - remembered) / threshold).trunc()
    found = []
    for nth in range(1, int(times.abs().max()) + 1):
        image, y, x = (times.abs() >= nth).nonzero(as_tuple=True)
        sign = times[image, y, x].sign()
        level = remembered[image, y, x] + sign * nth * threshold[y, x]
        start, end = before[image, y, x], now[image, y, x]
        share = ((level - start) / (end - start)).nan_to_num(0.0).clamp(0, 1)  # 0 / 0 by rounding
        t = ((step - 1 + share) * (SACCADE / STEPS_PER_SACCADE)).round().long()
        found.append(tuple(column.numpy() for column in (image, t, y, x, sign > 0)))
    return found
