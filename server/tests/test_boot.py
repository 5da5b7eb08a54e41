"""Boot: every way to fail has its kind, its evidence and exit code 3; a socket exists only for a worker that is ready."""

from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from moorings_server import contract

GOOD = "def init(): pass\ndef run(data): return data\n"


def test_syntax_error(start: Any) -> None:
    worker = start("def init(): pass\ndef run(data:\n    return data\n")
    report = worker.failed()
    assert (report["outcome"], report["kind"], report["line"]) == ("failed", "syntax_error", 2)
    assert report["file"].endswith("app/score.py")
    assert report["text"] == "def run(data:"
    assert "SyntaxError" in report["traceback"]
    assert "SyntaxError" in worker.log


def test_syntax_error_in_a_module_of_the_script(start: Any) -> None:
    report = start("import neighbour\n" + GOOD, files={"neighbour.py": "x = = 1\n"}).failed()
    assert (report["kind"], report["line"]) == ("syntax_error", 1)
    assert report["file"].endswith("neighbour.py")


@pytest.mark.parametrize(
    ("line", "missing"),
    [("import sklearn_absent.linear_model", "sklearn_absent"), ("from json import absent_name", "json")],
)
def test_import_error(start: Any, line: str, missing: str) -> None:
    report = start("import os\n" + line + "\n" + GOOD).failed()
    assert (report["kind"], report["missing"], report["line"], report["text"]) == (
        "import_error",
        missing,
        2,
        line,
    )
    assert "is there, but an import in it failed" in report["message"]


def test_import_error_below_a_neighbour_names_the_innermost_line(start: Any) -> None:
    report = start("import deep\n" + GOOD, files={"deep.py": "\nimport absent_module\n"}).failed()
    assert (report["kind"], report["missing"], report["line"]) == ("import_error", "absent_module", 2)
    assert report["file"].endswith("deep.py")


@pytest.mark.parametrize("line", ["1 / 0", "import sys; sys.exit(0)", "raise KeyError('k')"])
def test_the_top_level_raises(start: Any, line: str) -> None:
    report = start(line + "\n" + GOOD).failed()
    assert (report["kind"], report["line"], report["text"]) == ("script_raised", 1, line)


def test_no_script(start: Any) -> None:
    report = start(None, files={"other.py": ""}).failed()
    assert report["kind"] == "script_missing"
    assert report["missing"].endswith("app/score.py")
    assert "No such file or directory" in report["message"]
    assert "other.py" in report["message"]


@pytest.mark.parametrize(
    ("script", "missing"),
    [
        ("def init(): pass\n", "run"),
        ("def run(data): pass\n", "init"),
        ("", "init, run"),
        ("init = 1\ndef run(d): pass\n", "init"),
    ],
)
def test_functions_missing(start: Any, script: str, missing: str) -> None:
    report = start(script).failed()
    assert (report["kind"], report["missing"]) == ("function_missing", missing)


def test_bad_signature(start: Any) -> None:
    report = start("def init(): pass\ndef run(*data): pass\n").failed()
    assert report["kind"] == "bad_signature"
    assert "*args" in report["message"]


def test_an_init_that_wants_an_argument(start: Any) -> None:
    report = start("def init(path, *more, times=1): pass\ndef run(data): pass\n").failed()
    assert report["kind"] == "bad_signature"
    assert "init() in" in report["message"]
    assert "wants path;" in report["message"]
    start("def init(path=None, *more): pass\ndef run(data): pass\n").ready()


def test_init_raises(start: Any) -> None:
    worker = start(
        "def init():\n    helper()\ndef helper():\n    raise RuntimeError('no model')\ndef run(data): pass\n",
        files={"model/1/a.bin": "", "model/1/b.bin": ""},
        AZUREML_MODEL_DIR="model",
    )
    report = worker.failed()
    assert (report["kind"], report["line"], report["text"]) == (
        "init_raised",
        4,
        "raise RuntimeError('no model')",
    )
    assert report["message"] == "init() raised RuntimeError: no model"
    assert report["traceback"].splitlines()[-1] == "RuntimeError: no model"
    assert "moorings_server" not in report["traceback"]
    log = worker.log
    assert (
        log.index("User's init function failed")
        < log.index("Encountered Exception Traceback")
        < log.index("Model Directory Contents:")
    )
    assert log.index("a.bin") < log.index("b.bin")


@pytest.mark.parametrize("base", ["Exception", "ImportError", "SyntaxError", "FileNotFoundError"])
@pytest.mark.parametrize("place", ["init", "top"])
def test_an_exception_that_cannot_be_told(start: Any, base: str, place: str) -> None:
    body = "def __str__(self): raise KeyError('mute')\n    __repr__ = __str__"
    raised = "raise Mute('a')"
    script = f"class Mute({base}):\n    {body}\n"
    script += f"def init():\n    {raised}\n" if place == "init" else f"def init(): pass\n{raised}\n"
    report = start(script + "def run(d): pass\n", AZUREML_MODEL_DIR="m").failed()
    assert report["kind"] in ("init_raised", "script_raised", "import_error", "syntax_error")
    assert "Mute" in str(report["message"])
    assert "Mute" in str(report["traceback"])


def test_half_characters_of_another_encoding_are_told(start: Any) -> None:
    report = start(
        "import os\ndef init(): raise ValueError(os.fsdecode(b'caf\\xe9 zu'))\ndef run(d): pass\n"
    ).failed()
    assert "caf" in str(report["message"])
    assert "zu" in str(report["message"])


def test_a_script_in_another_encoding_says_its_own_lines(start: Any) -> None:
    source = "# coding: latin-1\ndef init():\n    raise ValueError('pr\xe9sent')\ndef run(d): pass\n"
    report = start(None, files={"score.py": source.encode("latin-1")}).failed()
    assert (report["kind"], report["line"], report["text"]) == (
        "init_raised",
        3,
        "raise ValueError('pr\xe9sent')",
    )


def test_a_worker_says_where_it_is_when_asked(start: Any) -> None:
    worker = start(
        "import time\ndef init():\n    print('begun', flush=True)\n    time.sleep(60)\ndef run(d): pass\n"
    )
    worker.wait_for_log("begun")
    worker.process.send_signal(getattr(signal, contract.STACKS_SIGNAL))
    assert 'score.py", line 4 in init' in worker.wait_for_log("in init")
    assert worker.process.poll() is None


def test_sys_exit_in_init_is_a_failed_init(start: Any) -> None:
    report = start("import sys\ndef init(): sys.exit(0)\ndef run(data): pass\n").failed()
    assert (report["kind"], report["line"]) == ("init_raised", 2)


def test_a_missing_package_in_init_is_named(start: Any) -> None:
    report = start("def init():\n    import absent_package.x\ndef run(data): pass\n").failed()
    assert (report["kind"], report["missing"]) == ("init_raised", "absent_package")


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "open(path, 'rb').read()",
        "os.listdir(path)",
        "os.chdir(os.environ['AZUREML_MODEL_DIR']); open('model/absent.pkl')",
    ],
)
def test_a_path_that_is_not_in_the_model(start: Any, line: str) -> None:
    script = f"""
        import os
        def init():
            path = os.path.join(os.environ["AZUREML_MODEL_DIR"], "model", "absent.pkl")
            try:
                {line}
            except OSError as failure:
                raise ValueError("wrapped") from failure
        def run(data): pass
    """
    worker = start(script, files={"m/other.pkl": ""}, AZUREML_MODEL_DIR="m")
    report = worker.failed()
    assert report["kind"] == "model_path"
    assert report["missing"].endswith("m/model/absent.pkl")
    assert "other.pkl" in worker.log


def test_a_missing_file_elsewhere_is_no_model_path(start: Any) -> None:
    report = start(
        "def init(): open('/absent/file')\ndef run(d): pass\n", AZUREML_MODEL_DIR="/absent/filex"
    ).failed()
    assert report["kind"] == "init_raised"


def test_a_model_folder_of_many_files_is_cut(start: Any) -> None:
    script = """
        import os
        os.mkdir("m")
        for n in range(300):
            open("m/f%03d" % n, "w").close()
        def init(): raise ValueError
        def run(d): pass
    """
    worker = start(script, AZUREML_MODEL_DIR="m")
    worker.failed()
    assert "f198" in worker.log
    assert "f199" not in worker.log
    assert "only the first 200 lines are shown" in worker.log


@pytest.mark.parametrize(
    ("name", "value"),
    [("MOORINGS_MAX_CONCURRENT", "0"), ("SCORING_TIMEOUT_MS", "soon"), ("MOORINGS_SOCKET", "")],
)
def test_bad_settings(start: Any, name: str, value: str) -> None:
    worker = start(GOOD, **{name: value})
    report = worker.failed()
    assert report["kind"] == "bad_settings"
    assert name in report["message"]
    assert name in worker.log


def test_an_unusable_logging_config(start: Any) -> None:
    report = start(GOOD, files={"logging.json": '{"version": 99}'}).failed()
    assert report["kind"] == "bad_settings"
    assert report["file"].endswith("logging.json")


def test_a_socket_folder_that_is_not_there(start: Any) -> None:
    report = start(GOOD, MOORINGS_SOCKET="/tmp/absent-folder-of-moorings/w.sock")
    assert report.failed()["kind"] == "bad_settings"


def test_the_socket_appears_when_init_is_done_and_is_private(start: Any) -> None:
    worker = start("import time\ndef init(): time.sleep(0.5)\ndef run(data): return data\n")
    worker.wait_for_log("Invoking user's init function")
    assert not worker.socket_path.exists()
    worker.ready()
    assert stat.S_IMODE(worker.socket_path.stat().st_mode) == 0o600
    assert worker.report["pid"] == worker.process.pid
    assert worker.report["seconds"] >= 0.5
    assert stat.S_IMODE(worker.report_path.stat().st_mode) == 0o600
    assert worker.score(b"x").json == "x"
    assert sorted(os.listdir(worker.folder)) == ["app", "log", "report.json", "w.sock"]


def test_a_worker_takes_the_place_of_a_dead_one(start: Any) -> None:
    first = start(GOOD).ready()
    first.process.kill()
    first.process.wait()
    assert first.socket_path.exists()
    second = start(GOOD.replace("return data", "return 2"), MOORINGS_SOCKET=str(first.socket_path)).ready()
    assert first.score(b"x").json == 2
    second.terminate()
    assert second.process.wait(10) == 0
    assert not first.socket_path.exists()


def test_a_socket_path_taken_over_is_left_alone(start: Any) -> None:
    first = start(GOOD).ready()
    start(GOOD.replace("return data", "return 2"), MOORINGS_SOCKET=str(first.socket_path)).ready()
    first.terminate()
    assert first.process.wait(10) == 0
    assert first.score(b"x").json == 2


def test_main_py_is_the_script_when_none_is_named(start: Any) -> None:
    worker = start(None, files={"main.py": GOOD}, AZUREML_ENTRY_SCRIPT="").ready()
    assert worker.score(b"x").json == "x"


def test_neighbours_and_the_source_directory_can_be_imported(start: Any) -> None:
    worker = start(
        None,
        files={
            "in/score.py": "import json, near, far, top\ndef init(): pass\ndef run(d): return [near.x, far.x, top.x]\n",
            "in/near.py": "x = 1",
            "src/far.py": "x = 2",
            "top.py": "x = 3",
            "queue.py": "raise ValueError('a neighbour must not shadow what the server itself imports')",
            "asyncio.py": "raise ValueError('nor this')",
        },
        AZUREML_ENTRY_SCRIPT="in/score.py",
        AZUREML_SOURCE_DIRECTORY="src",
    ).ready()
    assert worker.score(b"x").json == [1, 2, 3]


def test_classes_of_the_script_can_be_pickled(start: Any) -> None:
    script = """
        import pickle, dataclasses
        @dataclasses.dataclass
        class Thing:
            x: int
        def init(): pass
        def run(data): return pickle.loads(pickle.dumps(Thing(3))).x
    """
    assert start(script).ready().score(b"").json == 3


def test_init_may_be_async(start: Any) -> None:
    script = """
        import asyncio
        async def init():
            global lock
            lock = asyncio.Lock()
            await asyncio.sleep(0)
        async def run(data):
            async with lock:
                return data
    """
    assert start(script).ready().score(b"x").json == "x"


def test_a_worker_dies_with_its_parent(start: Any, tmp_path: Any) -> None:
    script = """
        import os, subprocess, sys
        pid = os.fork()
        if pid == 0:
            os.environ["MOORINGS_SOCKET"] += "2"
            os.environ["MOORINGS_BOOT_REPORT"] += "2"
            os.environ["AZUREML_ENTRY_SCRIPT"] = "inner.py"
            os.execl(sys.executable, sys.executable, "-m", "moorings_server", "--worker")
        def init(): pass
        def run(data): return pid
    """
    outer = start(script, files={"inner.py": "def init(): pass\ndef run(data): return data\n"}).ready()
    child = outer.score(b"").json
    deadline = time.monotonic() + 10
    while not outer.report_path.with_name("report.json2").exists():
        assert time.monotonic() < deadline, outer.log
        time.sleep(0.01)
    outer.process.kill()
    outer.process.wait()
    while _is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    "failing",
    [
        "e = None\n    for n in range(50000):\n        f = ValueError(n); f.__cause__ = e; e = f\n    raise e",
        "raise type('Odd', (Exception,), {'__class__': property(lambda self: 1 / 0)})('odd')",
        "raise type('Odd', (Exception,), {'__eq__': lambda self, other: 1 / 0, '__hash__': None})('odd')",
    ],
)
def test_exceptions_that_are_hard_to_look_at_with_a_model(start: Any, failing: str, tmp_path: Any) -> None:
    script = f"def init():\n    {failing}\ndef run(d): pass\n"
    report = start(script, AZUREML_MODEL_DIR=str(tmp_path)).failed()
    assert report["kind"] == "init_raised" and report["traceback"]
