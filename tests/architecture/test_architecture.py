"""The shape of the package: which way imports point, where torch may stand, what never stands anywhere."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "gnothi"

LAYERS = (  # lowest first; the modules of one line do not import each other, unless FLOOR says so
    ("_version", "errors"),
    ("records",),
    ("rng", "intervals", "files", "yaml_file", "store", "executor", "differences"),
    ("worker",),
    ("behaviours",),
    ("render",),
    ("models",),
    ("data", "finetune", "measure", "elicit", "score"),
    ("mechanisms",),
    ("testbeds",),
    ("writeup",),
    ("experiments",),
    ("pipeline",),
    ("display", "terminal", "housekeeping", "doctor", "comparison", "frame"),
    ("api",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FLOOR = {"rng", "intervals", "files", "store", "executor", "differences"}
STAGES = {"data", "finetune", "measure", "elicit", "score"}
TENSORS = (
    "finetune/",
    "mechanisms/",
    "testbeds/",
    "models/local",
    "models/adapter",
    "models/organism",
    "models/forest",
    "experiments/look/",
)
WORKERS = re.compile(r"experiments/labs/\w+_work\w*\.py")
"""What makes a lab's units, in worker processes only: the labs themselves are imported to list them."""
TENSOR_LIBRARIES = {"torch", "transformers", "peft", "accelerate"}
HEAVY = ("torch", "transformers", "pandas", "pyarrow", "matplotlib", "scipy.stats")
MAX_LINES = 400


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(SRC.rglob("*.py"))


def inside(path: Path) -> str:
    """A module's path below the package, e.g. `score/names.py`."""
    return path.relative_to(SRC).as_posix()


def top(path: Path) -> str:
    """The top-level module that a file belongs to, `__init__` for the package's own."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it, also by a literal `import_module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from (f"{prefix}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "importlib.import_module", "__import__"}:
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def called(node: ast.Call) -> str:
    """The dotted name that is called, e.g. `torch.load`; empty where it is no plain name."""
    try:
        name = ast.unparse(node.func)
    except ValueError:
        return ""
    return name if re.fullmatch(r"[\w.]+", name) else ""


def wrong_imports(own: str, names: Iterator[str] | list[str]) -> list[str]:
    """The names among `names` that a module of the top-level module `own` must not import."""
    wrong = []
    for name in names:
        if name.startswith("."):
            wrong.append(f"{name} (relative)")
        if name.split(".")[0] != "gnothi" or own not in RANK:
            continue  # the package's own `__init__` may name everything; a module without a layer fails elsewhere
        parts = name.split(".")
        other = "_version" if parts[1:2] == ["__version__"] else (parts[1] if len(parts) > 1 else "")
        if other not in RANK:
            wrong.append(f"{name} (of no known layer)")
        elif other != own and (RANK[other] > RANK[own] or (RANK[other] == RANK[own] and not {own, other} <= FLOOR)):
            wrong.append(name)
    return wrong


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    """Every module, parsed once."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in modules()}


def test_every_top_level_module_has_its_layer():
    unknown = {top(p) for p in modules()} - set(RANK) - {"__init__"}
    assert not unknown, f"give these a place in LAYERS: {sorted(unknown)}"


def test_imports_point_down(trees: dict[Path, ast.Module]):
    wrong = [f"{inside(p)} imports {n}" for p, tree in trees.items() for n in wrong_imports(top(p), imported(tree))]
    assert not wrong, "\n".join(wrong)


def test_the_five_stages_never_import_each_other(trees: dict[Path, ast.Module]):
    wrong = [
        f"{inside(p)} imports {n}"
        for p, tree in trees.items()
        if top(p) in STAGES
        for n in imported(tree)
        if n.startswith("gnothi.") and n.split(".")[1] in STAGES - {top(p)}
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "own, name, good",
    [
        ("store", "gnothi.errors.StoreError", True),
        ("score", "gnothi.records.Estimate", True),
        ("score", "gnothi.score.names.ARMS", True),
        ("cli", "gnothi.__version__", True),
        ("errors", "numpy", True),
        ("errors", "gnothi.records.Item", False),
        ("score", "gnothi.measure.learned.fit", False),
        ("models", "gnothi.finetune.loop.train", False),
        ("writeup", "gnothi.pipeline", False),
        ("score", "..records.Item", False),
        ("score", "gnothi.nowhere.x", False),
        ("behaviours", "gnothi.api.run", False),
    ],
)
def test_the_rule_refuses_what_it_should(own: str, name: str, good: bool):
    assert (not wrong_imports(own, [name])) is good


def test_torch_stays_where_tensors_are(trees: dict[Path, ast.Module]):
    wrong = [
        f"{inside(p)} imports {name}"
        for p, tree in trees.items()
        if not inside(p).startswith(TENSORS) and not WORKERS.fullmatch(inside(p))
        for name in imported(tree)
        if name.split(".")[0] in TENSOR_LIBRARIES or name.startswith("safetensors.torch")
    ]
    assert not wrong, "\n".join(wrong)


def test_import_and_command_line_stay_light():
    code = f"import sys, gnothi, gnothi.cli; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split(), f"`import gnothi, gnothi.cli` loads {done.stdout.split()}"


def test_no_module_is_longer_than_a_reader_can_hold():
    long = {inside(p): n for p in modules() if (n := len(p.read_text(encoding="utf-8").splitlines())) > MAX_LINES}
    assert not long, f"over {MAX_LINES} lines: {long}"


def undocumented(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    """Public functions, classes and methods without a docstring."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        marks = {ast.unparse(d).split(".")[-1] for d in node.decorator_list}
        if not marks & {"overload", "override", "setter"} and not ast.get_docstring(node):
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{prefix}{node.name}.")


def test_everything_public_has_a_docstring(trees: dict[Path, ast.Module]):
    wrong = [f"{inside(p)}: {name}" for p, tree in trees.items() for name in undocumented(tree.body, "")]
    wrong += [f"{inside(p)}: the module" for p, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    assert not wrong, "\n".join(wrong)


def unsafe(tree: ast.AST) -> Iterator[str]:
    """Ways to run what is only data: pickles, code from text, a shell, remote code."""
    for name in imported(tree):
        if name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}:
            yield f"imports {name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        if name in {"eval", "exec", "compile", "torch.load", "yaml.load", "os.system", "pandas.read_pickle"}:
            yield f"line {node.lineno}: calls {name}"
        for keyword in node.keywords:
            risky = keyword.arg in {"trust_remote_code", "allow_pickle", "shell"}
            refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            # what a user asked for by this name may be passed on under it, and under no other
            asked = re.fullmatch(r"(\w+\.)*trust_remote_code", ast.unparse(keyword.value))
            if risky and not refused and not (asked and keyword.arg == "trust_remote_code"):
                yield f"line {node.lineno}: passes {keyword.arg}"


def test_nothing_turns_data_into_code(trees: dict[Path, ast.Module]):
    # the sandbox's child is there to run a model's code, in a process that can do nothing else
    others = {p: tree for p, tree in trees.items() if inside(p) != "measure/sandbox_child.py"}
    wrong = [f"{inside(p)} {what}" for p, tree in others.items() for what in unsafe(tree)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text, found",
    [
        ("import pickle", 1),
        ("torch.load('x')", 1),
        ("eval('1')", 1),
        ("f(trust_remote_code=True)", 1),
        ("subprocess.run(x, shell=flag)", 1),
        ("model.eval()", 0),
        ("f(trust_remote_code=False)", 0),
        ("f(trust_remote_code=spec.trust_remote_code)", 0),
        ("f(trust_remote_code=trusted)", 1),
        ("re.compile('x')", 0),
    ],
)
def test_the_search_for_unsafe_calls_finds_what_it_should(text: str, found: int):
    assert len(list(unsafe(ast.parse(text)))) == found


def test_nothing_is_left_for_later():
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error")))
    wrong = [
        f"{inside(p)}:{i}"
        for p in modules()
        for i, line in enumerate(p.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def tree_files() -> list[Path]:
    """What a clone holds, and what is about to be added; all files where git is not at hand."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name]
    hidden = {".git", ".venv", "runs", "dist", "build", "__pycache__"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not hidden & set(p.relative_to(ROOT).parts)]


def test_no_registry_host_and_no_machine_path_stands_in_the_tree():
    hosts = "|".join(("pypi" + r"\.org", "python" + "hosted", r"registry\.npm" + "js", r"deb\.debian" + r"\.org"))
    folders = "|".join(("work", "farm", "root", "home/[a-z]+", "Users/[A-Za-z]+"))
    found = re.compile(rf"{hosts}|(?:^|[^a-zA-Z0-9_.])/(?:{folders})/", re.MULTILINE)
    wrong = []
    for path in tree_files():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        wrong += [f"{path.relative_to(ROOT)}: {match.group().strip()}" for match in found.finditer(text)]
    assert not wrong, "\n".join(wrong)
