"""Evidence in, one verdict out: the code, what proves it, the next command."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings import contract
from moorings.engines import layout
from moorings.engines.base import CONTAINER_INITIALIZER, CONTAINER_SERVER, Phase
from moorings.errors.catalogue import CATALOGUE, instances
from moorings.errors.diagnosis import InstanceEvidence, diagnose_instance, evidence

TRACE = 'Traceback (most recent call last):\n  File "/app/src/score.py", line 4, in init\n    load()\n'


def diagnose(**changes: Any):
    return diagnose_instance(InstanceEvidence("shop", "blue", **{"phase": "failed", **changes}))


def report(kind: str, **more: Any) -> dict[str, Any]:
    keys = ("message", "traceback", "file", "line", "text", "missing")
    return {"outcome": "failed", "kind": kind, **dict.fromkeys(keys), **more}


def booted(kind: str, **more: Any):
    return diagnose(exit_code=3, report=report(kind, **more))


def test_the_words_repeated_here_are_those_of_the_layers_above():
    for name in (n for n in dir(contract) if n.startswith("KIND_")):
        assert getattr(evidence, name) == getattr(contract, name)
    for name in (n for n in dir(layout) if n.startswith("KIND_")):
        assert getattr(evidence, name) == getattr(layout, name)
    assert (evidence.STEP_SERVER, evidence.STEP_INITIALIZER) == (CONTAINER_SERVER, CONTAINER_INITIALIZER)


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("sklearn", "scikit-learn"),
        ("cv2", "opencv-python-headless"),
        ("yaml", "pyyaml"),
        ("PIL", "pillow"),
        ("pandas", "pandas"),
        ("sklearn.linear_model", "scikit-learn"),
        ("my_package", "my-package"),
    ],
)
def test_a_missing_module_names_the_package_to_add(module, package):
    failed = booted(
        "import_error",
        message=f"ModuleNotFoundError: No module named {module!r}",
        missing=module,
        file="/app/src/score.py",
        line=2,
        text=f"import {module}",
    )
    assert failed.code == "UserScriptImportError"
    assert f"`{package}`" in failed.fix
    assert failed.target == "/app/src/score.py:2"
    assert "/app/src/score.py:2" in failed.evidence
    assert f"    import {module}" in failed.evidence
    assert "moor online-deployment update -e shop -n blue" in failed.fix


def test_a_name_that_a_package_lacks_is_a_matter_of_versions():
    failed = booted(
        "import_error",
        message="ImportError: cannot import name 'Ridge' from 'sklearn'",
        missing="sklearn",
    )
    assert failed.code == "UserScriptImportError"
    assert "Pin a version of `scikit-learn`" in failed.fix


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("script_missing", "ScriptMissing"),
        ("syntax_error", "UserScriptSyntaxError"),
        ("script_raised", "ScriptRaised"),
        ("bad_signature", "UserScriptBadSignature"),
        ("init_raised", "UserScriptInitFailed"),
        ("bad_settings", "ServerSettingsInvalid"),
    ],
)
def test_the_user_s_own_frames_are_the_evidence(kind, code):
    failed = booted(
        kind, message="ValueError: no", traceback=TRACE + "ValueError: no", file="/app/src/score.py", line=4
    )
    assert failed.code == code
    assert failed.target == "/app/src/score.py:4"
    assert failed.evidence[-1] == "ValueError: no"
    assert "ValueError: no" in failed.message
    assert failed.evidence.count("ValueError: no") == 1
    assert failed.entry.numeric == "ERR_2200"


@pytest.mark.parametrize(
    ("missing", "shown"), [("run", "run()"), ("init", "init()"), ("init, run", "init() and run()")]
)
def test_a_missing_function_is_named(missing, shown):
    failed = booted("function_missing", missing=missing, file="/app/src/score.py")
    assert failed.code == "UserScriptFunctionNotFound"
    assert f"Define {shown}" in failed.fix


def test_a_missing_model_file_shows_what_is_there():
    log = (
        "User's init function failed",
        "Model Directory Contents:",
        "/app/azureml-models/m/3/",
        "    other.pkl",
    )
    failed = diagnose(exit_code=3, report=report("model_path", missing="/app/m/3/model.pkl"), log_tail=log)
    assert failed.code == "ModelPathNotFound"
    assert "/app/m/3/model.pkl" in failed.message
    assert "    other.pkl" in failed.evidence


def test_out_of_memory_by_the_kernel_wins_over_the_signal():
    failed = diagnose(signal=9, oom=True, memory_bytes=3584 * 2**20, phase="backoff")
    assert failed.code == "OutOfMemory"
    assert "3.5 GiB" in failed.message


@pytest.mark.parametrize(
    "message", ["MemoryError", "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8 TiB"]
)
def test_out_of_memory_by_the_script(message):
    assert booted("init_raised", message=message).code == "OutOfMemory"


def test_a_mention_of_memory_is_no_lack_of_it():
    assert (
        booted("init_raised", message="ValueError: caught a MemoryError before").code
        == "UserScriptInitFailed"
    )


def test_disk_full_wins_over_what_raised_it():
    assert booted("init_raised", message="OSError: [Errno 28] No space left on device").code == "DiskFull"


def test_a_log_that_mentions_a_full_disk_does_not_hide_a_reported_failure():
    log = ("OSError: [Errno 28] No space left on device",)
    failed = diagnose(exit_code=3, report=report("syntax_error", message="SyntaxError: x"), log_tail=log)
    assert failed.code == "UserScriptSyntaxError"


def test_signals_are_named():
    failed = diagnose(signal=11, phase="backoff", log_tail=("Segmentation fault",))
    assert failed.code == "NativeCodeCrashed"
    assert "SIGSEGV" in failed.message
    assert failed.evidence == ("Segmentation fault",)
    killed = diagnose(signal=9, phase="backoff", log_tail=("busy",))
    assert killed.code == "KilledBySignal"
    assert killed.evidence == ("signal SIGKILL", "busy")


def test_a_crash_loop():
    failed = diagnose(
        exit_code=1, restarts=3, phase="backoff", log_tail=("first", *TRACE.splitlines(), "KeyError: 'x'")
    )
    assert failed.code == "CrashLoop"
    assert failed.evidence[:2] == ("/app/src/score.py:4", "Traceback (most recent call last):")
    assert failed.evidence[-1] == "KeyError: 'x'"


def test_boot_timeouts():
    assert (
        booted("boot_timeout", message="worker 0 was not ready 310 s after its start").code == "BootTimeout"
    )
    slow = diagnose(phase="starting", overdue=True, waited_s=310, log_tail=("loading",))
    assert (slow.code, slow.evidence) == ("BootTimeout", ("loading",))
    assert "310 s" in slow.message
    assert diagnose(phase="running", overdue=True).code == "ResourceNotReady"


def test_an_earlier_crash_does_not_explain_why_it_runs_and_is_not_ready():
    assert diagnose(phase="running", overdue=True, exit_code=1, restarts=1).code == "ResourceNotReady"


@pytest.mark.parametrize("code", ["ArtifactsUnavailable", "ArtifactsNoSpace"])
def test_the_initializer_says_its_own_code(code):
    by_report = diagnose(
        exit_code=4, step="storage-initializer", report=report("initializer", code=code, message="gone")
    )
    by_log = diagnose(exit_code=4, step="storage-initializer", log_tail=("  a file", f"ERROR {code}: gone"))
    assert (by_report.code, by_report.message) == (by_log.code, by_log.message) == (code, "gone")
    assert by_log.evidence == ("  a file", f"ERROR {code}: gone")


def test_an_initializer_that_just_dies():
    failed = diagnose(signal=9, step="storage-initializer", report=report("initializer", message=""))
    assert failed.code == "ArtifactsUnavailable"
    assert "SIGKILL" in failed.message


def test_a_process_that_cannot_be_started():
    failed = booted("cannot_start", message="cannot start /env/bin/python: No such file or directory")
    assert (failed.code, failed.entry.numeric) == ("ContainerCannotStart", "ERR_2100")
    assert booted("cannot_start", message="No space left on device").code == "DiskFull"


def test_the_fallback():
    failed = diagnose(exit_code=42, log_tail=("last words",))
    assert (failed.code, failed.evidence) == ("UserContainerCrash", ("last words",))


texts = st.one_of(st.none(), st.text(max_size=30))
reports = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "kind": st.one_of(
                st.sampled_from([getattr(evidence, n) for n in dir(evidence) if n.startswith("KIND_")]), texts
            ),
            **dict.fromkeys(("message", "traceback", "file", "text", "missing", "code"), texts),
            "line": st.one_of(st.none(), st.integers()),
        },
    ),
)


@given(
    st.builds(
        InstanceEvidence,
        endpoint=st.just("shop"),
        deployment=st.just("blue"),
        phase=st.sampled_from([str(p) for p in Phase]),
        exit_code=st.one_of(st.none(), st.integers(0, 255)),
        signal=st.one_of(st.none(), st.integers(1, 80)),
        report=reports,
        step=st.sampled_from([evidence.STEP_SERVER, evidence.STEP_INITIALIZER]),
        oom=st.booleans(),
        restarts=st.integers(0, 9),
        overdue=st.booleans(),
        log_tail=st.lists(st.text(max_size=20), max_size=60).map(tuple),
    )
)
def test_there_is_always_a_verdict_with_a_command(instance):
    failed = diagnose_instance(instance)
    assert failed.code in CATALOGUE
    assert failed.message
    assert len(failed.evidence) <= 40
    if failed.code in {entry.code for entry in instances.ENTRIES}:
        assert "moor online-deployment " in failed.fix
        assert "-e shop -n blue" in failed.fix
