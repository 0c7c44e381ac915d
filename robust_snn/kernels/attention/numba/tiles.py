"""Products of matrices in tiles that stay in registers over the whole sum."""

# mypy: allow-untyped-defs, disable-error-code="call-arg"
# Numba infers the types of compiled functions.
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from robust_snn.kernels.numba_tools.compile import helper
from robust_snn.kernels.numba_tools.vectors import LANES, data_of, place_at, splat

TILE_ROWS, VECTORS = 4, 2  # eight sums, since an addition waits for the one before it
TILE_COLUMNS = VECTORS * LANES
_LONG, _VECTOR = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
_FUSED = ("contract",)  # a fused multiply-add only rounds less, and integers not at all


@intrinsic
def _sum_tile(typing, left, at_left, row, right, at_right, step, depth, scale, out, at_out, across):
    """`out[i, j]`, `scale` times the sum over `n < depth` of `left[i, n] * right[n, j]`.

    A row of `left` begins every `row` from `at_left` on, of `right` every `step`, of `out` every
    `across`.
    """

    def generate(context, builder, signature, arguments):
        left, right, out = data_of(context, builder, signature, arguments, 0, 3, 8)
        _, at_left, row, _, at_right, step, depth, scale, _, at_out, across = arguments
        places = [(i, j) for i in range(TILE_ROWS) for j in range(VECTORS)]
        before = builder.block
        turn, body, done = map(builder.append_basic_block, ("turn", "body", "done"))
        builder.branch(turn)

        builder.position_at_end(turn)
        number, *sums = (builder.phi(kind) for kind in (_LONG, *[_VECTOR] * len(places)))
        builder.cbranch(builder.icmp_signed("<", number, depth), body, done)

        builder.position_at_end(body)
        at = builder.add(at_right, builder.mul(number, step))
        vectors = [
            builder.load(place_at(builder, right, builder.add(at, _LONG(LANES * j))), align=4)
            for j in range(VECTORS)
        ]
        at = builder.add(at_left, number)
        factors = [
            splat(builder, builder.load(builder.gep(left, [_apart(builder, at, row, i)])))
            for i in range(TILE_ROWS)
        ]
        products = [builder.fmul(factors[i], vectors[j], flags=_FUSED) for i, j in places]
        totals = [
            builder.fadd(total, product, flags=_FUSED)
            for total, product in zip(sums, products, strict=True)
        ]
        more = builder.add(number, _LONG(1))
        builder.branch(turn)
        for phi, later in zip((number, *sums), (more, *totals), strict=True):
            phi.add_incoming(phi.type(0 if phi is number else None), before)
            phi.add_incoming(later, body)

        builder.position_at_end(done)
        factor = splat(builder, scale)
        for total, (i, j) in zip(sums, places, strict=True):
            place = builder.add(_apart(builder, at_out, across, i), _LONG(LANES * j))
            builder.store(builder.fmul(factor, total), place_at(builder, out, place), align=4)
        return context.get_dummy_value()

    at = types.intp
    given = (left, at, at, right, at, at, at, types.float32, out, at, at)
    return types.void(*given), generate


def _apart(builder, first, step, count):
    return builder.add(first, builder.mul(step, _LONG(count)))


@helper
def _copy_rows(source, at, step, target, to, across, rows, columns):
    for i in range(rows):
        for j in range(columns):
            target[to + i * across + j] = source[at + i * step + j]


@helper
def multiply(left, right, sizes, scale, edge, tile, out):
    """`out = scale * left @ right` of flat float32 matrices.

    Args:
        left: Values, where they begin, and how far apart rows are.
        right: The same.
        sizes: Rows, depth and columns of the product.
        scale: Factor on the sums.
        edge: Scratch for the last columns of `right`, `[depth * TILE_COLUMNS]`.
        tile: Scratch for a tile, `[TILE_ROWS * TILE_COLUMNS]`.
        out: As `left`.
    """
    (a, at_a, row), (b, at_b, step), (c, at_c, across) = left, right, out
    rows, depth, columns = sizes
    for j in range(0, columns, TILE_COLUMNS):
        some = min(TILE_COLUMNS, columns - j)
        source, at_source, apart = b, at_b + j, step
        if some < TILE_COLUMNS:  # nothing behind the last column is read
            _copy_rows(b, at_b + j, step, edge, 0, TILE_COLUMNS, depth, some)
            source, at_source, apart = edge, 0, TILE_COLUMNS
        for i in range(0, rows, TILE_ROWS):
            at, place, height = at_a + i * row, at_c + i * across + j, min(TILE_ROWS, rows - i)
            if height == TILE_ROWS and some == TILE_COLUMNS:
                _sum_tile(a, at, row, source, at_source, apart, depth, scale, c, place, across)
                continue
            # one by one: nothing behind the last row is read
            count, between = (height, 0) if height < TILE_ROWS else (1, row)
            for r in range(count):
                _sum_tile(
                    a, at + r * row, between, source, at_source, apart, depth, scale, tile, 0,
                    TILE_COLUMNS,
                )  # fmt: skip
                _copy_rows(
                    tile, 0, TILE_COLUMNS, c, place + r * across, across, height // count, some
                )
