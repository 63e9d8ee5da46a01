"""The child's side of the sandbox: what happens between the start of a process and the first untrusted instruction.

`sandbox` starts this file in a fresh interpreter (`-I -S`, so it has the standard library and nothing else) and sends
the orders on stdin. From there three processes are made:

* the launcher, which takes namespaces for user, network, processes, mounts and IPC, where the kernel gives them;
* the supervisor, the first process of the new process namespace: it keeps the wall clock, waits, and reports. When
  it ends, the kernel ends everything else in the namespace. Without a namespace the launcher is the supervisor, adopts
  orphans (PR_SET_CHILD_SUBREAPER) and kills them itself;
* the program, which first gives everything up: capabilities, writing outside its folder, reading outside the system's
  folders (Landlock), sockets and new processes (seccomp), and what the resource limits take.

Every layer is tried and none is required: the report names those that hold, in `LAYERS`' words. It is read by
`sandbox`, which decides what to think of that.

Not here: reading output, deciding on a verdict. Nothing from the product may be imported here.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any, NoReturn

LAYERS = ("user", "network", "pids", "mounts", "landlock", "seccomp")

STATUS_FD = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 3  # the pipe to report on

# linux/sched.h
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_THREAD = 0x00010000

# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = 38, 36
SECCOMP_MODE_FILTER = 2

# System calls that came after the tables were unified have one number on every architecture.
SYS_MOUNT_SETATTR = 442
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446

MS_REC, MS_PRIVATE = 0x4000, 0x40000
MS_NOSUID, MS_NODEV = 0x2, 0x4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY = 0x1

# Calls that a program which only computes never makes: ways to the network, into other processes, around the filter
# (io_uring makes sockets by itself) or to memory that no limit counts (memfd). (number on x86_64, on aarch64)
REFUSED_CALLS = {
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "memfd_create": (319, 279),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442),
    "memfd_secret": (447, 447),
    "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440),
}
# Calls that reach other processes, allowed on oneself (0, or one's own number) alone.
OWN_CALLS = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "setpriority": (141, 140),
}
FORKS = {"fork": (57, None), "vfork": (58, None)}
CLONE = (56, 220)
CLONE3 = 435
AUDIT_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
X32_BIT = 0x40000000

Orders = dict[str, Any]


class TimeIsUp(Exception):
    """The wall clock ran out, or the parent asked for the end."""


# ---------------------------------------------------------------------------------------------- system calls


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _prctl(option: int, *arguments: Any) -> None:
    padded = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (*arguments, 0, 0, 0, 0)[:4]]
    _checked(_libc().prctl(option, *padded))


def _unshare(flags: int) -> None:
    _checked(_libc().unshare(ctypes.c_int(flags)))


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    _checked(_libc().mount(source, target, kind, ctypes.c_ulong(flags), data))


def _set_mount(place: bytes, how: int, gained: int, lost: int) -> None:
    attributes = (ctypes.c_uint64 * 4)(gained, lost, 0, 0)
    _checked(
        _libc().syscall(
            ctypes.c_long(SYS_MOUNT_SETATTR),
            ctypes.c_int(AT_FDCWD),
            place,
            ctypes.c_uint(how),
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        )
    )


# ------------------------------------------------------------------------------------------------ the layers


def take_namespaces() -> list[str]:
    """Leave the host's namespaces; names the ones left. A user namespace makes the others available without root.

    The user keeps its number outside and is `nobody` inside, so the next exec has no capability, not even in here.
    """
    uid, gid = os.geteuid(), os.getegid()
    others = CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS
    try:
        _unshare(CLONE_NEWUSER | others)
    except OSError:
        return []
    for name, line in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    return ["user", "network", "pids"]


def freeze_mounts(folder: str, disk_bytes: int) -> list[str]:
    """Make every mounted file system read-only, and `folder` a memory file system of `disk_bytes`."""
    place = os.fsencode(folder)
    options = f"size={disk_bytes},nr_inodes=4096,mode=0700".encode()
    try:
        _mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        _mount(b"tmpfs", place, b"tmpfs", MS_NOSUID | MS_NODEV, options)
        _set_mount(b"/", AT_RECURSIVE, gained=MOUNT_ATTR_RDONLY, lost=0)
        _set_mount(place, 0, gained=0, lost=MOUNT_ATTR_RDONLY)
    except OSError:
        return []
    return ["mounts"]


def drop_capabilities() -> None:
    """Empty the three capability sets of this process (capset, version 3)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    _libc().capset(ctypes.byref(header), ctypes.byref(sets))


def landlock(folder: str, readable: Iterable[str]) -> list[str]:
    """Allow writing in `folder` and reading in `readable` only; signals and abstract sockets stay inside as well.

    Landlock(7). The set of rights grows with the kernel's version of it, and a right that it does not know is an error.
    """
    call = _libc().syscall
    number = ctypes.c_long(SYS_LANDLOCK_CREATE_RULESET)
    version = call(number, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if version < 1:
        return []
    rights = (1 << 13) - 1
    for since, bit in ((2, 13), (3, 14), (5, 15)):
        rights |= (1 << bit) if version >= since else 0
    read_only = 0b1101  # execute, read a file, list a folder
    of_files = 0b111 | (1 << 14) | (1 << 15)
    handled = (ctypes.c_uint64 * 3)(rights, 0, 0b11)
    size = 24 if version >= 6 else 8
    try:
        ruleset = _checked(call(number, ctypes.byref(handled), ctypes.c_size_t(size), ctypes.c_uint(0)))
        for path, wanted in ((folder, rights), ("/dev/null", rights), *((path, read_only) for path in readable)):
            if not os.path.exists(path):
                continue
            allowed = wanted if os.path.isdir(path) else wanted & of_files
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = allowed.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
            add = ctypes.c_long(SYS_LANDLOCK_ADD_RULE)
            _checked(call(add, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0)))
            os.close(place)
        _checked(call(ctypes.c_long(SYS_LANDLOCK_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint(0)))
        os.close(ruleset)
    except OSError:
        return []
    return ["landlock"]


def filter_program(machine: str, alone: bool, process: int) -> bytes | None:
    """The seccomp filter for this machine, or None where its call numbers are not known.

    Everything is allowed but REFUSED_CALLS and, when `alone`, every way to a new process (threads are fine) or to
    another one than `process`, which is to be filtered.
    """
    if machine not in AUDIT_ARCHITECTURES:
        return None
    column, architecture = AUDIT_ARCHITECTURES[machine]
    refuse, unknown, allow, kill = 0x00050000 | 1, 0x00050000 | 38, 0x7FFF0000, 0x80000000  # EPERM, ENOSYS

    def instruction(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
        return code.to_bytes(2, sys.byteorder) + bytes((yes, no)) + k.to_bytes(4, sys.byteorder)

    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    program = [
        instruction(load, 4),
        instruction(equal, architecture, 1, 0),
        instruction(give, kill),
        instruction(load, 0),
        instruction(at_least, X32_BIT, 0, 1),
        instruction(give, kill),
    ]
    refused = [numbers[column] for numbers in REFUSED_CALLS.values()]
    if alone:
        refused += [numbers[column] for numbers in FORKS.values() if numbers[column] is not None]  # type: ignore[misc]
    for number in refused:
        program += [instruction(equal, number, 0, 1), instruction(give, refuse)]
    if alone:
        for numbers in OWN_CALLS.values():
            program += [
                instruction(equal, numbers[column], 0, 5),
                instruction(load, 16),
                instruction(equal, process, 2, 0),
                instruction(equal, 0, 1, 0),
                instruction(give, refuse),
                instruction(give, allow),
            ]
        # clone3 hides its flags in memory: "no such call" makes libc fall back to clone, whose flags can be read.
        program += [instruction(equal, CLONE3, 0, 1), instruction(give, unknown)]
        program += [
            instruction(equal, CLONE[column], 0, 3),
            instruction(load, 16),
            instruction(any_bit, CLONE_THREAD, 1, 0),
            instruction(give, refuse),
        ]
    return b"".join((*program, instruction(give, allow)))


def seccomp(alone: bool) -> list[str]:
    """Install the filter on this process and all it becomes."""
    program = filter_program(os.uname().machine, alone, os.getpid())
    if program is None:
        return []

    class FilterProgram(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    structure = FilterProgram(len(program) // 8, program)
    try:
        _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(structure))
    except OSError:
        return []
    return ["seccomp"]


def limit_resources(orders: Orders, counted_here: bool) -> None:
    """Set the resource limits. `counted_here` means that processes are counted for this user namespace alone."""
    cpu = int(orders["cpu_seconds"])
    wanted = {
        resource.RLIMIT_CPU: (cpu, cpu + 1),
        resource.RLIMIT_AS: (orders["memory_bytes"],) * 2,
        resource.RLIMIT_FSIZE: (orders["file_bytes"],) * 2,
        resource.RLIMIT_NOFILE: (orders["open_files"],) * 2,
        resource.RLIMIT_CORE: (0, 0),
    }
    if counted_here:
        # A thread counts as a process here, and one program may have some.
        wanted[resource.RLIMIT_NPROC] = (orders["processes"] + 63,) * 2
    for limit, (soft, hard) in wanted.items():
        _, highest = resource.getrlimit(limit)
        ceiling = max(soft, hard) if highest == resource.RLIM_INFINITY else highest
        try:
            resource.setrlimit(limit, (min(soft, ceiling), min(hard, ceiling)))
        except (OSError, ValueError):
            # macOS refuses limits on address space; the parent says there that memory is not limited.
            if sys.platform == "linux":
                raise


# ------------------------------------------------------------------------------------------- the three processes


def report(*words: object) -> None:
    """One line to the parent."""
    os.write(STATUS_FD, (" ".join(map(str, words)) + "\n").encode())


def confine(orders: Orders, layers: list[str]) -> None:
    """Give up, in this process, everything that the program is not to have."""
    folder, without = orders["folder"], orders["without"]
    if "user" in layers and "mounts" not in without:
        layers += freeze_mounts(folder, orders["disk_bytes"])
    os.chdir(folder)
    for name, content in orders["files"].items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content.encode("latin-1"))
    if sys.platform == "linux":
        drop_capabilities()
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
        if "landlock" not in without:
            layers += landlock(folder, orders["readable"])
        if "seccomp" not in without:
            layers += seccomp(alone=orders["processes"] == 1)
    limit_resources(orders, counted_here="user" in layers)


def be_the_program(orders: Orders, layers: list[str]) -> NoReturn:
    """Confine this process, say so, and turn into the program; 126 and 127 as a shell has them."""
    code = 126
    try:
        os.setsid()
        os.environ.clear()
        os.environ.update(orders["environment"])
        confine(orders, layers)
        report("layers", *layers)
        os.close(STATUS_FD)
        if orders["argv"]:
            code = 127
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and an exec hands down
                signal.signal(number, signal.SIG_DFL)
            os.execve(orders["argv"][0], orders["argv"], orders["environment"])  # noqa: S606  no shell is what is wanted
        code = 1
        sys.path += (*orders["packages"], orders["entry_folder"])
        module = __import__(orders["entry"])
        sys.path.pop()
        module.main()
        code = 0
    except BaseException as error:  # noqa: BLE001  it must not reach the supervisor's code, which this is a fork of
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        try:
            sys.stdout.flush()
        finally:
            os._exit(code)


def _time_is_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeIsUp


def kill_the_rest(program: int) -> None:
    """Kill the program's group and all orphans that came to this process, until none is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended meanwhile, or macOS is reaping it
        os.killpg(program, signal.SIGKILL)
    while True:
        for child in _children():
            os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def supervise(orders: Orders, layers: list[str]) -> NoReturn:
    """Start the program, wait for its end or for the clock's, report, and leave nothing behind."""
    if sys.platform == "linux":
        # No other process of this user may look into this one, nor into a program that starts without an exec.
        _prctl(PR_SET_DUMPABLE, 0)
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, _time_is_up)
    program = os.fork()
    if program == 0:
        for number in (signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        be_the_program(orders, layers)
    for inherited in orders["pass_fds"]:
        os.close(inherited)
    status, used = 0, None
    try:
        if "pids" not in layers:
            report("program", program)
        signal.setitimer(signal.ITIMER_REAL, orders["wall_seconds"])
        while True:
            ended, status, used = os.wait4(-1, 0)
            if ended == program:
                break
        signal.setitimer(signal.ITIMER_REAL, 0)
        report("ended", status, used.ru_maxrss, used.ru_utime + used.ru_stime)
    except TimeIsUp:
        os.kill(program, signal.SIGKILL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _, status, used = os.wait4(program, 0)
        report("late", status, used.ru_maxrss, used.ru_utime + used.ru_stime)
    if "pids" not in layers:
        kill_the_rest(program)
    os._exit(0)


def main() -> NoReturn:
    """Read the orders from stdin and carry them out."""
    orders: Orders = json.load(sys.stdin.buffer)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    layers: list[str] = []
    if sys.platform == "linux":
        layers = [] if "user" in orders["without"] else take_namespaces()
        if not layers:
            _prctl(PR_SET_CHILD_SUBREAPER, 1)
    if "pids" not in layers:
        supervise(orders, layers)
    first = os.fork()
    if first == 0:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        supervise(orders, layers)
    for inherited in (STATUS_FD, *orders["pass_fds"]):
        os.close(inherited)
    os.waitpid(first, 0)
    os._exit(0)
