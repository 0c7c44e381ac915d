"""How many neurons a kernel takes through all steps at a time: what is fastest on this machine.

Long runs suit the memory, short ones the cache of a processor. No result depends on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from robust_snn.kernels.measurements import kept, least_seconds, once
from robust_snn.kernels.measurements import measured_here as measured
from robust_snn.kernels.spiking.codes import Randomness, Saved, Time
from robust_snn.kernels.spiking.kernel_args import KernelArgs

BLOCK = 4096  # neurons where nothing is measured
SIZES = BLOCK, 4 * BLOCK
TASKS = 4  # blocks that each thread has at least, so that all are done at once
WORTH = 1 << 19  # values of a stack; what is smaller is done before a choice would show
GAIN = 0.97  # of the time of the first size at most: what is gained must exceed noise
KIND = "block of neurons for "


def choose_block(
    name: str,
    args: KernelArgs,
    stack: Tensor,
    run: Callable[[int], None],
    clear: Callable[[], object],
) -> int:
    """Neurons of a block.

    Args:
        name: What the kernel is called in the file of measurements.
        args: Its numbers.
        stack: Currents or gradients `[T, B, ...]`; only their shape and type count.
        run: Runs the kernel with blocks of so many neurons.
        clear: Undoes what `run` adds up.
    """
    neurons = stack.shape[2:].numel()
    if neurons <= BLOCK or stack.numel() < WORTH:
        return BLOCK
    threads = torch.get_num_threads()
    if stack.shape[1] * -(-neurons // SIZES[-1]) < TASKS * threads:
        return BLOCK
    size = 1 << (min(neurons, 4 * SIZES[-1]) - 1).bit_length()
    codes = args.time, args.saves, args.gating, args.firing

    def find() -> int:
        kind = _kind(name, args, len(stack), size, stack.dtype)
        found = kept(kind, partial(_measure, run, clear), SIZES[-1])
        clear()
        return int(found) if found in SIZES else BLOCK

    return int(once((KIND, name, codes, len(stack), size, stack.dtype, threads), find))


def _kind(name: str, args: KernelArgs, steps: int, neurons: int, dtype: torch.dtype) -> str:
    """What decides how long a kernel takes, in words."""
    codes = Time(args.time), Saved(args.saves), Randomness(args.gating), Randomness(args.firing)
    time, saves, gate, noise = (code.name.lower() for code in codes)
    rule = f"{time}, saves {saves}, gate {gate}, noise {noise}"
    return f"{KIND}{name}, {rule}, {steps} steps, {neurons} neurons, {dtype}"


def _measure(run: Callable[[int], None], clear: Callable[[], object]) -> int:
    seconds = least_seconds([partial(run, size) for size in SIZES], clear)
    fastest = min(range(len(SIZES)), key=seconds.__getitem__)
    return SIZES[fastest] if seconds[fastest] < GAIN * seconds[0] else BLOCK


def measured_here() -> Counter[int]:
    """How many kinds of layers were fastest with blocks of so many neurons on this machine."""
    return Counter(int(size) for size in measured(KIND).values())
