"""A plugin for pytest: tests of devices, on a machine without a GPU; `make test-devices`.

The device "mirror" is the CPU's memory under another name (see mirror.cpp, which is compiled at the
first use). Tensors of both never meet in an operation, as on a GPU; its kernels are the CPU's.
"""

from __future__ import annotations

import contextlib
import types
from pathlib import Path

import torch
from torch.utils.cpp_extension import load

HERE = Path(__file__).parent
BUILT = HERE.parents[1] / "build" / "mirror_device"


def register() -> None:
    """Makes the device known to PyTorch."""
    BUILT.mkdir(parents=True, exist_ok=True)
    extension = load("mirror_device_cpp", [str(HERE / "mirror.cpp")], build_directory=str(BUILT))
    torch.utils.rename_privateuse1_backend("mirror")
    extension.start()
    module = types.ModuleType("torch.mirror")
    nothing = contextlib.nullcontext
    answers = {
        "is_available": True,
        "is_initialized": True,
        "_is_in_bad_fork": False,
        "device_count": 1,
        "current_device": 0,
        "current_stream": None,
        "synchronize": None,
        "manual_seed_all": None,
        "set_rng_state": None,
        "get_amp_supported_dtype": [torch.bfloat16, torch.float16],
    }
    for name, answer in answers.items():
        setattr(module, name, lambda *_, answer=answer: answer)
    module.get_rng_state = lambda *_: torch.get_rng_state()  # type: ignore[attr-defined]
    module.device = module.stream = lambda *_: nothing()  # type: ignore[attr-defined]
    torch._register_device_module("mirror", module)
    torch.utils.generate_methods_for_privateuse1_backend()


register()
