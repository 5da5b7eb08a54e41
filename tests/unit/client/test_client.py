"""Decoding, waiting, scoring and registering, without a connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from moorings.client import intake, scoring
from moorings.client.client import Client
from moorings.client.deploy import register_model
from moorings.client.faults import ApiError, from_answer
from moorings.client.operations import Operation, Phase, Report, poll_delay_s, report_from, wait, wait_all
from moorings.client.transport import Answer, traced
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.spec.assets import ModelSpec


@dataclass
class Script:
    """Answers each request with the next of a list, or by path."""

    answers: dict[str, Answer]
    sent: list[tuple[str, str, Any]] = field(default_factory=list)

    def send(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, timeout_s: float | None = 60.0
    ) -> Answer:
        below = path.partition("?")[0].removeprefix("/ws")
        self.sent.append((method, below, body))
        return self.answers.get(f"{method} {below}", Answer(404, {}, b'{"error": {"code": "AssetNotFound"}}'))


def ok(body: Any, **headers: str) -> Answer:
    return Answer(200, {k.replace("_", "-"): v for k, v in headers.items()}, json.dumps(body).encode())


# --- decoding ---
def test_lists_follow_their_pages() -> None:
    script = Script(
        {
            "GET /onlineEndpoints": ok({"value": [{"name": "a"}], "nextLink": "http://any/ws/more?p=2"}),
            "GET /more": ok({"value": [{"name": "b"}]}),
        }
    )
    assert [e["name"] for e in Client(script, "/ws").endpoints()] == ["a", "b"]


def test_names_are_escaped_in_paths() -> None:
    script = Script({})
    with pytest.raises(ApiError):
        Client(script, "/ws").endpoint("a..b?c#")
    assert script.sent[0][1] == "/onlineEndpoints/a..b%3Fc%23"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x"])
def test_a_name_that_would_lead_to_another_resource_is_never_sent(name: str) -> None:
    script = Script({})
    client = Client(script, "/ws")
    for ask in (
        lambda: client.delete_deployment("good", name),
        lambda: client.delete_endpoint(name),
        lambda: client.put_asset("models", name, "1", {}),
        lambda: client.put_asset("models", "m", name, {}),
    ):
        with pytest.raises(MooringsError) as caught:
            ask()
        assert caught.value.failure.code == "RequestInvalid"
    assert script.sent == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 1}', b'"x"', b"\xff"])
def test_an_answer_that_is_no_error_body_is_named_as_such(body: bytes) -> None:
    problem = from_answer(Answer(502, {}, body, "Bad Gateway"), "GET /x")
    assert problem.failure.code == "WorkspaceAnswerInvalid"
    assert problem.status == 502


def test_nested_details_and_evidence_survive() -> None:
    def body(code: str, **more: Any) -> dict[str, Any]:
        info = {"evidence": [f"seen {code}"], "fix": f"fix {code}"}
        return {"code": code, "message": code, "additionalInfo": [{"type": "moorings", "info": info}], **more}

    answer = Answer(400, {}, json.dumps({"error": body("A", details=[body("B", target="t")])}).encode())
    failed = from_answer(answer, "PUT /x").failure
    assert (failed.evidence, failed.fix) == (("seen A",), "fix A")
    assert (failed.details[0].code, failed.details[0].target) == ("B", "t")
    assert failed.details[0].evidence == ("seen B",)


def test_an_answer_that_is_no_object_is_not_understood() -> None:
    with pytest.raises(MooringsError) as caught:
        Client(Script({"GET ": Answer(200, {}, b"[1]")}), "/ws").workspace()
    assert caught.value.failure.code == "WorkspaceAnswerInvalid"


def test_a_trace_hides_keys_wherever_they_are() -> None:
    body = {"primaryKey": "s3cret", "deep": [{"accessToken": "s3cret", "name": "shown"}]}
    text = "\n".join(traced({"Authorization": "Bearer s3cret", "x": "shown"}, json.dumps(body).encode()))
    assert "s3cret" not in text
    assert text.count("shown") == 2


# --- waiting ---
@dataclass
class Reports:
    given: Iterator[Report]

    def report(self, operation: Operation) -> Report:
        return next(self.given)


def waited(*reports: Report, timeout_s: float | None = None) -> tuple[list[str], list[float]]:
    clock = ManualClock()
    seen: list[str] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    wait(
        Reports(iter(reports)),
        Operation("/op"),
        on_progress=lambda r: seen.append(r.status),
        clock=clock,
        sleep=sleep,
        timeout_s=timeout_s,
    )
    return seen, slept


def test_waiting_ends_with_the_operation_and_keeps_to_the_servers_pace() -> None:
    seen, slept = waited(Report("op", "InProgress", retry_after_s=1.5), Report("op", "Succeeded"))
    assert (seen, slept) == (["InProgress", "Succeeded"], [1.5])


def test_a_failed_operation_raises_what_it_failed_with() -> None:
    with pytest.raises(ApiError) as caught:
        waited(Report("op", "Failed", error={"code": "New", "message": "broke"}))
    assert caught.value.failure.code == "New"


def test_a_cancelled_operation_says_so() -> None:
    with pytest.raises(MooringsError) as caught:
        waited(Report("op", "Canceled"))
    assert caught.value.failure.code == "OperationCanceled"


def test_waiting_is_bounded_when_asked() -> None:
    going = [Report("op", "InProgress", waiting_for="a port", retry_after_s=1.0)] * 10
    with pytest.raises(MooringsError) as caught:
        waited(*going, timeout_s=3.0)
    assert caught.value.failure.code == "OperationTimeout"
    assert caught.value.failure.evidence == ("waiting for: a port",)


def test_one_that_fails_ends_the_wait_for_no_other() -> None:
    """`blue` fails at once, `green` goes on; both are shown under their names."""
    phase = Phase("environment", "running", "", None)
    given = [
        Report("b", "Failed", phases=(phase,), error={"code": "New", "message": "broke"}),
        Report("g", "InProgress", phases=(phase,), waiting_for="a port", retry_after_s=1.5),
        Report("g", "Succeeded"),
    ]
    seen: list[Report] = []
    slept: list[float] = []
    operations = {"blue": Operation("/b"), "green": Operation("/g")}
    failed = wait_all(Reports(iter(given)), operations, on_progress=seen.append, sleep=slept.append)
    assert {name: problem.failure.code for name, problem in failed.items()} == {"blue": "New"}
    assert [report.status for report in seen] == ["InProgress", "Succeeded"]
    assert [p.name for p in seen[0].phases] == ["blue environment", "green environment"]
    assert seen[0].waiting_for == "green: a port"
    assert slept == [1.5]
    assert wait_all(Reports(iter([])), {}, on_progress=seen.append) == {}


@pytest.mark.parametrize(
    ("asked", "given"), [("100", 0.1), ("0", 0.02), ("9999999", 5.0), ("soon", 0.25), (None, 0.25)]
)
def test_the_pace_has_bounds(asked: str | None, given: float) -> None:
    assert poll_delay_s(asked) == given


def test_a_report_takes_times_as_text_and_as_numbers() -> None:
    phases = [
        {
            "name": "a",
            "status": "done",
            "startedAt": "2026-01-01T00:00:00Z",
            "endedAt": "2026-01-01T00:00:02.5Z",
        },
        {"name": "b", "status": "done", "startedAt": 10, "endedAt": 11.5},
        {"name": "c", "status": "running", "startedAt": "nonsense"},
        "no phase",
    ]
    report = report_from({"status": "InProgress", "properties": {"phases": phases}}, None)
    assert [p.seconds for p in report.phases] == [2.5, 1.5, None]


# --- scoring ---
def shop(auth_mode: str = "Key") -> Script:
    endpoint = {"properties": {"scoringUri": "http://gw/score", "authMode": auth_mode}}
    return Script(
        {
            "GET /onlineEndpoints/shop": ok(endpoint),
            "GET /onlineEndpoints/shop/deployments": ok({"value": [{"name": "blue"}]}),
            "POST /onlineEndpoints/shop/listKeys": ok({"primaryKey": "k1"}),
            "POST /onlineEndpoints/shop/token": ok({"accessToken": "t1"}),
        }
    )


def scored(script: Script, answer: Answer, **kwargs: Any) -> tuple[scoring.Scored, dict[str, str]]:
    seen: dict[str, str] = {}

    def post(url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        seen.update(headers, url=url, body=body.decode())
        return answer

    return scoring.invoke(Client(script, "/ws"), "shop", b"{}", post=post, **kwargs), seen


def test_scoring_uses_the_primary_key_and_the_named_deployment() -> None:
    result, seen = scored(
        shop(), Answer(200, {"azureml-model-deployment": "blue"}, b"[1]"), deployment="blue"
    )
    assert (result.text, result.deployment) == ("[1]", "blue")
    assert seen["authorization"] == "Bearer k1"
    assert seen["azureml-model-deployment"] == "blue"
    assert seen["url"] == "http://gw/score"


def test_scoring_names_no_deployment_unless_asked_and_uses_tokens_in_token_modes() -> None:
    _, seen = scored(shop("AMLToken"), Answer(200, {}, b""))
    assert seen["authorization"] == "Bearer t1"
    assert "azureml-model-deployment" not in seen


def test_an_unknown_deployment_is_found_before_anything_is_sent() -> None:
    with pytest.raises(MooringsError) as caught:
        scored(shop(), Answer(200, {}, b""), deployment="green")
    assert caught.value.failure.code == "DeploymentNotFound"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "InvokeUnauthorized"),
        (404, "InvokeNotFound"),
        (408, "InvokeTimeout"),
        (413, "InvokeTooLarge"),
        (424, "InvokeModelFailed"),
        (429, "InvokeOverloaded"),
        (500, "InvokeFailed"),
        (302, "InvokeFailed"),
    ],
)
def test_every_status_has_its_code_with_the_evidence(status: int, code: str) -> None:
    headers = {"ms-azureml-model-error-statuscode": "500", "ms-azureml-model-error-reason": "model_error"}
    with pytest.raises(MooringsError) as caught:
        scored(shop(), Answer(status, headers, b"line 1\nline 2", "Reason"))
    failed = caught.value.failure
    assert failed.code == code
    assert str(status) in failed.message
    assert failed.evidence == (
        "ms-azureml-model-error-statuscode: 500",
        "ms-azureml-model-error-reason: model_error",
        "line 1",
        "line 2",
    )
    assert "shop" in failed.fix


# --- registering ---
def test_a_named_model_without_version_gets_its_number_from_the_workspace() -> None:
    script = Script(
        {"POST /models/m/versions": ok({"id": "new"}), "PUT /models/m/versions/7": ok({"id": "7"})}
    )
    assert register_model(Client(script, "/ws"), ModelSpec(name="m", path="/data/m")) == "new"
    assert register_model(Client(script, "/ws"), ModelSpec(name="m", version="7", path="/data/m")) == "7"


def test_paths_become_addresses_and_addresses_stay() -> None:
    script = Script({"POST /models/m/versions": ok({"id": "i"})})
    for path, uri in (("/a b/ä", "file:///a%20b/%C3%A4"), ("https://host/m", "https://host/m")):
        register_model(Client(script, "/ws"), ModelSpec(name="m", path=path))
        assert script.sent[-1][2]["properties"]["modelUri"] == uri


def test_a_long_intake_is_watched_on_a_second_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "FIRST_POLL_S", 0.001)
    monkeypatch.setattr(intake, "POLL_S", 0.001)
    seen: list[Any] = []
    looked = threading.Event()

    class Slow(Script):
        def send(self, method: str, path: str, **more: Any) -> Answer:
            assert looked.wait(20)
            answered = super().send(method, path, **more)
            self.url = path
            return answered

    class Aside:
        answers = iter(
            [Answer(404, {}, b"{}"), Answer(200, {}, b"not json"), Answer(200, {}, b'{"properties": 1}')]
        )

        def send(self, method: str, path: str, **more: Any) -> Answer:
            self.url = path
            given = next(self.answers, None)
            if given is None:
                looked.set()
                return ok({"properties": {"doneBytes": 5, "totalBytes": 9, "file": "f"}})
            return given

    slow, aside = Slow({"POST /models/m/versions": ok({"id": "i"})}), Aside()
    client = Client(slow, "/ws", intake.Watcher(aside, seen.append))  # type: ignore[arg-type]
    assert client.put_asset("models", "m", None, {}) == {"id": "i"}
    assert seen[0] == intake.Intake(5, 9, "f")
    assert seen[-1] is None
    id_ = slow.url.partition("&intake=")[2]
    assert aside.url.startswith(f"/ws/intakes/{id_}?")


def test_a_failed_intake_raises_its_code() -> None:
    seen: list[Any] = []
    watcher = intake.Watcher(Script({}), seen.append)  # type: ignore[arg-type]
    with pytest.raises(ApiError) as caught:
        Client(Script({}), "/ws", watcher).put_asset("models", "m", "1", {})
    assert caught.value.failure.code == "AssetNotFound"
    assert seen == [None]
