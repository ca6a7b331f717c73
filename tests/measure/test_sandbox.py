"""Hostile functions: each ends with a reason, none reaches anything, and the next one runs as if nothing had been."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.errors import SpecError
from gnothi.measure import sandbox
from gnothi.measure.sandbox import Job, Return, Sandbox, extract_code, run_function, run_functions

needs_linux = pytest.mark.skipif(sandbox.unavailable() is not None, reason=str(sandbox.unavailable()))
GOOD = "def f(message: str) -> float:\n    return len(message) / 10\n"


def body(*lines: str, head: str = "") -> str:
    return head + "def f(x):\n" + "".join(f"    {line}\n" for line in lines)


HOSTILE = {
    "subclasses": (body("return ().__class__.__mro__[1].__subclasses__()"), "refused: the code uses the name __"),
    "getattr with built strings": (body("return getattr((), '__cla' + 'ss__')"), "raised NameError"),
    "setattr": (body("return setattr(f, 'a', 1)"), "raised NameError"),
    "vars": (body("return vars()['x']"), "raised NameError"),
    "globals": (body("return globals()"), "raised NameError"),
    "type": (body("return type('A', (), {})"), "raised NameError"),
    "f-string": (body("return f'{x.__class__}'"), "refused: the code uses the name __class__"),
    "format": (body("return '{0.__class__}'.format(x)"), "formats with a field that looks into its argument"),
    "format, index": (body("return '{0[0]}'.format(x)"), "formats with a field that looks into its argument"),
    "format, nested": (body("return '{:{0.real}}'.format(x)"), "formats with a field that looks into its argument"),
    "format, built": (body("return ('{0.__cl' + 'ass__}').format(x)"), "formats a text that is not a literal"),
    "format, unbound": (body("return str.format('{0.__class__}', x)"), "formats a text that is not a literal"),
    "format_map": (body("return str.format_map('{x.__class__}', {'x': x})"), "formats a text that is not a literal"),
    "format as a value": (body("return list(map(str.format, ['{.a}'], [x]))"), "formats a text that is not a literal"),
    "string.Formatter": ("import string\n" + body("return string.Formatter()"), "raised AttributeError"),
    "match pattern": (body("match x:", "    case object(__class__=c):", "        return c"), "uses the name __class__"),
    "generator frame": (body("return (i for i in [1]).gi_frame"), "refused: the code uses the name gi_frame"),
    "generator code": (body("return (i for i in [1]).gi_code"), "refused: the code uses the name gi_code"),
    "frame back": (body("return x.f_back"), "refused: the code uses the name f_back"),
    "traceback": (body("try:", "    1 / 0", "except Exception as e:", "    return e.__traceback__"), "__traceback__"),
    "traceback frame": (body("return x.tb_frame.f_globals"), "refused: the code uses the name"),
    "code object": (body("return x.co_consts"), "refused: the code uses the name co_consts"),
    "dunder import": (body("return __import__('os')"), "refused: the code uses the name __import__"),
    "builtins": (body("return __builtins__['open']"), "refused: the code uses the name __builtins__"),
    "global builtins": (
        body("global __builtins__", "__builtins__ = 1"),
        "refused: the code uses the name __builtins__",
    ),
    "import os": ("import os\n" + body("return 1.0"), "refused: the code imports os"),
    "import of a submodule": (
        "import collections.abc\n" + body("return 1.0"),
        "refused: the code imports collections.abc",
    ),
    "relative import": ("from . import x\n" + body("return 1.0"), "refused: the code imports relatively"),
    "from sys": ("from sys import modules\n" + body("return 1.0"), "refused: the code imports sys"),
    "import as": ("import re as __builtins__\n" + body("return 1.0"), "uses the name __builtins__"),
    "inner module": ("import re\n" + body("return re.enum.sys"), "raised AttributeError"),
    "hidden module": ("import collections\n" + body("return collections._sys"), "raised AttributeError"),
    "metaclass": (
        "class A(metaclass=str): pass\n" + body("return 1.0"),
        "refused: the code defines a class with keywords",
    ),
    "hook method": ("class A:\n    def __getattr__(self, n): pass\n" + body("return 1.0"), "uses the name __getattr__"),
    "async": ("async def g(): pass\n" + body("return 1.0"), "refused: the code is asynchronous"),
    "open": (body("return open('/etc/passwd').read()"), "raised NameError"),
    "write": (body("open('a', 'w').write('a')", "return 1.0"), "raised NameError"),
    "eval": (body("return eval('1.0')"), "raised NameError"),
    "exec": (body("exec('import os')", "return 1.0"), "raised NameError"),
    "compile": (body("return compile('1', '', 'eval')"), "raised NameError"),
    "compile by the back door": (
        "from typing import List\n" + body("return List['__import__(\"os\").getpid()']"),
        "was stopped at compile",
    ),
    "input": (body("return input()"), "raised NameError"),
    "breakpoint": (body("breakpoint()"), "raised NameError"),
    "exit": (body("raise SystemExit(0)"), "raised NameError"),
    "signals": ("import signal\n" + body("return 1.0"), "refused: the code imports signal"),
    "threads": ("import threading\n" + body("return 1.0"), "refused: the code imports threading"),
    "ctypes": ("import ctypes\n" + body("return 1.0"), "refused: the code imports ctypes"),
    "socket": ("import socket\n" + body("return 1.0"), "refused: the code imports socket"),
    "environment": ("from os import environ\n" + body("return 1.0"), "refused: the code imports os"),
    "a codec that is a module": (body("return len(x.encode('idna'))"), "was stopped at import"),
    "10 GB": (body("return len('a' * 10**10) / 1e20"), "raised MemoryError"),
    "many small": (body("a = []", "while True:", "    a.append('a' * 10**6 + str(len(a)))"), "raised MemoryError"),
    "recursion": (body("return f(x)"), "raised RecursionError"),
    "bool": (body("return True"), "returned bool"),
    "text": (body("return '0.5'"), "returned str"),
    "nothing": (body("pass"), "returned NoneType"),
    "NaN": (body("return float('nan')"), "returned a number that is not finite"),
    "infinity": (body("return float('inf')"), "returned a number that is not finite"),
    "outside": (body("return 1.01"), "returned a number outside [0, 1]"),
    "below": (body("return -1"), "returned a number outside [0, 1]"),
    "huge integer": (body("return 10**400"), "raised OverflowError"),
    "float subclass": ("class S(float):\n    pass\n" + body("return S(0.5)"), "returned S"),
    "str subclass": ("class S(str):\n    pass\n" + body("return S('0.5')"), "returned S"),
    "forged line": ("class A(Exception):\n    pass\n" + body("raise A('\\n=0.5\\n=0.5')"), "raised A"),
    "long name": (f"class {'A' * 300}(Exception):\n    pass\n" + body(f"raise {'A' * 300}"), "raised " + "A" * 40),
    "odd name": ("class Größe(Exception):\n    pass\n" + body("raise Größe"), "wrote something else than returns"),
    "null byte": (body("return 1.0\0"), "the code is not Python"),
    "syntax": ("def f(x)\n    return 1.0", "the code is not Python"),
    "surrogate": ("x = '\ud800'\n" + body("return 1.0"), "the code is not Python"),
    "prose": ("I cannot help with that.", "the code is not Python"),
    "empty": ("", "the code has no such function"),
    "no function": ("f = 1.0", "the code has no such function"),
    "class for a function": ("class f:\n    pass", "the code has no such function"),
    "deep brackets": ("x = " + "(" * 5000 + ")" * 5000 + "\n" + body("return 1.0"), "the code is not Python"),
    "deep minus": ("x = " + "-" * 50_000 + "1\n" + body("return 1.0"), "the code is nested too deeply to be read"),
    "deep sum": ("x = " + "1+" * 20_000 + "1\n" + body("return 1.0"), "the code is nested too deeply to be read"),
    "100 kB": ("#" * 100_000 + "\n" + body("return 1.0"), "the code is longer than 64,000 characters"),
}
ENDLESS = {
    "loop": body("while True:", "    pass"),
    "loop that swallows": body(
        "while True:", "    try:", "        while True:", "            pass", "    except:", "        pass"
    ),
    "loop at the top": "while True:\n    pass",
    "power": body("return 10**10**8"),
    "pattern": "import re\n" + body("return float(bool(re.match('(a+)+$', 'a' * 40 + 'b')))"),
}


@needs_linux
def test_every_hostile_function_ends_with_its_reason_and_the_next_one_runs():
    before = set(os.listdir("/proc/self/fd")), Path.cwd()
    codes = [code for code, _ in HOSTILE.values()]
    jobs = [job for code in codes for job in (Job(code, "f", ("hi", "ho")), Job(GOOD, "f", ("abc",)))]
    found = run_functions(jobs, seconds=1.5)
    wrong = [
        (name, returns)
        for (name, (_, reason)), returns in zip(HOSTILE.items(), found[::2], strict=True)
        if [r.value for r in returns] != [None, None] or not all(reason in str(r.reason) for r in returns)
    ]
    assert not wrong
    assert all(good == [Return(0.3)] for good in found[1::2])
    assert (set(os.listdir("/proc/self/fd")), Path.cwd()) == before


@needs_linux
def test_what_never_ends_is_ended():
    started = time.monotonic()
    found = run_functions([Job(code, "f", ("a", "b")) for code in ENDLESS.values()], seconds=0.2, workers=2)
    assert found == [[Return(None, "ran longer than 0.2 s")] * 2] * len(ENDLESS)
    assert time.monotonic() - started < 9


@needs_linux
def test_returns_before_the_break_are_kept():
    code = "n = 0\n" + body("global n", "n += 1", "while n > 2:", "    pass", "return n / 4")
    found = run_function(code, "f", ["a"] * 4, seconds=0.2)
    assert [r.value for r in found] == [0.25, 0.5, None, None]


# What a function could do if it got past the checks: the kernel ends it. Each runs in a fork of its own after
# `lock_down`, with all of Python at hand.
KERNEL = {
    "os.open('/etc/passwd', os.O_RDONLY)": "PermissionError",
    "os.open('new', os.O_CREAT | os.O_WRONLY)": "PermissionError",
    "os.stat('/')": "signal 31",
    "os.listdir('.')": "PermissionError",
    "os.unlink('x')": "signal 31",
    "os.mkdir('x')": "signal 31",
    "os.chdir('/')": "signal 31",
    "os.read(0, 1)": "signal 31",
    "os.write(1, b'x')": "signal 31",
    "os.dup(out)": "signal 31",
    "os.pipe()": "signal 31",
    "os.fork()": "signal 31",
    "os.execv('/bin/true', ['true'])": "signal 31",
    "os.kill(os.getppid(), 9)": "signal 31",
    "os.killpg(0, 9)": "signal 31",
    "os.setuid(0)": "signal 31",
    "socket.socket()": "signal 31",
    "socket.create_connection(('127.0.0.1', 9))": "signal 31",
    "threading.Thread(target=print).start()": "signal 31",
    "signal.signal(signal.SIGPROF, signal.SIG_IGN)": "signal 31",
    "signal.setitimer(signal.ITIMER_PROF, 0)": "signal 31",
    "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))": "signal 31",
    "time.sleep(100)": "signal 31",
    "mmap.mmap(-1, 4096, prot=mmap.PROT_EXEC | mmap.PROT_READ)": "signal 31",
    "ctypes.CDLL(None).ptrace(0, 0, 0, 0)": "signal 31",
    "ctypes.CDLL(None).mprotect(0, 4096, 4)": "signal 31",
    "ctypes.CDLL(None).syscall(41, 2, 1, 0)": "signal 31",
    "ctypes.string_at(0)": "signal 11",
    "bytearray(10**9)": "MemoryError",
    "mmap.mmap(-1, 4096)": "fine",
    "1 + 1": "fine",
}
SCRIPT = """
import ctypes, json, mmap, os, resource, signal, socket, sys, threading, time, importlib.util
spec = importlib.util.spec_from_file_location("child", sys.argv[1])
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
found = []
for what in json.load(sys.stdin):
    source, out = os.pipe()
    pid = os.fork()
    if not pid:
        code = compile(what, "", "eval")
        child.lock_down(out, seconds=2, memory_mb=64)
        try:
            eval(code)
            os.write(out, b"fine")
        except BaseException as error:
            os.write(out, type(error).__name__.encode())
        os._exit(0)
    os.close(out)
    text = os.read(source, 100).decode()
    os.close(source)
    status = os.waitpid(pid, 0)[1]
    found.append(f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else text)
print(json.dumps(found))
"""


@needs_linux
def test_past_every_check_of_python_the_kernel_still_ends_it(tmp_path):
    import json

    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(Path(sandbox.__file__).with_name("sandbox_child.py"))],
        input=json.dumps(list(KERNEL)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    found = dict(zip(KERNEL, json.loads(done.stdout), strict=True))
    assert found == KERNEL
    assert not list(tmp_path.iterdir())


USEFUL = {
    "plain": (GOOD, 0.5),
    "integer": (body("return 1"), 1.0),
    "print": (body("print('a' * 10**6)", "return 0.5"), 0.5),
    "main block": (GOOD + "if __name__ == '__main__':\n    print(f(input()))\n", 0.5),
    "re and math": ("import re, math\n" + body("return math.sqrt(len(re.findall('l', x)) / 8)"), 0.5),
    "counter": ("from collections import Counter\n" + body("return Counter(x)['l'] / 4"), 0.5),
    "typing": ("from typing import List, Optional\ndef f(x: str) -> Optional[float]:\n    return 0.5\n", 0.5),
    "annotations": ("from __future__ import annotations\ndef f(x: Text) -> float:\n    return 0.5\n", 0.5),
    "star": ("from math import *\n" + body("return sqrt(0.25)"), 0.5),
    "format": (body("return float('{:.1f}{}'.format(0.5, ''))"), 0.5),
    "class": ("class A:\n    def __init__(self):\n        self.n = 0.5\n" + body("return A().n"), 0.5),
    "lambda": ("f = lambda x: 0.5", 0.5),
    "hash": (body("return round(hash(x) % 2 / 2) + 0.5"), 0.5),
    "codecs": (body("return len(x.encode('ascii', 'ignore')) / 10"), 0.5),
    "hashlib": ("import hashlib\n" + body("return len(hashlib.md5(x.encode()).hexdigest()) / 64"), 0.5),
}


@needs_linux
def test_ordinary_functions_run():
    found = run_functions([Job(code, "f", ("hello",)) for code, _ in USEFUL.values()])
    assert {n: r[0] for n, r in zip(USEFUL, found, strict=True)} == {n: Return(v) for n, (_, v) in USEFUL.items()}


@needs_linux
def test_the_same_function_returns_the_same_in_any_company():
    dice = "import random\n" + body("return (random.random() + hash(x) % 100 / 100) / 2")
    alone = run_function(dice, "f", ["a", "b"])
    assert alone == run_functions([Job(GOOD, "f", ("a",)), Job(dice, "f", ("a", "b")), Job(dice, "f", ("a", "b"))])[2]
    assert alone == run_functions([Job(dice, "f", ("a", "b"))] * 3, workers=3)[1]
    assert alone[0] != alone[1]


@needs_linux
def test_a_job_without_arguments_returns_nothing_and_none_is_started_for_no_jobs():
    assert run_functions([]) == [] and run_function(GOOD, "f", []) == []


@needs_linux
def test_a_runner_that_is_lost_is_started_anew():
    with sandbox._Runner() as runner:
        runner.process.kill()
        runner.process.wait()
        lost = runner.run(Job(GOOD, "f", ("a",)), seconds=1.0, memory_mb=64)
        assert lost[0].value is None and "the sandbox broke off" in str(lost[0].reason)
        assert runner.run(Job(GOOD, "f", ("a",)), seconds=1.0, memory_mb=64) == [Return(0.1)]


@given(how=st.text(max_size=12), lines=st.binary(max_size=300), n=st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_whatever_comes_back_is_read_as_numbers_in_range_or_reasons(how, lines, n):
    for found in (sandbox._returns("end", lines, n, 1.0), sandbox._returns("signal 9", b"=0.5\n" + lines, n, 1.0)):
        assert len(found) == n
        for r in found:
            assert (r.value is None and r.reason) or (type(r.value) is float and 0 <= r.value <= 1 and r.reason is None)


@pytest.mark.parametrize(
    "lines, reason",
    [
        (b"0.5\n", "wrote something else than returns"),
        (b"=half\n", "wrote something else than returns"),
        (b"!<script>\n", "wrote something else than returns"),
        (b"=0.5", "ended before it returned"),
        (b"", "ended before it returned"),
    ],
)
def test_forged_lines_are_no_returns(lines, reason):
    assert sandbox._returns("end", lines, 1, 1.0) == [Return(None, reason)]


@pytest.mark.parametrize(
    "how, reason",
    [
        ("late", "ran longer than 2 s"),
        ("signal 27", "ran longer than 2 s"),
        ("loud", "wrote too much"),
        ("signal 31", "made a forbidden system call"),
        ("signal 11", "crashed"),
        ("signal 15", "ended by signal 15"),
    ],
)
def test_each_end_has_its_reason(how, reason):
    assert sandbox._returns(how, b"=0.5\n", 2, 2.0) == [Return(0.5), Return(None, reason)]


@pytest.mark.parametrize(
    "text, code",
    [
        ("x = 1\n", "x = 1\n"),
        ("Sure!\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```bash\nls\n```\n```python\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n", "x = 1\n"),
        ("~~~py\nx = 1\n~~~\n", "x = 1\n"),
        ("```text\nx\n```\n```\ny\n```", "x\n"),
        ("", ""),
    ],
)
def test_code_is_found_in_an_answer(text, code):
    assert extract_code(text) == code


@needs_linux
def test_an_asker_gets_numbers_and_words_from_one_process_that_ends_with_it():
    run = Sandbox(seconds=1.0)
    assert run(GOOD, "f", ("a", "bb" * 10)) == [0.1, "returned a number outside [0, 1]"]
    assert run(body("return 1 / 0"), "f", ("a",)) == ["raised ZeroDivisionError"]
    process = run._runner.process
    assert run(GOOD, "f", ()) == [] and run._runner.process is process and process.poll() is None
    folder = Path(run._runner.folder.name)
    run.close()
    assert process.returncode is not None and not folder.exists()
    assert run(GOOD, "f", ("a",)) == [0.1]
    process = run._runner.process
    del run
    assert process.returncode is not None


@pytest.mark.parametrize(
    "limits", [{"seconds": 0}, {"seconds": 61}, {"memory_mb": 1}, {"workers": 0}, {"seconds": float("nan")}]
)
def test_limits_out_of_range_are_refused(limits):
    with pytest.raises(SpecError, match=r"the sandbox must get seconds in \(0, 60\].*got.*Choose limits in range"):
        run_functions([Job(GOOD, "f", ("a",))], **limits)
    if "workers" not in limits:
        with pytest.raises(SpecError, match="the sandbox must get seconds"):
            Sandbox(**limits)


def test_another_system_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(sandbox, "unavailable", lambda: "the sandbox needs Linux on x86_64, this is darwin on arm64")
    with pytest.raises(SpecError, match=r"run_functions must have a sandbox, got none: .*darwin.*Run it on Linux"):
        run_functions([Job(GOOD, "f", ("a",))])
    assert Sandbox()(GOOD, "f", ("a", "b")) == ["the sandbox needs Linux on x86_64, this is darwin on arm64"] * 2


def test_this_machine_is_looked_at_before_anything_is_run(monkeypatch):
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "riscv64")
    assert "the sandbox needs Linux on x86_64 or aarch64, this is" in str(sandbox.unavailable.__wrapped__())
