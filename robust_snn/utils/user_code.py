"""A user's own modules: loading one runs its code, as `python file.py` would.

Nothing is loaded but what a user names. A file can import what lies beside it, and processes that
work for this one load the same modules.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from robust_snn.utils.errors import InputError
from robust_snn.utils.user_files import is_there


@dataclass(frozen=True)
class UserModule:
    """A module of a user; unpickling one loads it, before whatever follows in the pickle.

    Attributes:
        name: What `sys.modules` calls it.
        folders: Where it finds what it imports, besides the usual places.
        file: Its file; None if it is found by its name.
        sha256: Digest of its code; empty until a module without a file is loaded.
    """

    name: str
    folders: tuple[str, ...]
    file: str | None = None
    sha256: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded_again, (self.name, self.folders, self.file, self.sha256)


_loaded: dict[str, UserModule] = {}


def loaded_modules() -> tuple[UserModule, ...]:
    """The modules of users that this process has loaded, for the pickles of other processes."""
    return tuple(_loaded.values())


def load_user_module(where: str) -> UserModule:
    """Loads a file that ends in `.py`, or a module by its name, which runs its code.

    Args:
        where: The file, or the name; modules are looked for in the current folder too.

    Raises:
        InputError: If it is not there, or its code raises or ends the process.
    """
    if where.endswith(".py"):
        return _load(_file_module(Path(where)))
    return _load(UserModule(where, (str(Path.cwd()),)))


def _file_module(file: Path) -> UserModule:
    if not is_there(file, "the file") or not file.is_file():
        raise InputError(f"no file '{file}'")
    file = file.resolve()
    name, folder = file.stem, file.parent
    while (folder / "__init__.py").exists():  # so that the relative imports of a package work
        name, folder = f"{folder.name}.{name}", folder.parent
    digest = _digest(file)
    if name in sys.modules and _file_of(sys.modules[name]) != file:
        name = f"{name}_{digest[:8]}"
    folders = tuple(dict.fromkeys((str(file.parent), str(folder))))
    return UserModule(name, folders, str(file), digest)


def _load(module: UserModule) -> UserModule:
    """The module, loaded unless it is already, with the digest of its code."""
    name, file = module.name, module.file
    if _loaded.get(name) == module:
        return module
    _refuse_mixed(module)
    with importable(module.folders), telling(f"cannot load {file or name}", module.folders):
        if file is None:
            found = _file_of(importlib.import_module(name))
            module = replace(module, sha256="" if found is None else _digest(found))
        elif name not in sys.modules or name in _loaded:
            _run(name, file)
    _loaded[name] = module
    return module


def _run(name: str, file: str) -> None:
    """Runs a file as a module; it sees no arguments of a command line."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    before, arguments = sys.modules.get(name), sys.argv
    sys.modules[name], sys.argv = importlib.util.module_from_spec(spec), [file]
    try:
        spec.loader.exec_module(sys.modules[name])
    except BaseException:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
        raise
    finally:
        sys.argv = arguments


def _refuse_mixed(module: UserModule) -> None:
    """Refuses a folder whose modules would be mistaken for those of another user's folder."""
    others = {folder for other in _loaded.values() for folder in other.folders}
    others -= set(module.folders)
    for path in (path for folder in module.folders for path in Path(folder).iterdir()):
        taken = _file_of(sys.modules.get(path.stem))
        if taken is None or str(path) == module.file:
            continue
        package = taken.name == "__init__.py"
        if str(taken.parents[1] if package else taken.parent) in others:
            raise InputError(
                f"'{path}' has the name of '{taken}', which is loaded already, and code that "
                "imports it would get the wrong one; rename one of them"
            )


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file)


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


@contextmanager
def importable(folders: tuple[str, ...]) -> Iterator[None]:
    """While inside, imports look into the folders first; afterwards last."""
    importlib.invalidate_caches()
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)
            if folder not in sys.path:  # for what its functions import when they run
                sys.path.append(folder)


@contextmanager
def telling(what: str, folders: tuple[str, ...]) -> Iterator[None]:
    """Makes one line of what a user's code raises, with the last place in the folders."""
    try:
        yield
    except InputError:
        raise
    except SystemExit as error:
        raise InputError(
            f"{what}: it ends the process; put what a script does under if __name__ == '__main__'"
        ) from error
    except SyntaxError as error:
        place = f"{Path(error.filename or '').name}, line {error.lineno}"
        raise InputError(f"{what}: {error.msg} ({place})") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if frame.filename.startswith(folders)]
        place = "".join(f" ({Path(f.filename).name}, line {f.lineno})" for f in theirs[-1:])
        raise InputError(f"{what}: {type(error).__name__}: {error}{place}") from error


def _loaded_again(*parts: Any) -> UserModule:
    """Loads in another process what this one has loaded, under the same name."""
    module = UserModule(*parts)
    if module.file is None:
        found = _load(replace(module, sha256=""))
    else:
        found = _load(replace(module, sha256=_digest(Path(module.file))))
    if found != module:
        raise InputError(f"the code of {module.file or module.name} has changed during the run")
    return module
