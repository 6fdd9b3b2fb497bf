"""What the kernel keeps from a program, on Linux. Standard library only.

Namespaces of its own where the machine permits them (not in most containers); seccomp, from Linux
3.17 on x86-64 and AArch64; Landlock, from Linux 5.13. The last two need no privileges.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_CLONE_NEWIPC, _CLONE_NEWUSER = 0x08000000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


# -- namespaces ----------------------------------------------------------------------------------


def enter_namespaces() -> bool:
    """Give the children of this process a world without network and without other processes.

    Returns:
        Whether that was permitted.
    """
    flags = _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC
    libc, user, group = _libc(), os.getuid(), os.getgid()
    try:
        if libc.unshare(flags) == 0:
            return True
        _checked(libc.unshare(flags | _CLONE_NEWUSER))
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(text)
    except (OSError, AttributeError):
        return False
    return True


# -- seccomp -------------------------------------------------------------------------------------

_CLONE_THREAD = 0x10000
_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_CLONE = (56, 220)
_CLONE3 = 435  # takes its flags in memory, where no filter sees them: glibc falls back to clone
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # processes
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    # signals and other processes' memory
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    # network; io_uring opens sockets without these calls
    "socket": (41, 198),
    "socketpair": (53, 199),
    "io_uring_setup": (425, 425),
    # the way out
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "reboot": (169, 142),
    # what files are called and who may read them; Landlock does not guard all of it
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "rmdir": (84, None),
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def deny_system_calls() -> bool:
    """Deny processes, sockets, signals and the ways around it, for good; threads stay possible.

    Returns:
        Whether the kernel and the processor are such that it holds.
    """
    if platform.machine() not in _ARCHITECTURES or sys.maxsize < 2**32:
        return False
    architecture, column = _ARCHITECTURES[platform.machine()]
    denied = [numbers[column] for numbers in _DENIED.values()]
    program: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_JUMP_ABOVE, 0, 1, 0x40000000),  # the x32 numbers of the same calls
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
        (_JUMP_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
    ]
    for number in denied:
        if number is not None:
            program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | _EPERM)]
    program += [
        (_JUMP_EQUAL, 0, 3, _CLONE[column]),
        (_LOAD, 0, 0, 16),  # the lower half of its first argument
        (_JUMP_SET, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    instructions = (_Instruction * len(program))(*(_Instruction(*one) for one in program))
    filters = _Program(len(program), instructions)
    libc = _libc()
    try:
        _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(filters), 0, 0))
    except OSError:
        return False
    return True


# -- Landlock ------------------------------------------------------------------------------------

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # so many bits of rights, by version
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_O_PATH = 0o10000000


def read_only(paths: Sequence[str]) -> bool:
    """Leave this process nothing of the file system but these files and folders, to read.

    Returns:
        Whether the kernel has Landlock.
    """
    libc = _libc()
    call = libc.syscall
    call.restype = ctypes.c_long
    try:
        version = _checked(call(_CREATE_RULESET, None, ctypes.c_size_t(0), 1))
        handled = (1 << _RIGHTS[min(version, 5)]) - 1
        network = 0b11 if version >= 4 else 0
        scoped = 0b11 if version >= 6 else 0
        size = 24 if version >= 6 else 16 if version >= 4 else 8
        attribute = struct.pack("=QQQ", handled, network, scoped)[:size]
        ruleset = _checked(call(_CREATE_RULESET, attribute, ctypes.c_size_t(size), 0))
        for path in paths:
            _allow(call, ruleset, path)
        _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(call(_RESTRICT_SELF, ruleset, 0))
        os.close(ruleset)
    except OSError:
        return False
    return True


def _allow(call: Callable[..., int], ruleset: int, path: str) -> None:
    try:
        place = os.open(path, _O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no permission
    rights = _EXECUTE | _READ_FILE
    if os.path.isdir(path):  # noqa: PTH112
        rights |= _READ_DIR
    elif path == os.devnull:
        rights |= _WRITE_FILE
    try:
        _checked(call(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, place), 0))
    finally:
        os.close(place)
