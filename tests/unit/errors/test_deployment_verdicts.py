"""What is told of a whole deployment, from the evidence of its instances."""

from __future__ import annotations

from typing import Any

from moorings.errors.diagnosis import DeploymentEvidence, InstanceEvidence, diagnose
from moorings.errors.diagnosis.evidence import End
from moorings.errors.exceptions import failure

CODE = "/i/app/src"

FAILED = failure("UserScriptInitFailed", "it failed", fields={"endpoint": "shop", "deployment": "blue"})
BLOCKED = failure("GatewayRejected", "no", fields={"endpoint": "shop"})
SERVING = InstanceEvidence("shop", "blue", "running", ready=True, code_root=CODE)


def ended(at: float, **more: Any) -> InstanceEvidence:
    given = {"phase": "running", "ready": True, "signal": 9, "served_s": 1.0, "ends": (End(at, signal=9),)}
    return InstanceEvidence("shop", "blue", **{**given, **more})


def test_what_a_rollout_failed_with_has_the_word() -> None:
    found = diagnose(DeploymentEvidence(failed=FAILED, blocked=BLOCKED, instances=(ended(5.0),), now=6.0))
    assert found is FAILED


def test_the_newest_end_is_told_and_an_old_one_is_not() -> None:
    lately = diagnose(DeploymentEvidence(instances=(ended(90.0), ended(95.0, oom=True)), now=100.0))
    assert lately is not None
    assert lately.code == "OutOfMemoryServing"
    assert diagnose(DeploymentEvidence(instances=(ended(0.0),), now=1e6)) is None


def test_what_is_in_the_way_is_told_when_no_instance_has_ended() -> None:
    assert diagnose(DeploymentEvidence(blocked=BLOCKED, instances=(SERVING,))) is BLOCKED


def test_requests_that_fail_are_told_while_it_serves() -> None:
    log = (
        "Worker with pid 3 ready for serving traffic",
        "E azmlinfsrv - Encountered Exception Traceback (most recent call last):",
        f'  File "{CODE}/score.py", line 6, in run',
        "    return 1 / int(data)",
        "ZeroDivisionError: division by zero",
        "POST /score 500 0.4ms",
    )
    found = diagnose(
        DeploymentEvidence(instances=(InstanceEvidence(**{**SERVING.__dict__, "log_tail": log}),))
    )
    assert found is not None
    assert (found.code, found.target) == ("UserScriptRunFailed", "score.py:6")
    assert "ZeroDivisionError: division by zero" in found.evidence
    assert diagnose(DeploymentEvidence(instances=(SERVING,))) is None


def test_an_exception_that_was_handled_is_not_what_run_raised() -> None:
    raises = (
        "Worker with pid 3 ready for serving traffic",
        "E azmlinfsrv - Encountered Exception OSError: [Errno 28] No space left on device",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        f'  File "{CODE}/score.py", line 6, in run',
        "    with open(path, 'w') as handle:",
        "OSError: [Errno 28] No space left on device",
        "POST /score 500 0.4ms",
    )
    logged = (
        "E root - handled",
        "Traceback (most recent call last):",
        '  File "/x.py", line 1, in f',
        "ValueError: no",
    )
    seen = InstanceEvidence(**{**SERVING.__dict__, "log_tail": (*raises, *logged)})
    found = diagnose(DeploymentEvidence(instances=(seen,)))
    assert found is not None
    assert (found.code, found.target) == ("DiskFull", "score.py:6")
