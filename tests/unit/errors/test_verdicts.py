"""What the diagnosis tells apart, beyond the kinds of a boot report: models, libraries, ends, probes, whole deployments."""

from __future__ import annotations

from typing import Any

import pytest

from moorings.errors.diagnosis import InstanceEvidence, diagnose_instance
from moorings.errors.diagnosis.evidence import EXIT_RUN_STUCK, End, Probed, readable
from moorings.errors.exceptions import Confidence, Failure
from moorings_server import contract

CODE = "/i/app/src"
MODEL = "/i/app/azureml-models/m/1"
ENV = "/home/x/environments/k/lib/python3.11/site-packages"


def of(**changes: Any) -> Failure:
    known = {"phase": "failed", "code_root": CODE, "model_root": MODEL}
    return diagnose_instance(InstanceEvidence("shop", "blue", **{**known, **changes}))


def raised(words: str, *frames: str, kind: str = "init_raised", **more: Any) -> Failure:
    """A boot whose `init()` ended with an exception; frames are `file:line source`."""
    lines = ["Traceback (most recent call last):"]
    for frame in frames or (f"{CODE}/score.py:4 model = joblib.load(path)",):
        place, _, source = frame.partition(" ")
        file, _, line = place.rpartition(":")
        lines += [f'  File "{file}", line {line}, in init', f"    {source}"]
    first = (frames or (f"{CODE}/score.py:4 model = joblib.load(path)",))[0]
    place, _, source = first.partition(" ")
    report = {
        "kind": kind,
        "message": f"init() raised {words}",
        "traceback": "\n".join([*lines, words]),
        "file": place.rpartition(":")[0],
        "line": int(place.rpartition(":")[2]),
        "text": source,
        "missing": None,
    }
    ended = {k: more.pop(k) for k in list(more) if k in ("log_tail", "memory_peak_bytes")}
    return of(exit_code=3, report={**report, **more}, **ended)


def test_the_exit_code_repeated_here_is_that_of_the_contract() -> None:
    assert contract.EXIT_RUN_STUCK == EXIT_RUN_STUCK


def test_paths_are_those_the_user_knows() -> None:
    failed = raised(
        f"KeyError: '{MODEL}/a.pkl'", f"{CODE}/deep/load.py:7 x = y['a']", f"{ENV}/lib/a.py:3 raise"
    )
    assert failed.target == "deep/load.py:7"
    text = "\n".join((failed.message, *failed.evidence))
    assert "/i/app" not in text
    assert "/home/x" not in text
    assert 'File "site-packages/lib/a.py"' in text
    assert "$AZUREML_MODEL_DIR/a.pkl" in text


# --- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "fix"),
    [
        (
            "AttributeError: Can't get attribute 'Net' on <module '__main__' (built-in)>",
            "PickleClassMissing",
            "Net",
        ),
        (
            f"AttributeError: Can't get attribute 'Old' on <module 'shapes' from '{CODE}/shapes.py'>",
            "PickleClassMissing",
            "shapes.py",
        ),
        (
            f"AttributeError: Can't get attribute 'Dist' on <module 'sklearn.metrics' from '{ENV}/sklearn/m.py'>",
            "PickleVersionMismatch",
            "scikit-learn",
        ),
        (
            "ModuleNotFoundError: No module named 'sklearn.linear_model.logistic'",
            "PickleVersionMismatch",
            "scikit-learn",
        ),
        ("ValueError: unsupported pickle protocol: 5", "PickleVersionMismatch", "python="),
        (
            "ValueError: node array from the pickle has an incompatible dtype:",
            "PickleVersionMismatch",
            "pip freeze",
        ),
        ("_pickle.UnpicklingError: invalid load key, 'v'.", "ModelFileInvalid", "git lfs pull"),
        ("_pickle.UnpicklingError: invalid load key, '<'.", "ModelFileInvalid", "Download"),
        ("EOFError: Ran out of input", "ModelFileInvalid", "size"),
        ("_pickle.UnpicklingError: pickle data was truncated", "ModelFileInvalid", "Copy"),
    ],
)
def test_a_model_that_cannot_be_loaded(words: str, code: str, fix: str) -> None:
    failed = raised(words)
    assert (failed.code, failed.target) == (code, "score.py:4")
    assert fix in failed.fix
    assert words.partition(":")[0] in "\n".join(failed.evidence)


def test_both_versions_are_named_where_the_library_said_them() -> None:
    log = (
        "InconsistentVersionWarning: Trying to unpickle estimator Ridge from version 1.0.2 when using version 1.5.0. x",
    )
    failed = raised("AttributeError: 'Ridge' object has incompatible dtype", log_tail=log)
    assert (failed.code, failed.confidence) == ("PickleVersionMismatch", Confidence.CERTAIN)
    assert "scikit-learn==1.0.2" in failed.fix


def test_what_happens_to_be_raised_beside_a_load_is_no_matter_of_versions() -> None:
    assert raised("RuntimeError: no licence").code == "UserScriptInitFailed"
    assert (
        raised("EOFError: Ran out of input", f"{CODE}/score.py:4 data = read()").code
        == "UserScriptInitFailed"
    )


def test_a_missing_module_of_a_pickle_is_a_missing_package() -> None:
    failed = raised("ModuleNotFoundError: No module named 'sklearn'", missing="sklearn")
    assert failed.code == "UserScriptImportError"
    assert "`scikit-learn`" in failed.fix


@pytest.mark.parametrize(
    ("tree", "wanted"),
    [
        (("    model/", "        model.pkl", "        other.pkl"), "'model', 'model.pkl'"),
        (("    right.pkl",), "'right.pkl'"),
    ],
)
def test_the_path_that_would_be_right_is_the_fix(tree: tuple[str, ...], wanted: str) -> None:
    log = ("Model Directory Contents:", f"{MODEL}/", *tree, "moorings: worker 0 ended")
    failed = raised("FileNotFoundError: x", kind="model_path", missing=f"{MODEL}/model.pkl", log_tail=log)
    assert failed.code == "ModelPathNotFound"
    assert f"os.path.join(os.environ['AZUREML_MODEL_DIR'], {wanted})" in failed.fix
    assert tree[-1] in failed.evidence
    assert not any("worker 0 ended" in line for line in failed.evidence)


def test_a_library_s_own_words_for_a_missing_file_of_the_model() -> None:
    failed = raised(f"NoSuchFile: Load model from {MODEL}/net.onnx failed. File doesn't exist")
    assert (failed.code, failed.confidence) == ("ModelPathNotFound", Confidence.LIKELY)
    assert "net.onnx" in failed.message


# --- imports --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory", "libgl1"),
        (
            "OSError: libspecial.so: cannot open shared object file: No such file or directory",
            "libspecial.so",
        ),
        ("ImportError: /lib/x: version `GLIBC_2.38' not found (required by /e/_x.so)", "older version"),
    ],
)
def test_a_missing_library_of_the_system(words: str, fix: str) -> None:
    failed = raised(words, f"{CODE}/score.py:1 import cv2", kind="import_error")
    assert failed.code == "NativeLibraryMissing"
    assert fix in failed.fix


def test_packages_that_were_compiled_for_others() -> None:
    words = (
        "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header"
    )
    failed = raised(words, f"{CODE}/score.py:1 import pandas", kind="script_raised")
    assert failed.code == "PackagesIncompatible"
    assert "numpy<2" in failed.fix


def test_a_file_of_the_user_that_hides_a_package() -> None:
    words = (
        "ImportError: cannot import name 'array' from partially initialized module 'numpy' "
        f"(most likely due to a circular import) ({CODE}/numpy.py)"
    )
    failed = raised(words, f"{CODE}/numpy.py:1 from numpy import array", kind="import_error", missing="numpy")
    assert failed.code == "UserScriptImportError"
    assert "Rename numpy.py" in failed.fix


def test_a_file_that_may_not_be_read() -> None:
    failed = raised("PermissionError: [Errno 13] Permission denied: '/etc/shadow'")
    assert failed.code == "FileAccessDenied"


def test_a_port_that_may_not_be_opened_is_no_file() -> None:
    failed = raised(
        "PermissionError: [Errno 13] Permission denied", f"{CODE}/score.py:4 server.bind(('', 80))"
    )
    assert failed.code == "UserScriptInitFailed"


@pytest.mark.parametrize(
    "words",
    [
        "RuntimeError: the log says: MemoryError",
        "RuntimeError: [Errno 28] No space left on device",
        "RuntimeError: libGL.so.1: cannot open shared object file: No such file or directory",
        "RuntimeError: No module named 'torch'",
        "ImportError: you need `pip install torch`",
        "RuntimeError: invalid load key, 'v'.",
        "RuntimeError: numpy.dtype size changed, may indicate binary incompatibility",
        "RuntimeError: cannot import name 'a' from partially initialized module 'b'",
    ],
)
def test_words_of_the_script_are_not_taken_for_another_failure(words: str) -> None:
    failed = raised(words, f"{CODE}/score.py:4 raise RuntimeError(text)", f"{CODE}/load.py:9 raise problem")
    assert (failed.code, failed.target) == ("UserScriptInitFailed", "score.py:4")


CAUSE = (
    "Traceback (most recent call last):",
    f'  File "{CODE}/load.py", line 7, in load',
    "    import cv2",
    "ModuleNotFoundError: No module named 'cv2'",
)
LEADS = {
    True: "The above exception was the direct cause of the following exception:",
    False: "During handling of the above exception, another exception occurred:",
}


@pytest.mark.parametrize("is_from", [True, False])
@pytest.mark.parametrize("line", ["raise RuntimeError('no vision')", "ways['slow']"])
def test_what_led_to_words_of_the_script_is_told_with_its_place(line: str, is_from: bool) -> None:
    end = (
        "Traceback (most recent call last):",
        f'  File "{CODE}/score.py", line 3, in init',
        f"    {line}",
        "RuntimeError: no vision" if line.startswith("raise") else "KeyError: 'slow'",
    )
    report = {
        "kind": "init_raised",
        "message": f"init() raised {end[-1]}",
        "traceback": "\n".join((*CAUSE, "", LEADS[is_from], "", *end)),
        "file": f"{CODE}/score.py",
        "line": 3,
        "text": line,
    }
    failed = of(exit_code=3, report=report)
    if is_from or line.startswith("raise"):
        assert (failed.code, failed.target) == ("UserScriptImportError", "load.py:7")
        assert "`opencv-python-headless`" in failed.fix
    else:
        assert (failed.code, failed.target) == ("UserScriptInitFailed", "score.py:3")


@pytest.mark.parametrize(
    ("words", "line", "fix"),
    [
        (
            "ImportError: attempted relative import with no known parent package",
            "from .a.b import c",
            "`from a.b import c`",
        ),
        (
            "ImportError: attempted relative import with no known parent package",
            "from . import c",
            "`import c`",
        ),
        (
            f"ImportError: cannot import name 'c' from 'a' ({CODE}/a.py)",
            "from a import c",
            "Define c in a.py",
        ),
        (
            f"ImportError: cannot import name 'c' from 'yaml' ({ENV}/yaml/__init__.py)",
            "from yaml import c",
            "`pyyaml`",
        ),
        (
            "ModuleNotFoundError: No module named 'sklearn.externals'",
            "import sklearn.externals.joblib",
            "Pin a version of `scikit-learn`",
        ),
        (
            "ModuleNotFoundError: No module named 'google.cloud'",
            "from google.cloud import storage",
            "Add `google-cloud-storage`",
        ),
        (
            "ModuleNotFoundError: No module named 'azure'",
            "from azure.identity import X",
            "Add `azure-identity`",
        ),
        ("ModuleNotFoundError: No module named 'a.b'; 'a' is not a package", "import a.b", "Rename a.py"),
        (
            "ImportError: Missing optional dependency 'openpyxl'.  Use pip or conda to install openpyxl.",
            "pd.read_excel(x)",
            "`openpyxl`",
        ),
        (
            "ImportError: h2 is missing: install it using `pip install httpx[http2]`.",
            "httpx.Client()",
            "`httpx[http2]`",
        ),
    ],
)
def test_imports_that_fail_in_their_different_ways(words: str, line: str, fix: str) -> None:
    failed = raised(words, f"{CODE}/score.py:4 {line}", kind="import_error")
    assert (failed.code, failed.target) == ("UserScriptImportError", "score.py:4")
    assert fix in failed.fix


def test_a_file_that_hides_a_module_in_the_words_of_newer_pythons() -> None:
    words = (
        f"AttributeError: module 'random' has no attribute 'randint' (consider renaming '{CODE}/random.py' since it has "
        "the same name as the standard library module named 'random')"
    )
    failed = raised(words, f"{CODE}/score.py:4 random.randint(1, 6)")
    assert failed.code == "UserScriptImportError"
    assert "Rename random.py" in failed.fix


@pytest.mark.parametrize(
    ("words", "frame", "code"),
    [
        ("KeyError: 'KEY'", "/usr/lib/python3.10/os.py:679 raise KeyError(key) from None", "VariableMissing"),
        ("KeyError: 'prod'", f'{CODE}/score.py:4 LIMITS[os.environ["MODE"]]', "UserScriptInitFailed"),
        (
            "AttributeError: 'NoneType' object has no attribute 'split'",
            f'{CODE}/score.py:4 os.getenv("A").split()',
            "VariableMissing",
        ),
        (
            "AttributeError: 'NoneType' object has no attribute 'split'",
            f"{CODE}/score.py:4 model.split()",
            "UserScriptInitFailed",
        ),
    ],
)
def test_a_variable_that_is_not_set_is_told_from_a_key_that_is_not_there(
    words: str, frame: str, code: str
) -> None:
    trace = raised(words, f"{CODE}/score.py:4 x", frame)
    if "os.py" in frame:  # as the interpreter calls the function
        report = {
            "kind": "init_raised",
            "message": "init() raised " + words,
            "file": f"{CODE}/score.py",
            "line": 4,
        }
        lines = (
            "Traceback (most recent call last):",
            f'  File "{CODE}/score.py", line 4, in init',
            "    key = environ[name]",
            '  File "/usr/lib/python3.10/os.py", line 679, in __getitem__',
            "    raise KeyError(key) from None",
            words,
        )
        trace = of(exit_code=3, report={**report, "traceback": "\n".join(lines)})
    assert trace.code == code


def test_words_of_another_language_do_not_matter() -> None:
    tree = ("Model Directory Contents:", f"{MODEL}/", "    a.txt")
    absent = "FileNotFoundError: [Errno 2] Datei oder Verzeichnis nicht gefunden: 'a.txt'"
    found = raised(absent, f"{CODE}/score.py:4 open('a.txt')", log_tail=tree)
    assert (found.code, "'a.txt'" in found.fix) == ("ModelPathNotFound", True)
    full = raised("OSError: [Errno 28] Auf dem Gerät ist kein Speicherplatz mehr verfügbar")
    assert full.code == "DiskFull"
    memory = raised("OSError: [Errno 12] Nicht genügend Hauptspeicher verfügbar")
    assert memory.code == "OutOfMemory"


def test_a_warning_of_a_library_in_the_log_is_not_what_a_later_exception_is_about() -> None:
    log = ("A module that was compiled using NumPy 1.x cannot be run in NumPy 2.0 as it may crash.",)
    other = raised("KeyError: 'a'", f"{ENV}/numpy/lib/npyio.py:3 numpy.asarray(x)", log_tail=log)
    assert other.code == "UserScriptInitFailed"
    same = raised("RuntimeError: Numpy is not available", f"{ENV}/torch/x.py:3 x.numpy()", log_tail=log)
    assert same.code == "PackagesIncompatible"


def test_a_package_that_is_no_python_of_this_version() -> None:
    report = {
        "kind": "syntax_error",
        "message": f"SyntaxError at {ENV}/suds/client.py line 7: invalid syntax",
        "traceback": f'{CAUSE[0]}\n  File "{ENV}/suds/client.py", line 7\n    x\nSyntaxError: invalid syntax',
        "file": f"{ENV}/suds/client.py",
        "line": 7,
    }
    failed = of(exit_code=3, report=report)
    assert failed.code == "UserScriptImportError"
    assert "Pin a version of `suds`" in failed.fix


# --- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"signal": 9, "oom": True}, {"exit_code": 1, "log_tail": ("MemoryError",)}])
def test_memory_that_ran_out_in_service_is_told_from_that_at_load(how: dict[str, Any]) -> None:
    figures = {"memory_bytes": 2**30, "memory_peak_bytes": 1000 * 2**20}
    loading, serving = (
        of(phase="backoff", **how, **figures),
        of(phase="backoff", served_s=4.0, **how, **figures),
    )
    assert (loading.code, serving.code) == ("OutOfMemory", "OutOfMemoryServing")
    for failed in (loading, serving):
        assert "most memory the worker had: 1e+03 MiB" in failed.evidence or "1000 MiB" in str(
            failed.evidence
        )
        assert "limit of the instance: 1 GiB" in failed.evidence


def test_memory_that_a_script_could_not_get_in_a_real_report() -> None:
    assert raised("MemoryError").code == "OutOfMemory"
    assert raised("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8 TiB").code == "OutOfMemory"


CRASH = (
    "Fatal Python error: Segmentation fault",
    "",
    "Current thread 0x00007f1 (most recent call first):",
    '  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at',
    f'  File "{CODE}/score.py", line 9 in init',
    '  File "/e/moorings_server/script.py", line 270 in call_init',
    "",
    "Extension modules: numpy (total: 1)",
)


def test_a_crash_in_compiled_code_names_the_line_that_called_it() -> None:
    failed = of(signal=11, log_tail=CRASH)
    assert (failed.code, failed.target) == ("NativeCodeCrashed", "score.py:9")
    assert "SIGSEGV" in failed.message
    assert "string_at" in failed.message
    assert "Fatal Python error: Segmentation fault" in failed.evidence
    assert "instruction" in of(signal=4, log_tail=CRASH).fix


STUCK = (
    "E run() has taken longer than WORKER_TIMEOUT (2 s). Where its threads are:",
    "MainThread:",
    f'  File "{CODE}/score.py", line 5, in run',
)


def test_a_run_that_does_not_end_is_told_from_one_that_waits_for_a_lock() -> None:
    busy = of(phase="backoff", exit_code=6, served_s=3.0, log_tail=(*STUCK, "    while True: total += 1"))
    locked = of(phase="backoff", exit_code=6, served_s=3.0, log_tail=(*STUCK, "    lock.acquire()"))
    for busy_line in (
        "data = peer.recv(16)",
        "os.path.join(a, b)",
        '",".join(words)',
        "with semantic.model():",
    ):
        other = of(phase="backoff", exit_code=6, served_s=3.0, log_tail=(*STUCK, f"    {busy_line}"))
        assert other.code == "RunStuck", busy_line
    for waiting in ("with self.lock:", "thread.join()", "item = queue.get()", "done.wait()"):
        other = of(phase="backoff", exit_code=6, served_s=3.0, log_tail=(*STUCK, f"    {waiting}"))
        assert other.code == "WorkerDeadlocked", waiting
    assert (busy.code, locked.code) == ("RunStuck", "WorkerDeadlocked")
    assert busy.target == locked.target == "score.py:5"
    assert any("lock.acquire()" in line for line in locked.evidence)


def test_a_run_that_kept_the_interpreter_to_itself_is_told_from_what_its_timer_prints() -> None:
    log = (
        "Timeout (0:00:17)!",
        "Thread 0x00007f2 (most recent call first):",
        f'  File "{CODE}/score.py", line 12 in run',
    )
    failed = of(phase="backoff", exit_code=1, served_s=20.0, log_tail=log)
    assert (failed.code, failed.target) == ("RunStuck", "score.py:12")


def test_restarts_over_weeks_are_no_loop() -> None:
    def ended(served_s: float) -> str:
        ends = tuple(End(1.0 + n, 1, None, False, served_s, "") for n in range(4))
        return of(phase="backoff", exit_code=1, served_s=served_s, restarts=4, ends=ends).code

    assert ended(2.0) == "CrashLoop"
    assert ended(86_400.0) == "UserContainerCrash"


DUMP = (
    "moorings: worker 0 was not ready 5 s after its start: killed",
    "moorings: worker 0 is asked where it is:",
    "Thread 0x00007f2 (most recent call first):",
    '  File "/e/moorings_server/logs.py", line 9 in _run',
    "Thread 0x00007f1 (most recent call first):",
    f'  File "{CODE}/net.py", line 3 in fetch',
    f'  File "{CODE}/score.py", line 2 in init',
    "moorings: worker 0 ended (signal SIGKILL); the instance has failed",
)


def test_a_boot_that_hangs_says_where() -> None:
    report = {"kind": "boot_timeout", "message": "worker 0 was not ready 5 s after its start"}
    failed = of(signal=9, report=report, log_tail=DUMP)
    assert (failed.code, failed.target, failed.confidence) == ("BootTimeout", "net.py:3", Confidence.CERTAIN)
    assert "in fetch()" in failed.message


def test_a_script_that_serves_by_itself_is_told_to_stop_that() -> None:
    dump = (DUMP[4], '  File "/usr/lib/python3.11/socketserver.py", line 233 in serve_forever', DUMP[6])
    failed = of(signal=9, report={"kind": "boot_timeout", "message": "late"}, log_tail=dump)
    assert failed.code == "BootTimeout"
    assert "Remove the script's own server" in failed.fix


def test_a_worker_that_answers_no_probe_says_where_it_was() -> None:
    report = {"kind": "liveness", "message": "worker 0 failed its liveness probe 3 times in a row"}
    failed = of(phase="backoff", signal=9, served_s=9.0, report=report, log_tail=DUMP)
    assert (failed.code, failed.target) == ("LivenessProbeFailed", "net.py:3")
    assert report["message"] in failed.evidence


def test_the_history_of_ends_is_shown() -> None:
    ends = (End(10.0, code=1, served_s=2.0), End(14.0, signal=9, oom=True, served_s=4.0))
    failed = of(phase="backoff", signal=9, restarts=2, ends=ends, log_tail=("x",))
    assert any("exit code 1 after 2.0 s in service" in line for line in failed.evidence)


# --- waiting --------------------------------------------------------------------------------------------------------


def test_a_probe_that_is_too_early_is_told_from_a_boot_that_hangs() -> None:
    late = {"phase": "starting", "overdue": True, "waited_s": 4.0, "boot_allowed_s": 300.0, "log_tail": DUMP}
    working, idle = of(processor_s=3.5, **late), of(processor_s=0.1, **late)
    assert (working.code, idle.code) == ("ProbeTooEarly", "BootTimeout")
    assert working.target == idle.target == "net.py:3"
    assert "readiness_probe" in working.fix


@pytest.mark.parametrize(
    ("probed", "listening", "code", "words"),
    [
        (Probed("404", "/ready", 8080, 5), ("0.0.0.0:8080",), "ProbeRouteWrong", "404"),
        (Probed("503", "/ready", 8080, 5), ("0.0.0.0:8080",), "ProbeUnhealthy", "503"),
        (Probed("closed", "/", 8080, 5), ("0.0.0.0:5000",), "ProbePortWrong", "5000"),
        (Probed("refused", "/", 8080, 5), (), "NothingListens", "no program"),
        (Probed("closed", "/", 8080, 5), ("127.0.0.1:8080",), "ListensOnLoopback", "127.0.0.1"),
        (Probed("silent", "/", 8080, 5), ("127.0.0.1:8080", "[::]:8080"), "ResourceNotReady", "time-out"),
        (Probed("silent", "/", 8080, 5), ("0.0.0.0:8080",), "ResourceNotReady", "time-out"),
        (Probed("refused", "/", 8080, 5), None, "ResourceNotReady", "connection"),
    ],
)
def test_a_container_with_a_server_of_its_own(
    probed: Probed, listening: tuple[str, ...] | None, code: str, words: str
) -> None:
    failed = of(phase="running", overdue=True, waited_s=3.0, probed=probed, listening=listening)
    assert failed.code == code
    assert words in failed.message
    assert any(f"GET {probed.path} on port 8080" in line for line in failed.evidence)


def test_a_container_that_still_computes_is_not_said_to_listen_on_nothing() -> None:
    given = {"phase": "running", "overdue": True, "waited_s": 3.0, "probed": Probed("closed", "/", 8080, 5)}
    assert of(**given, listening=(), processor_share=0.9, processor_s=2.7).code == "ProbeTooEarly"
    assert of(**given, listening=(), processor_share=0.0, processor_s=0.1).code == "NothingListens"
    metrics = {"listening": ("0.0.0.0:9000",)}
    assert of(**given, **metrics, processor_share=0.9, processor_s=2.7).code == "ProbeTooEarly"
    assert of(**given, **metrics, processor_share=0.0, processor_s=0.1).code == "ProbePortWrong"


def test_a_container_that_runs_again_after_many_ends() -> None:
    failed = of(phase="running", restarts=3, log_tail=("no licence",))
    assert (failed.code, failed.message) == ("CrashLoop", "the worker has ended 4 times")


def test_half_characters_and_endless_lines_can_be_kept_and_sent() -> None:
    words = "ValueError: caf\udce9 " + "x" * 100_000
    failed = raised(words, log_tail=(words,))
    assert failed.message.encode()
    assert all(len(line.encode()) < 1000 for line in failed.evidence)
    assert len(failed.message) < 1000


def test_a_line_is_read_up_to_a_length_and_keeps_its_end() -> None:
    line = "a" * 100_000 + " No module named 'torch'"
    report = {"kind": "init_raised", "traceback": f"one\n{line}", "line": 3, "frames": [line]}
    seen = readable(InstanceEvidence("e", "d", "failed", report=report, log_tail=(line, "short")))
    kept = [seen.log_tail[0], seen.report["traceback"].splitlines()[1], seen.report["frames"][0]]
    for one in kept:
        assert len(one) < 5000
        assert one.endswith("No module named 'torch'")
    assert (seen.log_tail[1], seen.report["line"]) == ("short", 3)
