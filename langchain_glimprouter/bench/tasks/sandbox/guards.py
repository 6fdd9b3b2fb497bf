"""What keeps a program from harm. Standard library only: it runs before foreign code.

Four layers, each of which holds by itself as far as it reaches:

- resource limits, always;
- namespaces of its own for processes, network and IPC, see `kernel`: nothing is reachable, and when
  the first process ends, the kernel ends all;
- seccomp and Landlock, see `kernel`: no processes, no sockets, no signals; no file but those named,
  and those only to read;
- an audit hook, in the interpreter: the same, everywhere, and it ends the program. Against Python
  code only.
"""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

BROKEN, REFUSED, OUT_OF_TIME = 96, 97, 98
"""Exit statuses: no program was run; the audit hook ended it; it used up its processor time."""

# -- resource limits -----------------------------------------------------------------------------


def limit_resources(cpu_seconds: int | None, memory_bytes: int) -> None:
    """Limit processor time, memory and open files; no file can grow, and none is dumped.

    Args:
        cpu_seconds: Of the whole process; `None` sets no limit.
        memory_bytes: Address space.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if cpu_seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    # Should memory run short all the same, this is what to kill.
    with suppress(OSError), open("/proc/self/oom_score_adj", "wb", 0) as file:  # noqa: PTH123
        file.write(b"1000")


def limit_processes(room: int = 32) -> None:
    """Let the user have only some more processes than now; root is not bound by it."""
    tasks = 0
    for entry in os.listdir("/proc"):  # noqa: PTH208
        with suppress(OSError):
            if entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == os.getuid():  # noqa: PTH116
                tasks += len(os.listdir(f"/proc/{entry}/task"))  # noqa: PTH208
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NPROC, (tasks + room, tasks + room))


# -- what may be read -----------------------------------------------------------------------------

_SYSTEM = (
    *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo"),
    *("/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/zero", "/dev/urandom"),
    *("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"),
)


def readable_paths() -> list[str]:
    """Return what a program needs to read, and take other places off the import path.

    That is the interpreter, the installed packages, the system's libraries, and the folder that the
    program runs in.
    """
    own = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}
    paths = [path for path in (*own, *_SYSTEM, os.getcwd()) if os.path.exists(path)]  # noqa: PTH109, PTH110
    roots = [os.path.realpath(path) for path in paths]
    sys.path[:] = [  # the import system lists them all
        place
        for place in sys.path
        if any(f"{os.path.realpath(place)}/".startswith(f"{root}/") for root in roots)
    ]
    return paths


# -- the audit hook ------------------------------------------------------------------------------

_REFUSED_EVENTS = (
    *("socket.", "subprocess.", "pty.", "shutil.", "tempfile.", "sqlite3.", "syslog."),
    *("os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"),
    *("os.chmod", "os.chown", "os.chflags", "os.lockf", "os.utime", "os.setxattr"),
    *("os.removexattr", "os.chdir", "os.fchdir", "os.lchmod", "os.mkfifo", "os.mknod"),
    *("signal.pthread_kill", "resource.prlimit", "ctypes.dlsym", "ctypes.call_function"),
)
_READ_EVENTS = ("open", "os.listdir", "os.scandir", "os.listxattr", "os.getxattr")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def refuse(paths: Sequence[str]) -> None:
    """End the program as soon as it asks the interpreter for what it must not have.

    Args:
        paths: Files and folders that it may read.
    """
    roots = tuple(os.path.realpath(path) for path in paths)
    realpath, leave, write, text = os.path.realpath, os._exit, os.write, repr

    def permitted(path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return True
        place = realpath(os.fsdecode(path))
        return any(place == root or place.startswith(root.rstrip("/") + "/") for root in roots)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(_REFUSED_EVENTS) or (event == "ctypes.dlopen" and args[0] is not None):
            reason = event
        elif event == "open" and args[2] & _WRITING and args[0] != os.devnull:
            reason = "writing to a file"
        elif event in _READ_EVENTS and not permitted(args[0]):
            reason = "reading a file of the machine"
        else:
            return
        # Not an exception: the program could catch it and go on.
        write(2, f"\nrefused: {reason} {text(args)[:200]}\n".encode(errors="replace"))
        leave(REFUSED)

    sys.addaudithook(hook)
