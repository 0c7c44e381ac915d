"""What Triton's kernel of attention compiles to without a GPU; see `triton_compile_report`."""

from __future__ import annotations

from typing import Any

from triton.compiler import ASTSource
from triton.compiler import compile as compile_kernel

from robust_snn.benchmarks.triton_compile_report import GPUS, machine_code
from robust_snn.kernels.attention.triton.launch import constants
from robust_snn.kernels.attention.triton.products import head_attention
from robust_snn.kernels.spiking.triton.launch import options

_MAPS = ("q", "k", "v", "out")


def attention_report(
    target: str, width: int, wide: int, dtype: str = "fp32", last: bool = False
) -> dict[str, int]:
    """Registers and spills of the kernel for one device.

    Args:
        target: Row of `GPUS`.
        width: Channels of queries and keys per head.
        wide: Channels of values per head.
        dtype: Type of the maps in Triton's words, `"fp32"`, `"bf16"` or `"fp16"`.
        last: Whether channels lie last in memory.
    """
    chosen = constants(width, wide, last)
    kinds = dict.fromkeys(_MAPS, f"*{dtype}") | {"scale": "fp32"}
    kinds |= dict.fromkeys(chosen, "constexpr")
    names = head_attention.arg_names
    places = {name: (place,) for place, name in enumerate(names)}
    divisible: list[Any] = [["tt.divisibility", 16]]
    source = ASTSource(
        fn=head_attention,
        signature={name: kinds.get(name, "i32") for name in names},
        constexprs={places[name]: value for name, value in chosen.items()},
        attrs={places[name]: divisible for name in _MAPS},
    )
    device = GPUS[target]
    compiled = compile_kernel(source, target=device, options=options(device.warp_size))
    registers, spills, *_ = machine_code(compiled, target)
    return {"registers": registers, "spills": spills}
