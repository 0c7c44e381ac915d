"""sinabs' states (3.1). Nothing here imports sinabs.

Its spike functions are found while a net runs, as those of any other code are.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from robust_snn.foreign.library import library_of_states


def holds(module: nn.Module) -> bool:
    names = ("reset_states", "is_state_initialised", "init_state_with_shape")
    return all(hasattr(module, name) for name in names)


def reset(module: nn.Module) -> None:
    """Empties the buffers, as they are at first.

    `reset_states` would keep their size, and a batch of another size then draws random numbers to
    choose whose state it goes on with.
    """
    some: Any = module
    for name, buffer in module.named_buffers(recurse=False):
        some.register_buffer(name, buffer.detach().new_zeros(0))


LIBRARY = library_of_states("sinabs", holds, reset)
