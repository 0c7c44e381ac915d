"""Interrupts end a command wherever they come."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable

import pytest

from robust_snn.utils.interrupts import raising


class Interrupting:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


class Plain:
    pass


def in_del() -> None:
    Interrupting()


def in_a_cycle() -> None:
    one = Interrupting()
    one.itself = one  # type: ignore[attr-defined]
    del one
    gc.collect()


def in_a_callback() -> None:
    one = Plain()
    _kept = weakref.ref(one, lambda _: signal.raise_signal(signal.SIGINT))
    del one


def in_a_table() -> None:
    one, table = Plain(), weakref.WeakKeyDictionary[object, object]()
    table[one] = Interrupting()
    del one


def in_a_generator() -> None:
    def steps() -> object:
        try:
            yield 1
        finally:
            signal.raise_signal(signal.SIGINT)

    generator = steps()
    next(generator)  # type: ignore[call-overload]
    del generator


@pytest.mark.parametrize("lose", [in_del, in_a_cycle, in_a_callback, in_a_table, in_a_generator])
def test_an_interrupt_that_python_drops_is_raised_again(
    lose: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), raising():  # noqa: PT012  it comes within a moment
        lose()
        for _ in range(500):
            time.sleep(0.01)
    assert sys.unraisablehook is hook
    assert not capsys.readouterr().err


IMPORTS = """
import signal, sys
sys.argv = ["robust-snn"]
unhandled = []
class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            unhandled.append(name)
sys.meta_path.insert(0, Watch)
import robust_snn.cli
print(*unhandled)
"""


def test_a_command_handles_interrupts_before_it_loads_anything() -> None:
    said = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    loaded = said.stdout.split()
    ours = [name for name in loaded if name.startswith("robust_snn")]
    assert ours == ["robust_snn", "robust_snn.utils", "robust_snn.utils.interrupts"]
    assert not {"threading", "pathlib", "typer"} & set(loaded)
