"""Vectors of LLVM's own type in kernels: 16 lanes, on a machine with fewer in several registers.

LLVM makes none of these by itself: lists from comparisons, sums that stay in registers over a loop.
"""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
AHEAD = 16  # cache lines of 64 bytes that are asked for before their turn
RUN = 32  # entries of a list that are copied at once
ROW = 8  # what `row_summer` counts rows of `LANES` floats in, which x86 scales by itself
TOGETHER = 4  # entries of a list that are read at once, since few loads fit beside those of rows
_FLOAT, _WORD, _LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def data_of(context, builder, signature, arguments, *indices):
    """The pointers of array arguments."""
    for index in indices:
        array = context.make_array(signature.args[index])
        yield array(context, builder, arguments[index]).data


def place_at(builder, pointer, offset, lanes=LANES):
    """Where a vector lies, `offset` elements after a pointer."""
    vector = ir.VectorType(pointer.type.pointee, lanes)
    return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())


def splat(builder, value, lanes=LANES):
    """A vector of one value."""
    vector = ir.VectorType(value.type, lanes)
    first = builder.insert_element(vector(ir.Undefined), value, _WORD(0))
    return builder.shuffle_vector(
        first, vector(ir.Undefined), ir.VectorType(_WORD, lanes)([0] * lanes)
    )


def _differs(builder, values, others):
    if isinstance(values.type.element, ir.IntType):
        return builder.icmp_unsigned("!=", values, others)
    return builder.fcmp_unordered("!=", values, others)  # NaN differs from everything


@intrinsic
def active_lanes(typing, values, at, one):
    """Bits of `LANES` values: which are not 0, and 16 above those, which of them are not 1."""

    def generate(context, builder, signature, arguments):
        (pointer,) = data_of(context, builder, signature, arguments, 0)
        given = builder.load(place_at(builder, pointer, arguments[1]), align=1)
        active = _differs(builder, given, ir.Constant(given.type, None))
        odd = builder.and_(active, _differs(builder, given, splat(builder, arguments[2])))
        active, odd = (
            builder.zext(builder.bitcast(bits, ir.IntType(LANES)), _WORD) for bits in (active, odd)
        )
        return builder.or_(active, builder.shl(odd, _WORD(LANES)))

    return types.uint32(values, types.intp, values.dtype), generate


def _shifter(lanes):
    @intrinsic
    def copy(typing, source, at, amount, target, to):
        """`target[to : to + lanes] = source[at : at + lanes] + amount`, as one vector."""

        def generate(context, builder, signature, arguments):
            source, target = data_of(context, builder, signature, arguments, 0, 3)
            values = builder.load(place_at(builder, source, arguments[1], lanes), align=2)
            shifted = builder.add(values, splat(builder, arguments[2], lanes))
            builder.store(shifted, place_at(builder, target, arguments[4], lanes), align=2)
            return context.get_dummy_value()

        return types.void(source, types.intp, types.uint16, target, types.intp), generate

    return copy


copy_eight, copy_run = _shifter(8), _shifter(RUN)


@intrinsic
def put_run(typing, value, target, to):
    """`target[to : to + RUN] = value`, as one vector."""

    def generate(context, builder, signature, arguments):
        (pointer,) = data_of(context, builder, signature, arguments, 1)
        place = place_at(builder, pointer, arguments[2], RUN)
        builder.store(splat(builder, arguments[0], RUN), place, align=2)
        return context.get_dummy_value()

    return types.void(types.uint16, target, types.intp), generate


def row_summer(lists):
    """A function that sums rows of `LANES` floats over several lists at once, in registers.

    Several lists, because an addition waits for the one before it.
    """

    @intrinsic
    def sum_rows(typing, table, top, entries, first, length, start, starts, out, places):
        """Adds rows of a table to vectors of `start`, one after the other, and writes to `out`.

        List `j` is the uint16 `entries[first + j * length:][:length]`, in units of `ROW`, counted
        from `table[top]`. What it adds to is at `starts[j]` of `start`, its sum at `places[j]` of
        `out`. The length is a multiple of `TOGETHER`.
        """

        def generate(context, builder, signature, arguments):
            table, entries, start, out = data_of(context, builder, signature, arguments, 0, 2, 5, 7)
            _, top, _, first, length, _, starts, _, places = arguments
            rows = builder.bitcast(builder.gep(table, [top]), _LONG.as_pointer())

            def vectors(pointer, offsets):
                for j in range(lists):
                    yield place_at(builder, pointer, builder.extract_value(offsets, j))

            given = [builder.load(at, align=4) for at in vectors(start, starts)]
            heads = [
                builder.gep(entries, [builder.add(first, builder.mul(length, _LONG(j)))])
                for j in range(lists)
            ]
            before = builder.block
            turn, body, done = map(builder.append_basic_block, ("turn", "body", "done"))
            builder.branch(turn)
            builder.position_at_end(turn)
            number, *sums = (builder.phi(kind) for kind in (_LONG, *(g.type for g in given)))
            builder.cbranch(builder.icmp_signed("<", number, length), body, done)

            builder.position_at_end(body)
            four = [
                builder.load(builder.bitcast(at, _LONG.as_pointer()), align=2)
                for at in (builder.gep(head, [number]) for head in heads)
            ]
            totals = list(sums)
            for bits in range(0, 16 * TOGETHER, 16):
                for j, packed in enumerate(four):
                    entry = builder.and_(builder.lshr(packed, _LONG(bits)), _LONG(0xFFFF))
                    row = builder.load(_at_row(builder, rows, entry), align=4)
                    totals[j] = builder.fadd(totals[j], row)
            more = builder.add(number, _LONG(TOGETHER))
            again = builder.branch(turn)
            keep = builder.module.add_metadata(["llvm.loop.unroll.disable"])
            again.set_metadata("llvm.loop", builder.module.add_metadata([keep, keep]))
            for phi, at_first, later in zip(
                (number, *sums), (_LONG(0), *given), (more, *totals), strict=True
            ):
                phi.add_incoming(at_first, before)
                phi.add_incoming(later, body)

            builder.position_at_end(done)
            for total, at in zip(sums, vectors(out, places), strict=True):
                builder.store(total, at, align=4)
            return context.get_dummy_value()

        integer = types.intp
        offsets = types.UniTuple(integer, lists)
        ends = (integer, integer, start, offsets, out, offsets)
        return types.void(table, integer, entries, *ends), generate

    return sum_rows


def _at_row(builder, rows, entry):
    return builder.bitcast(builder.gep(rows, [entry]), ir.VectorType(_FLOAT, LANES).as_pointer())


@intrinsic
def prefetch(typing, row):
    """Asks memory for the start of a row that is used next.

    Lines further on come by themselves, and those behind the end of a row do no harm.
    """

    def generate(context, builder, signature, arguments):
        (pointer,) = data_of(context, builder, signature, arguments, 0)
        start = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [start.type, _WORD, _WORD, _WORD])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        for line in range(AHEAD):
            place = builder.gep(start, [_LONG(64 * line)])
            builder.call(ask, [place, _WORD(0), _WORD(3), _WORD(1)])
        return context.get_dummy_value()

    return types.void(row), generate
