"""The other side of `gnothi.measure.sandbox`: a script of its own that runs one function after another, each in a fork.

It imports the standard library alone and is never imported by the package. The first process loads what a function may
import and then only forks; model-written code runs in the forks, after `lock_down`. docs/sandbox.md holds the layers.
"""

import ast
import codecs
import contextlib
import ctypes
import errno
import json
import os
import platform
import resource
import select
import signal
import string
import struct
import sys
import time
from types import FunctionType, SimpleNamespace

PUBLIC = {
    "math": "",
    "itertools": "",
    "re": "compile search match fullmatch findall finditer split sub subn escape Pattern Match "
    "IGNORECASE I MULTILINE M DOTALL S ASCII A VERBOSE X UNICODE U error",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits punctuation whitespace printable",
    "collections": "Counter defaultdict deque OrderedDict ChainMap",
    "functools": "reduce partial lru_cache cache",
    "statistics": "mean fmean median mode stdev pstdev variance pvariance",
    "difflib": "SequenceMatcher get_close_matches",
    "unicodedata": "normalize category name",
    "json": "loads dumps",
    "hashlib": "md5 sha1 sha256",
    "random": "random randint uniform choice choices sample shuffle gauss seed randrange",
    "typing": "Any Callable Dict Final FrozenSet Iterable Iterator List Literal Mapping Optional Sequence Set Tuple "
    "Union Pattern Match",
}
"""Module -> names that code may import from it; an empty text means all public ones."""
ALLOWED = """
abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter float format frozenset hash
hex int isinstance issubclass iter len list map max min next oct ord pow property range repr reversed round set slice
sorted staticmethod str sum tuple zip ArithmeticError AssertionError AttributeError Exception IndexError KeyError
LookupError NameError OverflowError RuntimeError StopIteration TypeError UnicodeError ValueError ZeroDivisionError
__build_class__"""
"""Built-in names that code may use; `print` does nothing."""
METHODS = frozenset(f"__{n}__" for n in ("init", "call", "len", "contains", "iter", "str", "repr", "eq", "lt", "hash"))
WALKS = frozenset(
    (
        "mro",
        "gi_frame",
        "gi_code",
        "cr_code",
        "ag_code",
        "gi_code",
        "gi_yieldfrom",
        "ag_frame",
        "cr_frame",
        "with_traceback",
    )
)
WALK_PREFIXES = ("f_back", "f_globals", "f_locals", "f_builtins", "f_code", "tb_", "co_", "func_")
QUIET_EVENTS = frozenset(("builtins.id",))
MAX_OUTPUT = 1 << 16


class Refused(Exception):
    """Code that is not run at all; the text says why."""


def check(tree):
    """Refuse what looks at the interpreter and not at numbers and text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _module(alias.name)
                _name(alias.asname)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise Refused("imports relatively")
            _module(node.module)
            for alias in node.names:
                _name(alias.name)
                _name(alias.asname)
        elif isinstance(node, ast.Attribute):
            _name(node.attr)
            if node.attr in ("format", "format_map"):
                _plain_format(node.value)
        elif isinstance(node, ast.Name):
            if node.id != "__name__" or not isinstance(node.ctx, ast.Load):
                _name(node.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            for name in node.names:
                _name(name)
        elif isinstance(node, ast.FunctionDef):
            if node.name not in METHODS:
                _name(node.name)
        elif isinstance(node, ast.ClassDef):
            _name(node.name)
            if node.keywords:
                raise Refused("defines a class with keywords")
        elif isinstance(node, ast.arg):
            _name(node.arg)
        elif isinstance(node, ast.keyword | ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.MatchMapping):
            _name(getattr(node, "arg", None) or getattr(node, "name", None) or getattr(node, "rest", None))
        elif isinstance(node, ast.MatchClass):
            for name in node.kwd_attrs:
                _name(name)
        elif isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
            raise Refused("is asynchronous")


def _name(name):
    if name and (name.startswith("__") or name in WALKS or name.startswith(WALK_PREFIXES)):
        raise Refused(f"uses the name {name[:40]}")


def _module(name):
    if name != "__future__" and name not in PUBLIC:
        raise Refused(f"imports {(name or '')[:40]}")


def _plain_format(value):
    """`"{}".format(x)` is harmless on a literal whose fields do not look into their argument."""
    text = value.value if isinstance(value, ast.Constant) else None
    if not isinstance(text, str):
        raise Refused("formats a text that is not a literal")
    try:
        fields = [(field or "", spec or "") for _, field, spec, _ in string.Formatter().parse(text)]
    except ValueError:
        return  # fails when it is run, too
    if any(set(field) & set(".[") or set(spec) & set("{") for field, spec in fields):
        raise Refused("formats with a field that looks into its argument")


def public_modules():
    """What `import` gives: a plain namespace for each allowed module, without the modules behind it."""
    import random

    found = {}
    for name, names in PUBLIC.items():
        module = __import__(name)
        chosen = names.split() if names else [n for n in dir(module) if not n.startswith("_")]
        found[name] = SimpleNamespace(**{n: getattr(module, n) for n in chosen})
    dice = random.Random(0)  # the same numbers each time, so that a function's returns can be had again
    found["random"] = SimpleNamespace(**{n: getattr(dice, n) for n in PUBLIC["random"].split()})
    found["__future__"] = SimpleNamespace(annotations=None, division=None, print_function=None)
    for name in ("ascii", "latin-1", "utf-8", "utf-16", "utf-32", "cp1252", "unicode_escape"):
        codecs.lookup(name)  # later no file can be read
    for name in ("md5", "sha1", "sha256"):
        getattr(found["hashlib"], name)(b"").hexdigest()  # OpenSSL opens its own files at the first use
    return found


def lock_down(out, *, seconds, memory_mb):
    """Give up everything but computing and writing to the descriptor `out`; there is no way back.

    Raises:
        OSError: The kernel does not let us; nothing may be run then.
    """
    mega = 1 << 20
    own = _own_memory_mb()
    for kind, value in (
        (resource.RLIMIT_AS, (own + memory_mb) * mega),
        (resource.RLIMIT_CPU, int(seconds) + 2),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    for number in (signal.SIGPROF, signal.SIGXCPU, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((1, signal.SIGKILL), (4, 0), (38, 1)):  # die with the parent; no core; no new privileges
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    program = seccomp_program(out)
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HL", len(program) // 8, ctypes.addressof(code)))
    if libc.prctl(22, 2, header, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp")


def _own_memory_mb():
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize() >> 20


CALLS = {
    "x86_64": (0xC000003E, 1, 9, 10, (2, 257), (12, 11, 25, 28, 202, 318, 15, 60, 231, 228, 96)),
    "aarch64": (0xC00000B7, 64, 222, 226, (56,), (214, 215, 216, 233, 98, 278, 139, 93, 94, 113, 169)),
}
"""Machine -> its audit number and the numbers of write, mmap, mprotect; of open; and of what may be called freely: brk,
munmap, mremap, madvise, futex, getrandom, rt_sigreturn, exit, exit_group, clock_gettime, gettimeofday."""


def seccomp_program(out):
    """A filter that kills the process at any system call but those that computing needs and writing to `out`.

    Memory may be had, anonymous and not executable only; no socket, process, signal or thread can be made. Opening a
    file fails and does not kill, since Python itself looks for the text of a line that does not parse.
    """
    audit, write, mmap, mprotect, opens, others = CALLS[platform.machine()]
    load, equal, any_bit, back = 0x20, 0x15, 0x45, 0x06
    kill, allow, deny = (back, 0, 0, 0x80000000), (back, 0, 0, 0x7FFF0000), (back, 0, 0, 0x00050000 | errno.EACCES)
    rows = [(load, 0, 0, 4), (equal, 1, 0, audit), kill, (load, 0, 0, 0)]
    for number in others:
        rows += [(equal, 0, 1, number), allow]
    for number in opens:
        rows += [(equal, 0, 1, number), deny]
    argument = [16 + 8 * i for i in range(6)]
    rows += [(equal, 0, 4, write), (load, 0, 0, argument[0]), (equal, 0, 1, out), allow, kill]
    rows += [(equal, 0, 4, mprotect), (load, 0, 0, argument[2]), (any_bit, 1, 0, 4), allow, kill]
    rows += [(equal, 0, 6, mmap), (load, 0, 0, argument[2]), (any_bit, 3, 0, 4)]
    rows += [(load, 0, 0, argument[3]), (any_bit, 0, 1, 0x20), allow, kill, kill]
    return b"".join(struct.pack("HBBI", *row) for row in rows)


def run(job, out, modules):
    """In a fork: lock down, look at the code, run it; one line a return: `=0.5`, or `!` and why there is none."""

    def say(line):
        data = line.encode("ascii", "replace")[:200] + b"\n"
        while data:
            data = data[os.write(out, data) :]

    lock_down(out, seconds=job["seconds"], memory_mb=job["memory_mb"])
    sys.setrecursionlimit(500)
    try:
        tree = ast.parse(job["code"])
        check(tree)
        code = compile(tree, "<answer>", "exec")
    except Refused as why:
        return say(f"*refused: the code {why}")
    except (SyntaxError, ValueError):
        return say("*is not Python")
    except (RecursionError, MemoryError):
        return say("*is nested too deeply to be read")
    builtins = {name: getattr(sys.modules["builtins"], name) for name in ALLOWED.split()}
    builtins["print"] = lambda *texts, **options: None

    def bring(name, space=None, local=None, names=(), level=0):
        return modules[name]

    builtins["__import__"] = bring
    space = {"__builtins__": builtins, "__name__": "answer"}
    started = []

    def hook(event, _):
        if event == "exec" and not started:
            started.append(True)  # our own
        elif event not in QUIET_EVENTS:
            say(f"*was stopped at {event}")
            os._exit(0)

    sys.addaudithook(hook)
    try:
        exec(code, space)
    except BaseException as error:
        return say(f"*raised {type(error).__name__[:40]}")
    function = space.get(job["function"])
    if type(function) is not FunctionType:
        return say("*has no such function")
    for argument in job["arguments"]:
        try:
            value = function(argument)
            line = f"={float(value)!r}" if type(value) in (float, int) else f"!returned {type(value).__name__[:40]}"
        except BaseException as error:
            line = f"!raised {type(error).__name__[:40]}"
        say(line)
    return None


def watch(job, modules):
    """Run a job in a fork and see that it ends: how it ended, and the lines that it wrote."""
    source, out = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        os.dup2(out, 3)
        os.closerange(4, 256)
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        try:
            run(job, 3, modules)
        finally:
            os._exit(0)
    os.close(out)
    wait, limit = 5 * job["seconds"] + 5, MAX_OUTPUT
    deadline, heard, why = time.monotonic() + wait, b"", ""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([source], [], [], left)[0]:
            why = "late"
            break
        part = os.read(source, 1 << 16)
        heard += part
        if not part or len(heard) > limit:
            why = "loud" if part else ""
            break
    os.close(source)
    for kill in (os.killpg, os.kill) if why else ():  # the group may not be there yet
        with contextlib.suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return (why or f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "end"), heard[:limit]


def serve(source=0, out=1):
    """Read jobs from `source` one after another, each led by its length, and answer each in the same way."""
    modules = public_modules()
    leave()
    with open(source, "rb", buffering=0, closefd=False) as jobs:
        while len(head := jobs.read(4)) == 4:
            (left,), text = struct.unpack("!I", head), b""
            while left and (part := jobs.read(left)):
                text, left = text + part, left - len(part)
            job = json.loads(text)
            text = b""
            how, lines = watch(job, modules)
            answer = how.encode() + b"\n" + lines
            answer = struct.pack("!I", len(answer)) + answer
            while answer:
                answer = answer[os.write(out, answer) :]


def leave():
    """Where we are root, become nobody; where the kernel lets us, go where there is no network and no file."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    libc.unshare(0x10000000 | 0x40000000 | 0x08000000)  # user, network, IPC; the filter holds without it


if __name__ == "__main__":
    serve()
