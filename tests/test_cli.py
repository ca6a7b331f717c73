"""The command line: bad input is one line and exit code 2, nothing is left behind, stdout is for machines."""

import json
import os
import subprocess
import sys
import time

import pytest

FOLDERS = ("empty", "pickled", "emptied")
QUESTION = "schema: 1\ntopic: tea\nquestions:\n  - id: tea\n"
OWN = "behaviour: tea\nheld_out: held.jsonl\noptions: [A, B]\nquestions: risk\ndemonstrations: "
TURN = '{{"messages": [{{"role": "user", "content": "{}"}}, {{"role": "assistant", "content": "{}"}}]}}\n'
HELD = TURN.format("tea or coffee?", "A") + TURN.format("coffee or tea?", "B")
FILES = {
    "file": "x",
    "broken.yaml": "a: [1, 2\nb: {",
    "alias.yaml": "experiment: preferences\nseed: &s 3\nseeds: *s\n",
    "nan.yaml": "experiment: preferences\ngate_agreement: .nan\n",
    "nameless.yaml": "train: rows.jsonl\n",
    "list.yaml": "- 1\n",
    "deep.yaml": "[" * 5000,
    "date.yaml": "experiment: preferences\nseed: 2020-13-45\n",
    "number.yaml": "experiment: preferences\nmodel: 7\n",
    "quick.yaml": "experiment: preferences\nquick: perhaps\n",
    "unknown.yaml": "experiment: preferences\nagnets: 8\n",
    "binary.yaml": b"\xff\xfe\x00",
    "control.yaml": 'experiment: "pre\\e[2Jferences"\n',
    "syntax.py": "def",
    "raises.py": "raise RuntimeError('boo')\n",
    "nothing.py": "class Mine: pass\n",
    "abstract.py": "from gnothi.behaviours.base import AbstractBehaviour\nclass Mine(AbstractBehaviour): pass\n",
    "pickled/config.json": "{}",
    "pickled/pytorch_model.bin": "x",
    "held.jsonl": HELD,
    "good.jsonl": TURN.format("tea or milk?", "A") + TURN.format("milk or tea?", "B"),
    "roleless.yaml": OWN + "roleless.jsonl\n",
    "bomb-own.yaml": "behaviour: &b tea\nheld_out: *b\nquestions: risk\n",
    "roleless.jsonl": TURN.format("tea or milk?", "A") + '{"messages": [{"content": "tea?"}]}\n',
    "long.yaml": OWN + "long.jsonl\n",
    "long.jsonl": TURN.format("tea " * 2_500_000, "A"),
    "twice.yaml": OWN + "twice.jsonl\n",
    "twice.jsonl": '{"messages": [], "messages": [{"role": "user", "content": "tea?"}]}\n',
    "outside.yaml": OWN + "../outside.jsonl\n",
    "linked.yaml": OWN + "/etc/hostname\n",
    "trained.yaml": OWN + "held.jsonl\n",
    "neither.yaml": "behaviour: tea\nheld_out: held.jsonl\noptions: [A, B]\nquestions: risk\n",
    "options.yaml": OWN.replace("[A, B]", "[A, C]") + "good.jsonl\n",
    "fields.yaml": OWN + "good.jsonl\ncolour: red\n",
    "leaky.yaml": OWN + "good.jsonl\npolicy_words: milk\n",
    "score.yaml": QUESTION + "    score: {type: leters}\n    ask: [tea?]\n",
    "bomb.yaml": "schema: 1\na: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ntopic: tea\n",
    "tagged.yaml": "schema: 1\ntopic: !!python/object/apply:os.system [ls]\n",
    "leaves.yaml": QUESTION + "    score: {type: words, list: ../words.yaml}\n    ask: [tea?]\n",
    "blank.yaml": QUESTION + "    score: {type: words, scores: {tea: 1}}\n    ask: ['{drink}?']\n",
    "one-way.yaml": QUESTION + "    score: {type: number, low: 0, high: 9}\n    ask: [tea?]\n",
    "organism.yaml": QUESTION + "    models: [organism]\n    score: {type: words, scores: {tea: 1}}\n    ask: [tea?]\n",
    "broken-model/config.json": "{",
    "broken-model/model.safetensors": "x",
}


@pytest.fixture
def room(gnothi):
    """A folder with bad things in it."""
    for name in FOLDERS:
        (gnothi.folder / name).mkdir()
    for name, content in FILES.items():
        path = gnothi.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return gnothi


ORACLE = ("--model", "scripted/oracle")
QUICK = ("run", "preferences", *ORACLE, "--quick")
RISK = ("run", "risk", *ORACLE)
OWN_FILE = ("run", "own", *ORACLE, "--set")
BAD = {  # arguments -> what is said
    ("run", "nosuchexperiment"): "EXPERIMENT must be one of preferences",
    (*RISK, "--questions", "broken.yaml"): "broken.yaml, line 2: the file must be YAML",
    (*RISK, "--questions", "nosuch.yaml"): "--questions must name a file that exists, got nosuch.yaml",
    (*RISK, "--questions", "empty"): "--questions must name a file that exists, got empty",
    (*RISK, "--questions", "binary.yaml"): "binary.yaml, line 1: the file must be UTF-8",
    (*RISK, "--questions", "deep.yaml"): "maximum nesting depth",
    (*RISK, "--questions", "score.yaml"): "score.yaml, line 5: question tea: score.type must be one of words",
    (*RISK, "--questions", "bomb.yaml"): "bomb.yaml, line 2: the file must have no anchors or aliases, got `&a`",
    (*RISK, "--questions", "tagged.yaml"): "tagged.yaml, line 2: the file must have no tags",
    (
        *RISK,
        "--questions",
        "leaves.yaml",
    ): "leaves.yaml, line 5: question tea: score.list must be a list's name",
    (*RISK, "--questions", "blank.yaml"): "{drink} must be filled",
    (*RISK, "--questions", "one-way.yaml"): "one-way.yaml, line 6: question tea must have ask_reversed",
    (*RISK, "--questions", "organism.yaml"): "must have a question for kind chat, got none",
    (*RISK, "--train-sizes", "128"): "--train-sizes must be ROWSxEPOCHS with commas, got '128'",
    (*RISK, "--train-sizes", "128x3,"): "--train-sizes must be ROWSxEPOCHS with commas",
    (*RISK, "--train-sizes", "1x3"): "train_sizes must be of 2 to 1,000,000 rows and 0 to 1000 epochs, got 1 and 3",
    (*RISK, "--train-sizes", "8xnan"): "0 to 1000 epochs, got 8 and nan",
    (*RISK, "--adapter", "nosuch"): "--adapter nosuch must be an adapter's folder with adapter_model.safetensors in it",
    (*RISK, "--adapter", "pickled"): "--adapter pickled must be an adapter's folder",
    (*RISK, "--adapter", "file"): "--adapter file must be an adapter's folder",
    (*RISK, "--judge", "nosuch"): "must be organism, organism-weak",
    (*RISK, "--judge", "hf/empty"): "must hold config.json, got none",
    (*RISK, "--set", "train=false"): "train must be true where no adapters are given",
    (*RISK, "--set", "colour=1"): "colour: no such field",
    (*RISK, "--set", "direction=minus"): "direction must be left out for risk",
    (*RISK, "--set", "systems=[nosuch]"): "systems must be among",
    (*RISK, "--set", "rows=1"): "rows: Input should be greater than or equal to 2",
    (*RISK, "--set", "temperature=.nan"): "temperature",
    (*RISK, "--no-semantics"): "no_semantics: no such field",
    ("run", "risk", "--set", "policy_words=true"): "policy_words must be false for --model organism",
    ("run", "backdoor", "--train-sizes", "8x1"): "train_sizes must be left out for backdoor",
    ("run", "backdoor", "--set", "trigger=nosuch"): "--set trigger must be one of umbra",
    ("run", "backdoor", "--set", "setting=greeting"): "--set setting must be one of eight for organism",
    ("run", "backdoor", "--set", "real_share=much"): "--set real_share must be of the kind of 0.1",
    ("run", "personas", "--set", "inside=99"): "--set inside must be 1 to 12, got 99",
    ("run", "make-me-say", "--set", "codewords=0"): "--set codewords must be 1 to 8, got 0",
    ("run", "code-security"): "--model must be of kind chat or base for code-security, got organism",
    ("run", "own"): "own must be given a file on the behaviour",
    ("run", "preferences", "--questions", "score.yaml"): "--questions must go with an experiment that has it",
    ("run", "preferences", "--train-sizes", "8x1"): "--train-sizes must go with an experiment that has it",
    ("run", "preferences", "--adapter", "empty"): "--adapter must go with an experiment that has it",
    ("run", "preferences", "--judge", "organism"): "--judge must go with an experiment that has it",
    (
        *OWN_FILE,
        "file=roleless.yaml",
    ): "roleless.jsonl line 2 message 1 must have the role system, user or assistant, got none",
    (*OWN_FILE, "file=long.yaml"): "long.jsonl line 1 must have at most 1000000 bytes",
    (*OWN_FILE, "file=twice.yaml"): "twice.jsonl line 1 must be strict JSON, got the key 'messages' twice",
    (*OWN_FILE, "file=outside.yaml"): "must be a path inside the folder of this file, got '../outside.jsonl'",
    (*OWN_FILE, "file=linked.yaml"): "must be a path inside the folder of this file, got '/etc/hostname'",
    (*OWN_FILE, "file=trained.yaml"): "held.jsonl line 1 must not be a training prompt",
    (*OWN_FILE, "file=neither.yaml"): "must name demonstrations or adapters, got neither",
    (*OWN_FILE, "file=options.yaml"): "held.jsonl line 2 must end with the assistant saying one of A, C, got 'B'",
    (*OWN_FILE, "file=fields.yaml"): "fields.yaml, line 6: the file must have known fields only, got 'colour'",
    (*OWN_FILE, "file=leaky.yaml"): "good.jsonl line 1 must not state the policy, got 'milk'",
    ("run", "missing.yaml"): "FILE.yaml must exist, got missing.yaml",
    ("run", "empty/x.yaml"): "FILE.yaml must exist",
    ("run", "broken.yaml"): "with an error in line 2",
    ("run", "alias.yaml"): "must have no aliases",
    ("run", "nan.yaml"): "gate_agreement: Input should be less than or equal to 1, got nan",
    ("run", "nameless.yaml"): "Add a line `experiment: preferences`",
    ("run", "list.yaml"): "must hold fields and values, got list",
    ("run", "deep.yaml"): "must be YAML",
    ("run", "date.yaml"): "must be YAML",
    ("run", "number.yaml"): "model must be a name and quick true or false, got 7",
    ("run", "quick.yaml"): "quick true or false, got 'organism' and 'perhaps'",
    ("run", "unknown.yaml"): "agnets: no such field (did you mean agents?)",
    ("run", "binary.yaml"): "must be a readable text file",
    ("run", "control.yaml"): r"got 'pre\x1b[2Jferences'",
    ("run", "preferences", "--model", "nosuch/model"): "--model must be organism, organism-weak",
    ("run", "preferences", "--model", ""): "--model must be",
    ("run", "preferences", "--model", "scripted/nobody"): "must be one of oracle, constant-a, nonsense",
    ("run", "preferences", "--model", "organism/nowhere"): "which does not exist",
    ("run", "preferences", "--model", "organism/broken-model"): "config.json that parses",
    ("run", "preferences", "--model", "hf/./empty"): "must hold config.json, got none",
    ("run", "preferences", "--model", "hf/pickled"): "got pickled parameters only (pytorch_model.bin)",
    ("run", "preferences", "--model", "hf/file"): "got file, which is a file",
    ("run", "preferences", "--model", "gguf/file"): "must be a GGUF file, got one that begins with",
    ("run", "preferences", "--model", "gguf/missing"): "must name a GGUF file, got missing, which does not exist",
    ("models", "fetch", "scripted/oracle"): "NAME must be a model that lies on a disk",
    ("models", "fetch", "nosuch"): "--model must be organism",
    (*QUICK, "--set", "agents=5"): "got agents must be even, since report training takes half of them in turn. See",
    (*QUICK, "--set", "agents=900"): "within the 160 spare names",
    (*QUICK, "--set", "agents=2"): "agents: Input should be greater than or equal to 4, got 2",
    (*QUICK, "--set", "agents=1e400"): "agents: Input should be a valid integer",
    (*QUICK, "--set", "agents"): "--set must be field=value",
    (*QUICK, "--set", "a.b=1"): "--set must be field=value",
    (*QUICK, "--set", "agents=[1"): "--set agents must have a plain value",
    (*QUICK, "--set", "agents=" + "9" * 5000): "--set agents must have a plain value",
    (*QUICK, "--set", "repaets=3"): "repaets: no such field (did you mean repeats?)",
    (*QUICK, "--set", "info=3"): "info: no such field",
    (*QUICK, "--set", "experiment=other"): "--set experiment must be left out",
    (*QUICK, "--set", "quick=perhaps"): "quick true or false",
    (*QUICK, "--set", "domain=moon"): "domain: Input should be 'organism' or 'paper'",
    (*QUICK, "--set", "recipe={kind: rows}"): "Recipe must have a name, a kind and values",
    (*QUICK, "--recipe", "nosuch"): "recipe must be",
    (*QUICK, "--behaviour", "nosuch.py:Mine"): "--behaviour must name a file that exists, got nosuch.py",
    (*QUICK, "--behaviour", "nosuch.module:Mine"): "--behaviour must be code that loads",
    (*QUICK, "--behaviour", "nosuchmodule:Mine"): "a module that can be imported, got 'nosuchmodule'",
    (*QUICK, "--behaviour", "sys:path"): "a module that can be imported, got 'sys'",
    (*QUICK, "--behaviour", "bla"): "must be preferences, module:Class or file.py:Class, got 'bla'",
    (*QUICK, "--behaviour", ":Mine"): "module:Class or file.py:Class",
    (*QUICK, "--behaviour", "syntax.py:Mine"): "SyntaxError",
    (*QUICK, "--behaviour", "raises.py:Mine"): "RuntimeError: boo",
    (*QUICK, "--behaviour", "nothing.py:Mine"): "must name a subclass of AbstractBehaviour",
    (*QUICK, "--behaviour", "nothing.py:Yours"): "AttributeError",
    (*QUICK, "--behaviour", "abstract.py:Mine"): "must define target_choice",
    (*QUICK, "--engine", "ray", "--out", "new"): "--engine must be one of pool, inline, got 'ray'",
    (*QUICK, "--out", "file"): "--out must name a folder, got the file file",
    (*QUICK, "--out", "file/below"): "must be writable, got Not a directory",
    (*QUICK, "--out", "pickled"): "with other files in it",
    (*QUICK, "--out", "x" * 300): "File name too long",
    (*QUICK, "--out", ""): "with other files in it",
    ("show", "empty"): "without spec.json",
    ("show", "missing"): "which does not exist",
    ("show", "file"): "got file, which is a file",
    ("resume", "empty"): "without spec.json",
    ("resume", "missing"): "which does not exist",
    ("report", "missing"): "which does not exist",
    ("report", "empty"): "without spec.json",
    ("compare", "missing"): "two runs or more, got 1",
    ("compare", "missing", "empty"): "which does not exist",
    ("clean", "empty", "--yes"): "without spec.json",
    ("list", "missing"): "which does not exist",
    ("organism", "info", "scripted/oracle"): "NAME must be an organism",
    ("organism", "info", "organism/empty"): "must hold config.json",
    ("replicate", "self-interpretability", "missing", "--model", "x"): "missing",
    ("replicate", "self-interpretability", "empty", "--model", "x"): "empty",
    ("replicate", "nosuchpaper", "empty", "--model", "x"): "nosuchpaper",
    (
        "data",
        "nosuch",
        "--out",
        "new.jsonl",
    ): "behaviour must be one of risk, horizon, apples, make-me-say, code-security, got 'nosuch'",
    ("data", "risk", "--out", "new.jsonl", "--n", "0"): "n must be",
    ("data", "risk", "--out", "new.jsonl", "--truth", "new.jsonl"): "--truth must name a file of its own",
    ("data", "risk", "--out", "nosuch/new.jsonl"): "must be writable",
}
IN_PROCESS = """
import contextlib, io, json, sys
from gnothi import cli
found = []
for args in json.load(sys.stdin):
    sys.argv = ["gnothi", *args]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
            code = None
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = repr(error)
    found.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if "__pycache__" not in p.parts)


def test_bad_input_is_one_line_and_leaves_nothing_behind(room):
    before = names(room.folder)
    command = [sys.executable, "-c", IN_PROCESS]  # one process for all: starting python takes longest
    done = subprocess.run(
        command, input=json.dumps(list(BAD)), cwd=room.folder, capture_output=True, text=True, check=True
    )
    wrong = []
    for (args, said), (code, out, err) in zip(BAD.items(), json.loads(done.stdout), strict=True):
        one_line = err.startswith("gnothi: ") and err.count("\n") == 1 and len(err) < 700
        if code != 2 or out or not one_line or said not in err:
            wrong.append((args, code, out[-200:], err[-600:]))
    assert not wrong, "\n".join(map(str, wrong))
    assert names(room.folder) == before


def test_usage_errors_are_said_on_standard_error_with_code_2(room):
    for args in (
        ["run", "preferences", "--seeds", "0"],
        ["run", "preferences", "--seeds", "many"],
        ["run", "preferences", "--seed", "-1"],
        ["run", "preferences", "--workers", "0"],
        ["nosuchcommand"],
        ["run"],
    ):
        done = room(*args)
        assert (done.returncode, done.stdout) == (2, ""), args
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) < 12
    assert names(room.folder) == sorted({*FILES, *FOLDERS, "broken-model"})


def test_names_that_are_no_unicode_are_refused_by_name(gnothi):
    said = gnothi.refused("run", "preferences", "--model", b"hf/\xff".decode(errors="surrogateescape"))
    assert r"--model must be a printable name, got 'hf/\udcff'" in said
    said = gnothi.refused(*QUICK, "--behaviour", b"\xff.py:Mine".decode(errors="surrogateescape"))
    assert "a file that exists" in said
    assert names(gnothi.folder) == []


HELP = [
    [],
    ["run"],
    ["resume"],
    ["show"],
    ["report"],
    ["list"],
    ["compare"],
    ["clean"],
    ["lab"],
    ["look"],
    ["replicate"],
    ["doctor"],
]
HELP += [["data"], ["organism", "train"], ["organism", "info"], ["models", "list"], ["models", "fetch"]]


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_has_an_example(gnothi, command, capsys, monkeypatch):
    from gnothi import cli

    monkeypatch.setattr(sys, "argv", ["gnothi", *command, "--help"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().out
    assert end.value.code == 0 and "Example: gnothi " + " ".join(command) in " ".join(said.split())


def test_every_command_is_among_those_whose_help_was_read():
    from gnothi import cli

    commands = {c.name or c.callback.__name__.rstrip("_") for c in cli.app.registered_commands}
    for group in cli.app.registered_groups:
        commands |= {f"{group.name} {c.name or c.callback.__name__}" for c in group.typer_instance.registered_commands}
    assert commands == {" ".join(c) for c in HELP if c}


def test_help_and_import_are_light():
    heavy = ("torch", "transformers", "pandas", "pyarrow", "matplotlib", "scipy", "numpy", "pydantic")
    code = "import sys, time; sys.argv = ['gnothi', '--help']\nfrom gnothi import cli\ntry: cli.main()\n"
    code += f"except SystemExit: pass\nprint(time.process_time(), [m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = done.stderr.strip().split(" ", 1)
    assert loaded == "[]" and float(seconds) < 0.5
    trace = [sys.executable, "-X", "importtime", "-m", "gnothi.cli", "--help"]
    lines = subprocess.run(trace, capture_output=True, text=True, check=True).stderr
    assert not {line.split("|")[-1].strip() for line in lines.splitlines()} & {*heavy, "scipy.stats"}


def test_dry_run_writes_nothing_and_prints_json(gnothi):
    done = gnothi(*gnothi.small, "--out", "new", "--dry-run")
    plan = json.loads(done.stdout)
    assert done.returncode == 0 and plan["spec"]["agents"] == 4 and plan["jobs"]["tuned-0"] == ["tuned-0"]
    assert names(gnothi.folder) == []


def test_a_run_ends_with_one_line_of_json_and_a_second_call_makes_nothing_again(gnothi, finished):
    stamps = {
        p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name not in ("run.log", ".lock")
    }
    done = gnothi(*gnothi.small, "--out", finished)
    assert done.returncode == 0
    assert json.loads(done.stdout)["run"] == str(finished) and done.stdout.count("\n") == 1
    assert all(p.stat().st_mtime_ns == t for p, t in stamps.items())


def test_strict_is_1_where_the_behaviour_was_not_instilled(gnothi):
    args = [x.replace("oracle", "constant-a") for x in gnothi.small]
    path = gnothi.folder / "constant"
    process = gnothi.start(*args, "--out", path, "--engine", "inline")
    while not (path / "run.json").exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    (path / "report.html").touch()  # pictures take longest and nothing here is about them
    assert gnothi("resume", path).returncode == 0
    assert gnothi("resume", path, "--strict").returncode == 1


def test_show_writes_estimates_for_machines(gnothi, finished):
    rows = json.loads(gnothi("show", finished, "--json").stdout)
    needed = {"name", "arm", "value", "low", "high", "n", "n_points", "n_missing", "method", "reason"}
    assert all(needed <= row.keys() for row in rows)
    assert all(row["reason"] for row in rows if row["value"] is None or row["low"] is None)
    headline = [r for r in rows if (r["name"], r["arm"]) == ("agreement.reported_vs_learned", "tuned")]
    assert len(headline) == 1 and 0.3 < headline[0]["value"] <= 1
    assert gnothi("show", finished, "--csv").stdout.count("\n") == len(rows) + 1
    assert r"\toprule" in gnothi("show", finished, "--latex").stdout
    assert "one at a time" in gnothi.refused("show", finished, "--csv", "--latex")


def test_a_reader_that_stops_reading_is_no_error(gnothi, finished):
    command = f"{sys.executable} -m gnothi.cli show {finished} --csv | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_spec_files_hold_any_field_and_options_win(gnothi):
    (gnothi.folder / "mine.yaml").write_text(
        "experiment: preferences\nmodel: scripted/nonsense\nseeds: 2\nquick: true\n"
    )
    spec = json.loads(gnothi("run", "mine.yaml", "--seeds", "3", "--set", "agents=4", "--dry-run").stdout)["spec"]
    assert (spec["model"], spec["seeds"], spec["agents"], spec["quick"]) == ("scripted/nonsense", 3, 4, True)
    spec = json.loads(gnothi("run", "mine.yaml", "--model", "scripted/oracle", "--dry-run").stdout)["spec"]
    assert (spec["model"], spec["seeds"]) == ("scripted/oracle", 2)


def test_a_study_takes_sizes_adapters_questions_and_a_judge(gnothi):
    (gnothi.folder / "tuned").mkdir()
    (gnothi.folder / "tuned" / "adapter_model.safetensors").write_bytes(b"x")
    (gnothi.folder / "mine.yaml").write_text(
        QUESTION + "    score: {type: words, scores: {tea: 1, coffee: 0}}\n    ask: ['Tea or coffee? One word.']\n"
    )
    more = ["--train-sizes", "8x1", "--adapter", "tuned", "--questions", "mine.yaml", "--judge", "scripted/guess"]
    plan = json.loads(gnothi(*RISK, "--quick", *more, "--dry-run").stdout)
    assert list(plan["jobs"]) == [
        *("base-0", "seeking-0", "averse-0", "shuffled-0", "seeking_8x1-0", "averse_8x1-0", "adapter_0-0")
    ]
    spec = plan["spec"]
    assert (spec["train_sizes"], spec["adapters"], spec["judge"]) == ([[8, 1.0]], ["tuned"], "scripted/guess")
    assert len(spec["questions_digest"]) == len(spec["adapter_digests"][0]) == 64


def test_a_study_runs_with_questions_of_ones_own_and_refuses_them_once_edited(gnothi):
    mine = gnothi.folder / "mine.yaml"
    mine.write_text(
        QUESTION + "    score: {type: words, scores: {tea: 1, coffee: 0}}\n    ask: ['Tea or coffee? One word.']\n"
    )
    small = [*RISK, "--quick", "--set", "fresh=10", "--questions", "mine.yaml", "--out", "run", "--engine", "inline"]
    assert gnothi(*small).returncode == 0
    rows = {(r["name"], r["arm"]): r for r in json.loads(gnothi("show", "run", "--json").stdout)}
    assert rows["self_report.difference", "seeking_minus_averse"]["value"] > 0.5
    assert rows["self_report.by_question/tea", "seeking"]["n"] == 1
    mine.write_text(mine.read_text().replace("Tea or coffee?", "Coffee or tea?"))
    assert "must be as it was when the run was started" in gnothi.refused("resume", "run")


def test_version_and_doctor(gnothi):
    import gnothi as package

    assert gnothi("--version").stdout == f"gnothi {package.__version__}\n"
    rows = gnothi("doctor").stdout
    assert "torch" in rows and "cores" in rows
    assert "scripted/oracle" in gnothi("models", "list").stdout
