"""Half precision, which Numba does not know: rows of bit patterns, read and written as float32.

`uint16` stands for bfloat16 and `int16` for float16, so that a kernel is compiled for each.
"""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from torch import Tensor

from robust_snn.kernels.numba_tools.compile import helper

_BITS = np.uint32(16)


def bit_patterns(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor, as kernels take it."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    if tensor.dtype == torch.float16:
        return tensor.view(torch.int16).numpy()
    return tensor.numpy()


@intrinsic
def _from_float16(typing, bits):
    def generate(context, builder, signature, arguments):
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.int16), generate


@intrinsic
def _to_float16(typing, value):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.int16(types.float32), generate


@helper
def _from_bfloat16(bits):
    return np.uint32(np.uint32(bits) << _BITS).view(np.float32)


@helper
def _to_bfloat16(value):
    bits = np.float32(value).view(np.uint32)
    odd = np.uint32((bits >> _BITS) & np.uint32(1))  # ties go to even
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> _BITS)


def as_float(row, scratch):
    """The row as float32: itself, or widened into `scratch`."""


def put(out, j, value):
    """`out[j] = value`, rounded to the type of `out`."""


@overload(as_float)
def _as_float(row, scratch):
    if row.dtype == types.float32:
        return lambda row, scratch: row
    widen = _from_bfloat16 if row.dtype == types.uint16 else _from_float16

    def convert(row, scratch):
        for j in range(row.size):
            scratch[j] = widen(row[j])
        return scratch[: row.size]

    return convert


@overload(put, inline="always")
def _put(out, j, value):
    if out.dtype == types.float32:

        def keep(out, j, value):
            out[j] = value

        return keep
    narrow = _to_bfloat16 if out.dtype == types.uint16 else _to_float16

    def convert(out, j, value):
        out[j] = narrow(value)

    return convert
