"""How the Numba kernels run: threads, caches, several callers at once."""

from __future__ import annotations

import ctypes
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident

import numba
import numpy as np
import pytest
import torch
from numba import types
from numba.core import caching
from numba.core.dispatcher import Dispatcher

from loops import run
from robust_snn.kernels import Dynamics, Gate, Recursion, Surrogate, sample_keys
from robust_snn.kernels.convolution import event_driven as events
from robust_snn.kernels.numba_tools import compile
from robust_snn.kernels.numba_tools import half_precision as half
from robust_snn.kernels.numba_tools import threads as numba_threads
from robust_snn.kernels.numba_tools.shares import NUMBER, run_shares
from robust_snn.kernels.numba_tools.threads import run_blocks
from robust_snn.kernels.spiking.numba import backward, forward, slopes
from robust_snn.kernels.spiking.numba import block_ops as passes
from robust_snn.kernels.spiking.numba import philox as draws
from robust_snn.neurons import LIF

pytestmark = pytest.mark.cpu_only

WORTH = 1000  # of a thread, so that small layers are split

CURRENT, UPSTREAM = torch.randn(2, 5, 3, 9000, generator=torch.Generator().manual_seed(0))
GATE = Gate(torch.full((9000,), 0.5), sample_keys(0, torch.arange(3)))


def _spike(_=None):
    rule = Recursion(Surrogate("triangle", 1.0))
    build = lambda p: {"gate": GATE}  # noqa: E731
    return run(CURRENT, UPSTREAM, Dynamics(0.9), rule, "numba", build)


def _same(a, b):
    return torch.equal(a[0], b[0]) and torch.equal(a[1]["current"], b[1]["current"])


@pytest.fixture
def threads(monkeypatch):
    monkeypatch.setattr(numba_threads, "worth_of_a_thread", lambda: WORTH)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_threads_give_the_same_bits(threads):
    threads(1)
    alone = _spike()
    for count in (2, 3):
        threads(count)
        assert _same(_spike(), alone)


def test_several_callers_at_once(threads):
    threads(2)
    alone = _spike()
    with ThreadPoolExecutor(4) as pool:
        assert all(_same(found, alone) for found in pool.map(_spike, range(8)))


@numba.njit(nogil=True)
def _note(start, stop, visits, calls):
    visits[start:stop] += 1
    calls[start] = stop - start


@numba.njit(nogil=True)
def note_shares(shares, tasks, arguments):
    """Counts the visits of every task, and notes the length of every share at its start."""
    return run_shares(_note, shares, tasks, arguments)


def _noted(tasks, work):
    visits, calls = np.zeros(tasks, np.int64), np.zeros(tasks, np.int64)
    run_blocks(note_shares, tasks, work, visits, calls)
    assert (visits == 1).all()
    return int((calls > 0).sum())


@pytest.mark.parametrize(
    "tasks, shares, used", [(9, 0, 1), (9, 1.9, 1), (9, 2, 2), (9, 99, 3), (2, 99, 2)]
)
def test_every_task_is_run_once_by_as_many_threads_as_pay(tasks, shares, used, threads):
    threads(3)
    assert _noted(tasks, int(shares * WORTH)) == used


def test_python_threads_call_as_openmp_does():
    """Systems where PyTorch brings no OpenMP."""
    called = []
    number, count = numba_threads._PYTHON[1:]
    share = numba_threads._Share(lambda data: called.append((data, number(), count(), get_ident())))
    numba_threads._python_threads(ctypes.cast(share, ctypes.c_void_p).value, 7, 3, 0)
    assert sorted(call[:3] for call in called) == [(7, 0, 3), (7, 1, 3), (7, 2, 3)]
    assert get_ident() in [call[3] for call in called if call[1] == 0]


def test_a_thread_keeps_its_share_from_call_to_call(threads):
    """So that a layer finds in the cache of each processor what it touched before."""
    threads(2)
    thread = types.ExternalFunction(NUMBER, types.uint32())

    @numba.njit(nogil=True)
    def note(start, stop, found):
        found[start:stop] = thread()

    @numba.njit(nogil=True)
    def note_threads(shares, tasks, arguments):
        return run_shares(note, shares, tasks, arguments)

    for _ in range(9):
        found = np.full(6, 9, np.int64)
        run_blocks(note_threads, 6, 2 * WORTH, found)
        assert found.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_thread_is_worth_what_it_costs_to_wake():
    seconds = numba_threads._seconds_to_wake()
    assert 0 < seconds < 1
    assert 0 < numba_threads.worth_of_a_thread() < 2 * numba_threads.VALUES_PER_SECOND


def test_every_compiled_function_has_a_name_of_its_own():
    """Else machine code that two processes have cached is linked to the wrong helper."""
    found = {
        id(function): (function.py_func.__module__, function.py_func.__qualname__)
        for module in (backward, draws, forward, half, passes, slopes, events)
        for function in vars(module).values()
        if isinstance(function, Dispatcher)
    }
    assert len(found) > 40
    assert len(set(found.values())) == len(found)


def _dual(x):
    with torch.autograd.forward_ad.dual_level():
        return LIF()(torch.autograd.forward_ad.make_dual(x, x))


@pytest.mark.parametrize(
    "transformed",
    [
        _dual,
        lambda x: torch.func.jvp(LIF(), (x,), (x,)),
        torch.func.grad(lambda x: LIF()(x).sum()),
        torch.func.vmap(LIF(), in_dims=1),
    ],
)
def test_transforms_are_refused_though_nothing_requires_a_gradient(transformed):
    with pytest.raises((RuntimeError, NotImplementedError), match="autograd.Function"):
        transformed(torch.randn(3, 2, 5, device="cpu"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_runs_alone(threads):
    """It has none of the threads, PyTorch's own, and would wait for them forever."""
    threads(2)
    assert _noted(5, 2 * WORTH) == 2
    child = os.fork()
    if child == 0:
        os._exit(0 if _noted(5, 2 * WORTH) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("failing", ["njit", "save_overload", "load_overload"])
def test_where_nothing_can_be_cached_kernels_run_and_it_is_said_once(monkeypatch, caplog, failing):
    compiled = numba.njit

    def njit(*given, **options):
        if options.get("cache") and failing == "njit":
            raise RuntimeError("cannot cache function: no locator available")
        return compiled(*given, **options)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(numba, "njit", njit)
    if failing != "njit":
        monkeypatch.setattr(caching.FunctionCache, "load_overload", lambda *_: None)
        monkeypatch.setattr(caching.FunctionCache, failing, full)
    monkeypatch.setattr(compile, "_said", [])
    assert [compile.kernel(lambda x, n=n: x + n)(1) for n in (1, 2)] == [2, 3]
    assert caplog.text.count("NUMBA_CACHE_DIR") == 1
    assert ("no folder" if failing == "njit" else "No space left") in caplog.text
