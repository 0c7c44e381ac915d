"""A compiled function that several threads run, each on shares of its tasks."""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

RUN = "robust_snn_run"  # a symbol that machine code calls as OpenMP's `GOMP_parallel`
_BYTES, _WORD, _LONG = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
_SHARE = ir.FunctionType(ir.VoidType(), [_BYTES])
_NEXT, _FAILED, _SHARES, _TASKS, _ARGUMENTS = range(5)  # what all threads read


@intrinsic
def run_shares(typing, function, shares, tasks, arguments):
    """Calls `function(start, stop, *arguments)` on shares of `range(tasks)`, from several threads.

    Every thread takes the next share until none is left, however many threads there are. Returns
    the number of calls that failed, which they do for want of memory alone.
    """
    dispatcher, called = function.dispatcher, types.void(types.intp, types.intp, arguments)

    def call(start, stop, arguments):
        dispatcher(start, stop, *arguments)

    def generate(context, builder, signature, given):
        _, shares, tasks, values = given
        held = (_LONG(0), _LONG(0), shares, tasks, values)
        data = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in held]))
        for field, value in enumerate(held):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, field))
        compiled = context.compile_subroutine(builder, call, called).fndesc
        share = ir.Function(builder.module, _SHARE, f"{builder.function.name}.share")
        share.linkage = "internal"

        def run_one(inner, start, stop, values):
            inputs = start, stop, values
            return context.call_internal_no_propagate(inner, compiled, called, inputs)[0].is_error

        _take_shares(share, data.type, run_one)
        several = builder.icmp_signed(">", shares, _LONG(1))
        shared = builder.bitcast(data, _BYTES)
        with builder.if_else(several) as (then, otherwise):
            with then:
                kind = ir.FunctionType(ir.VoidType(), [_SHARE.as_pointer(), _BYTES, _WORD, _WORD])
                run = cgutils.get_or_insert_function(builder.module, kind, RUN)
                builder.call(run, [share, shared, builder.trunc(shares, _WORD), _WORD(0)])
            with otherwise:
                builder.call(share, [shared])
        return builder.load(cgutils.gep_inbounds(builder, data, 0, _FAILED))

    return types.intp(function, types.intp, types.intp, arguments), generate


def _take_shares(share, data, run_one):
    """Fills the function that one thread runs, on a pointer to what all of them read."""
    entry, turn, body, done = map(share.append_basic_block, ("entry", "turn", "body", "done"))
    builder = ir.IRBuilder(entry)
    held = builder.bitcast(share.args[0], data)
    places = [cgutils.gep_inbounds(builder, held, 0, field) for field in range(5)]
    shares, tasks, values = (builder.load(places[f]) for f in (_SHARES, _TASKS, _ARGUMENTS))
    builder.branch(turn)
    builder.position_at_end(turn)
    number = builder.atomic_rmw("add", places[_NEXT], _LONG(1), "monotonic")
    builder.cbranch(builder.icmp_signed("<", number, shares), body, done)
    builder.position_at_end(body)
    start, stop = (
        builder.sdiv(builder.mul(tasks, end), shares)
        for end in (number, builder.add(number, _LONG(1)))
    )
    failed = builder.zext(run_one(builder, start, stop, values), _LONG)
    builder.atomic_rmw("add", places[_FAILED], failed, "monotonic")
    builder.branch(turn)
    builder.position_at_end(done)
    builder.ret_void()
