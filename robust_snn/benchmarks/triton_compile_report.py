"""What the Triton kernels compile to, without a GPU: registers, spills, loads, stores.

Kernels are compiled ahead of time for NVIDIA sm_80 and sm_90 and for AMD gfx942 with the tools
inside the Triton wheel. Run it in a process of its own, where `TRITON_INTERPRET` is not set.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_kernel

from robust_snn.gradients import parse_mode
from robust_snn.kernels import Dynamics, Gate
from robust_snn.kernels.spiking.kernel_args import (
    KernelArgs,
    LayerTensors,
    Wanted,
    kernel_args,
    layer_tensors,
)
from robust_snn.kernels.spiking.spec import Homeostasis, LayerInputs
from robust_snn.kernels.spiking.triton.backward import spiking_backward
from robust_snn.kernels.spiking.triton.forward import spiking_forward
from robust_snn.kernels.spiking.triton.launch import (
    backward_constants,
    factors,
    forward_constants,
    options,
)

GPUS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
_POINTERS = {"gate_keys": "*i64", "noise_keys": "*i64", "saved_bytes": "*u8"}
_INTEGERS = (
    "B",
    "N",
    "channels",
    "pixels",
    "gate_layer",
    "noise_layer",
    "sharpness_step",
    "sharpness_sample",
    "leak_step",
    "leak_sample",
)
_STACKS = ("upstream", "current", "out", "grad_current")
_FLOATS = ("scale", "shift", "probability", "firing_table", "leaks", "rate", "usual")
_GRADIENTS = ("grad_affine", "grad_probability", "grad_gains", "grad_leaks", "grad_rate")
_ALIGNED = ("N", "channels", "pixels")
_KINDS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_VECTORS = (".64", ".128", "dwordx2", "dwordx4", "_b64", "_b128")  # of two or four floats
_H100_BANDWIDTH = 3.35e12  # bytes per second


@dataclass(frozen=True)
class CompileReport:
    """One compiled kernel; loads and stores count vector instructions of one thread."""

    kernel: str
    case: str
    target: str
    dtype: str
    layout: str
    steps: int
    block: int
    registers: int
    spills: int
    loads: int
    stores: int
    instructions: int
    bytes_per_neuron_step: float
    h100_floor_us: float  # of 64 x 32 x 32 neurons, batch 128


@dataclass(frozen=True)
class CompileCase:
    """A combination of gradient mode, randomness and neurons to compile."""

    mode: str
    gated: bool = False
    affine: bool = False
    leaks: bool = False  # one per neuron and step
    adapts: bool = False
    dynamics: Dynamics = Dynamics(0.9)

    def layer(self, steps: int) -> tuple[KernelArgs, LayerTensors]:
        """Numbers and tensors of a layer; the constants depend on which tensors are given."""
        placeholder: Any = object()
        gate = Gate(placeholder, placeholder) if self.gated else None
        affine = (placeholder, placeholder) if self.affine else None
        adapting = Homeostasis(placeholder, placeholder) if self.adapts else None
        inputs = LayerInputs(steps, affine, gate=gate, homeostasis=adapting)
        rule: Any = parse_mode(self.mode).rule(self.dynamics)
        return kernel_args(self.dynamics, rule, inputs), layer_tensors(inputs)


CASES = {
    "bptt": CompileCase("bptt"),
    "bptt+affine": CompileCase("bptt", affine=True),
    "bptt+gate": CompileCase("bptt(surrogate=atan)", gated=True),
    "compact": CompileCase("bptt(save=compact)"),
    "bptr": CompileCase("bptr"),
    "hart": CompileCase("hart"),
    "bptt+leaks": CompileCase("bptt", leaks=True),
    "bptt+levels": CompileCase(
        "bptt(surrogate=rectangle)", dynamics=Dynamics(1.0, 0.5, reset="soft", drop=1.0, levels=4)
    ),
    "bptt+adapting": CompileCase("bptt", adapts=True),
}


def compile_report(
    kernel: str, case: str, target: str, steps: int, dtype: str = "float32", layout: str = "first"
) -> CompileReport:
    """Compiles a kernel for one device.

    Args:
        kernel: `"forward"` or `"backward"`.
        case: Row of `CASES`.
        target: Row of `GPUS`.
        steps: Number of time steps.
        dtype: `"float32"`, `"bfloat16"` or `"float16"`: type of currents and spikes.
        layout: Whether channels lie `"first"` or `"last"` in memory.
    """
    function = spiking_forward if kernel == "forward" else spiking_backward
    args, tensors = CASES[case].layer(steps)
    kind: torch.dtype = getattr(torch, dtype)
    constants = _constants(kernel, args, kind, layout == "last")
    absent = _absent(function, args, tensors, CASES[case].leaks)
    compiled = _compile(function, {**constants, **dict.fromkeys(absent)}, target, _KINDS[kind])
    registers, spills, loads, stores, instructions = machine_code(compiled, target)
    traffic = _traffic(kernel, args, kind.itemsize)
    return CompileReport(
        kernel,
        case,
        target,
        dtype,
        layout,
        steps,
        constants["BLOCK"],
        registers,
        spills,
        loads,
        stores,
        instructions,
        traffic,
        traffic * 128 * 65536 * steps / _H100_BANDWIDTH * 1e6,
    )


def _constants(kernel: str, args: KernelArgs, dtype: torch.dtype, last: bool) -> dict[str, Any]:
    if kernel == "forward":
        return forward_constants(args, dtype, single=False, last=last, trace=False)
    wanted = Wanted(False, last, affine=False, gains=False, probability=False)
    return backward_constants(args, single=False, single_upstream=False, wanted=wanted)


def _absent(function: Any, args: KernelArgs, tensors: LayerTensors, leaks: bool) -> list[str]:
    """The arguments that a call of such a layer leaves out."""
    given = {name for name, tensor in tensors._asdict().items() if tensor is not None}
    given |= {"upstream", "out", "saved_bytes", "grad_current"}
    given |= {"leaks", "leak_step"} if leaks else set()
    given |= {"current"} if function is spiking_forward or args.recomputes else set()
    pointers = {*_STACKS, *_FLOATS, *_POINTERS, *tensors._fields, *_GRADIENTS, "sharpness_map"}
    pointers |= {"leaks", "leak_step", "leak_sample"}
    neutral = {name for name, number in factors(args)._asdict().items() if number is None}
    return [name for name in function.arg_names if name in (pointers - given) | neutral]


def _traffic(kernel: str, args: KernelArgs, size: int) -> float:
    """Bytes that must move per neuron and step, with currents of `size` bytes."""
    if not args.recomputes:
        return 2 * size + args.saved_steps / args.steps
    return 2 * size if kernel == "forward" else 3 * size


def _compile(function: Any, constants: dict[str, Any], target: str, dtype: str) -> Any:
    signature = {}
    for name in function.arg_names:
        kind = "*" + dtype if name in _STACKS else "*fp32" if name in _FLOATS else "fp32"
        kind = "i32" if name in _INTEGERS else _POINTERS.get(name, kind)
        signature[name] = "constexpr" if name in constants else kind
    places = {name: (place,) for place, name in enumerate(function.arg_names)}
    aligned = [n for n, kind in signature.items() if kind.startswith("*") or n in _ALIGNED]
    source = ASTSource(
        fn=function,
        signature=signature,
        constexprs={places[name]: value for name, value in constants.items()},
        attrs={places[name]: [["tt.divisibility", 16]] for name in aligned},
    )
    device = GPUS[target]
    return compile_kernel(source, target=device, options=options(device.warp_size))


def machine_code(compiled: Any, target: str) -> tuple[int, int, int, int, int]:
    """Registers, spills, vector loads, vector stores and instructions of a compiled kernel."""
    return (_count_amd if target.startswith("gfx") else _count_nvidia)(compiled)


def _count_nvidia(compiled: Any) -> tuple[int, int, int, int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(compiled.asm["cubin"])
        usage, code = (
            subprocess.run(
                [tool, option, binary], capture_output=True, text=True, check=True
            ).stdout
            for option in ("--dump-resource-usage", "-sass")
        )
    registers = re.search(r"REG:(\d+)", usage)
    lines = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]+)", code)
    return (
        int(registers.group(1)) if registers else -1,
        sum(line.startswith(("LDL", "STL")) for line in lines),
        sum(line.startswith("LDG") and line.endswith(_VECTORS) for line in lines),
        sum(line.startswith("STG") and line.endswith(_VECTORS) for line in lines),
        len(lines),
    )


def _count_amd(compiled: Any) -> tuple[int, int, int, int, int]:
    code = compiled.asm["amdgcn"]
    numbers = {
        name: int(found.group(1)) if (found := re.search(rf"\.{name}:\s+(\d+)", code)) else -1
        for name in ("vgpr_count", "vgpr_spill_count")
    }
    lines = re.findall(r"^\s+([a-z]+_[a-z]\w+)", code, re.M)
    wide = [line for line in lines if line.endswith(_VECTORS)]
    return (
        numbers["vgpr_count"],
        numbers["vgpr_spill_count"],
        sum("load" in line and not line.startswith("s_") for line in wide),
        sum("store" in line for line in wide),
        len(lines),
    )
