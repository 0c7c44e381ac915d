"""A compiled function that several threads run, each on shares of its tasks."""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

RUN = "robust_snn_run"  # symbols that machine code calls as OpenMP's `GOMP_parallel`,
NUMBER, COUNT = "robust_snn_number", "robust_snn_count"  # and `omp_get_thread_num`, `_num_threads`
_BYTES, _WORD, _LONG = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
_SHARE = ir.FunctionType(ir.VoidType(), [_BYTES])
_SOME = ir.FunctionType(ir.VoidType(), [_BYTES, _LONG, _LONG])
_FAILED, _SHARES, _TASKS, _ARGUMENTS = range(4)  # what all threads read


@intrinsic
def run_shares(typing, function, shares, tasks, arguments):
    """Calls `function(start, stop, *arguments)` on shares of `range(tasks)`, from several threads.

    Thread `i` of `n` takes the shares `i`, `i + n`, and so on, however many threads there are. So
    it finds in its own cache what it touched in the call before, without which small layers take
    half as long again. Returns the number of calls that failed, which they do for want of memory
    alone.
    """
    dispatcher, called = function.dispatcher, types.void(types.intp, types.intp, arguments)

    def call(start, stop, arguments):
        dispatcher(start, stop, *arguments)

    def generate(context, builder, signature, given):
        _, shares, tasks, values = given
        values = _borrowed(context, builder, arguments, values)
        held = (_LONG(0), shares, tasks, values)
        data = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in held]))
        for field, value in enumerate(held):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, field))
        compiled = context.compile_subroutine(builder, call, called).fndesc
        some = ir.Function(builder.module, _SOME, f"{builder.function.name}.some")
        share = ir.Function(builder.module, _SHARE, f"{builder.function.name}.share")
        some.linkage = share.linkage = "internal"

        def run_one(inner, start, stop, values):
            inputs = start, stop, values
            return context.call_internal_no_propagate(inner, compiled, called, inputs)[0].is_error

        _take_shares(some, data.type, run_one)
        _take_own(share, some)
        several = builder.icmp_signed(">", shares, _LONG(1))
        shared = builder.bitcast(data, _BYTES)
        with builder.if_else(several) as (then, otherwise):
            with then:
                kind = ir.FunctionType(ir.VoidType(), [_SHARE.as_pointer(), _BYTES, _WORD, _WORD])
                run = cgutils.get_or_insert_function(builder.module, kind, RUN)
                builder.call(run, [share, shared, builder.trunc(shares, _WORD), _WORD(0)])
            with otherwise:
                builder.call(some, [shared, _LONG(0), _LONG(1)])
        return builder.load(cgutils.gep_inbounds(builder, data, 0, _FAILED))

    return types.intp(function, types.intp, types.intp, arguments), generate


def _borrowed(context, builder, kinds, values):
    """Arguments whose arrays count no references, since the caller keeps what it passes.

    Threads would wait for each other's counts at every row of every array.
    """
    for place, kind in enumerate(kinds):
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, builder.extract_value(values, place))
            array.meminfo = array.meminfo.type(None)
            values = builder.insert_value(values, array._getvalue(), place)
    return values


def _take_own(share, some):
    """Fills the function that every thread calls: `some` for that thread."""
    builder = ir.IRBuilder(share.append_basic_block("entry"))
    kind = ir.FunctionType(_WORD, [])
    own = (cgutils.get_or_insert_function(builder.module, kind, name) for name in (NUMBER, COUNT))
    place = (builder.zext(builder.call(function, []), _LONG) for function in own)
    builder.call(some, [share.args[0], *place])
    builder.ret_void()


def _take_shares(some, data, run_one):
    """Fills the function of what all threads read, the number of a thread and their count."""
    entry, turn, body, done = map(some.append_basic_block, ("entry", "turn", "body", "done"))
    builder = ir.IRBuilder(entry)
    held = builder.bitcast(some.args[0], data)
    places = [cgutils.gep_inbounds(builder, held, 0, field) for field in range(4)]
    shares, tasks, values = (builder.load(places[f]) for f in (_SHARES, _TASKS, _ARGUMENTS))
    builder.branch(turn)
    builder.position_at_end(turn)
    number = builder.phi(_LONG)
    builder.cbranch(builder.icmp_signed("<", number, shares), body, done)
    builder.position_at_end(body)
    start, stop = (
        builder.sdiv(builder.mul(tasks, end), shares)
        for end in (number, builder.add(number, _LONG(1)))
    )
    failed = builder.zext(run_one(builder, start, stop, values), _LONG)
    builder.atomic_rmw("add", places[_FAILED], failed, "monotonic")
    number.add_incoming(some.args[1], entry)
    number.add_incoming(builder.add(number, some.args[2]), builder.block)
    builder.branch(turn)
    builder.position_at_end(done)
    builder.ret_void()
