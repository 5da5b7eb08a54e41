"""Snapshot, status, candidates, health documents and the binary's checks."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from moorings.errors.exceptions import MooringsError, failure
from moorings.gateway import admin, binary, envoy, snapshot, validate
from moorings.gateway.control import GatewayControl, GatewaySettings
from moorings.gateway.state import DeploymentRoute, EndpointRoute, GatewayState, GatewayStatus


def state(*names: str, timeout_ms: int = 5000, addresses=("/r/a.sock",)) -> GatewayState:
    deployment = DeploymentRoute("blue", addresses, 1, 1, timeout_ms)
    return GatewayState(tuple(EndpointRoute(n, ("secret",), (deployment,), {"blue": 100}) for n in names))


def bundles(*names: str, **more) -> list[envoy.Bundle]:
    return list(envoy.resources(state(*names, **more)).values())


def test_a_snapshot_survives_its_file(tmp_path):
    path = tmp_path / "snapshot.json"
    written = snapshot.of(bundles("shop", "bank"))
    assert snapshot.write(path, written) is True
    assert snapshot.read(path) == written
    assert snapshot.write(path, written) is False
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_read_again_is_decoded_only_where_it_has_changed(tmp_path):
    path = tmp_path / "snapshot.json"
    file = snapshot.SnapshotFile(path)
    assert file.read() is None
    for names, timeout_ms in ((("shop", "bank"), 5000), ((), 1), (("shop",), 5000)):
        snapshot.write(path, snapshot.of(bundles(*names, timeout_ms=timeout_ms)))
        assert file.read() == snapshot.read(path)
        assert [bundle.endpoint for bundle in file.read().bundles] == sorted(names)
    before = {bundle.endpoint: bundle for bundle in file.read().bundles}
    snapshot.write(path, snapshot.of([*bundles("shop"), *bundles("bank", timeout_ms=1)]))
    after = {bundle.endpoint: bundle for bundle in file.read().bundles}
    assert after["shop"] is before["shop"]
    assert set(after) == {"shop", "bank"}


def test_what_is_written_again_is_what_it_would_be_the_first_time(tmp_path):
    file = snapshot.SnapshotFile(tmp_path / "again.json")
    for names, timeout_ms in ((("shop", "bank"), 5000), (("shop", "bank"), 1), (("bank",), 1)):
        wanted = snapshot.of(bundles(*names, timeout_ms=timeout_ms))
        assert file.write(wanted)
        snapshot.write(tmp_path / "first.json", wanted)
        assert (tmp_path / "again.json").read_bytes() == (tmp_path / "first.json").read_bytes()
        assert json.loads((tmp_path / "again.json").read_bytes())["version"] == wanted.version


def test_a_snapshot_on_one_line_is_read_too(tmp_path):
    path = tmp_path / "snapshot.json"
    written = snapshot.of(bundles("shop", "bank"))
    snapshot.write(path, written)
    path.write_text(json.dumps(json.loads(path.read_bytes())))
    assert snapshot.read(path) == written


@pytest.mark.parametrize(
    "text", [None, b"", b"{", b"[]", b'{"version": 1}', b'{"version":"x","bundles":[1]}']
)
def test_what_is_no_snapshot_reads_as_none(tmp_path, text):
    path = tmp_path / "snapshot.json"
    if text is not None:
        path.write_bytes(text)
    assert snapshot.read(path) is None
    assert snapshot.read_status(path) is None


def test_a_status_survives_its_file_with_its_problem(tmp_path):
    path = tmp_path / "status.json"
    problem = failure("GatewayPortInUse", "port 1 is taken", evidence=["bind"], fields={"holder": "x"})
    status = GatewayStatus(
        "v", {"shop": "1"}, {"bank": "no"}, {"shop~blue": ("/a",)}, 7, True, "text", problem
    )
    snapshot.write_status(path, status)
    assert snapshot.read_status(path) == status
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_publishing_needs_no_agent_and_writes_only_changes(tmp_path):
    control = GatewayControl(GatewaySettings(tmp_path, tmp_path / "g", tmp_path / "r", 1))
    versions = control.publish(state("shop"))
    before = control.settings.snapshot.stat().st_mtime_ns, control.settings.snapshot.stat().st_ino
    assert control.publish(state("shop")) == versions
    assert (control.settings.snapshot.stat().st_mtime_ns, control.settings.snapshot.stat().st_ino) == before
    changed = control.publish(state("shop", timeout_ms=1))
    assert changed.endpoints["shop"] != versions.endpoints["shop"]
    back = control.publish(state("shop"))
    assert back.endpoints == versions.endpoints
    assert back.version not in (versions.version, changed.version)
    assert (control.status(), control.running()) == (None, False)


def test_what_is_published_is_the_snapshot_of_it_however_it_came_about(tmp_path):
    control = GatewayControl(GatewaySettings(tmp_path, tmp_path / "g", tmp_path / "r", 1))
    published = [
        control.publish(one) for one in (state("shop", "bank"), state("shop"), state("bank", "shop", "club"))
    ][-1]
    written = snapshot.read(control.settings.snapshot)
    assert written is not None
    assert written.bundles == snapshot.of(bundles("shop", "bank", "club")).bundles
    assert (written.version, written.endpoints) == (published.version, published.endpoints)


def test_of_a_change_only_what_has_changed_is_made_anew(tmp_path, monkeypatch):
    control = GatewayControl(GatewaySettings(tmp_path, tmp_path / "g", tmp_path / "r", 1))
    control.publish(state("shop", "bank"))
    made = []
    original = envoy.EndpointPart.bundle
    monkeypatch.setattr(
        envoy.EndpointPart, "bundle", lambda part: made.append(part.endpoint.name) or original(part)
    )
    both = (*state("bank").endpoints, *state("shop", timeout_ms=1).endpoints)
    control.publish(GatewayState(both))
    assert made == ["shop"]


def test_a_snapshot_of_another_process_is_gone_on_from(tmp_path):
    settings = GatewaySettings(tmp_path, tmp_path / "g", tmp_path / "r", 1)
    first, second = GatewayControl(settings), GatewayControl(settings)
    first.publish(state("shop"))
    other = second.publish(state("bank"))
    again = first.publish(state("shop"))
    assert snapshot.read(settings.snapshot).endpoints == again.endpoints
    assert int(again.version.partition("-")[2]) == int(other.version.partition("-")[2]) + 1


def test_a_status_is_read_again_when_there_is_another_and_not_before(tmp_path, monkeypatch):
    control = GatewayControl(GatewaySettings(tmp_path, tmp_path / "g", tmp_path / "r", 1))
    path, read, decoded = control.settings.status, [], []
    original, decode = Path.read_bytes, snapshot._status
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or original(path))
    monkeypatch.setattr(snapshot, "_status", lambda text: decoded.append(text) or decode(text))

    def write(version, seconds_ago):
        snapshot.write_status(path, GatewayStatus(version, {}, {}, {}, 7, True))
        os.utime(path, (time.time() - seconds_ago,) * 2)

    write("a", 5)
    assert [control.status().snapshot_version for _ in range(3)] == ["a"] * 3
    assert len(read) == 1
    write("b", 0)
    assert [control.status().snapshot_version for _ in range(2)] == ["b"] * 2
    assert len(read) == 3, "one that young may have been replaced by another that looks the same"
    assert len(decoded) == 2, "and is decoded when it has been"
    path.unlink()
    assert control.status() is None


def test_a_change_of_workers_is_the_same_subject_and_a_change_of_routes_is_not():
    (before,) = bundles("shop")
    (moved,) = bundles("shop", addresses=("/r/b.sock",))
    (changed,) = bundles("shop", timeout_ms=6000)
    assert before.subject == moved.subject != changed.subject


def test_a_candidate_holds_no_workers_and_asks_nobody():
    document = validate.candidate(bundles("shop", "bank"))
    clusters = document["static_resources"]["clusters"]
    assert {(c["name"], c["type"]) for c in clusters} == {("shop~blue", "STATIC"), ("bank~blue", "STATIC")}
    text = json.dumps(document)
    assert '"ads"' not in text
    assert "/r/a.sock" not in text
    assert "FileAccessLog" not in text


def test_the_message_of_a_refusal_holds_no_key_and_no_path_of_ours():
    output = (
        "[2026-11-21 03:00:00.000][12][critical][main] [source/server.cc:1] "
        "error initializing configuration '/d/.candidate-1.json': bad \"Bearer secret\" here\nexiting\n"
    )
    message = validate.explain(output, "/d/.candidate-1.json")
    assert message == "error initializing configuration 'the candidate': bad \"Bearer ***\" here"


def test_only_hosts_that_pass_every_check_are_healthy():
    def host(path: str, **health: object) -> dict:
        return {
            "address": {"pipe": {"path": path}},
            "health_status": {"eds_health_status": "HEALTHY", **health},
        }

    document = {
        "cluster_statuses": [
            {"name": "discovery", "host_statuses": [host("/r/ads.sock")]},
            {"name": "empty"},
            {
                "name": "shop~blue",
                "host_statuses": [
                    host("/b"),
                    host("/a"),
                    host("/c", failed_active_health_check=True),
                    host("/d", failed_outlier_check=True),
                    host("/e", pending_active_hc=True),
                    host("/f", eds_health_status="DRAINING"),
                    {
                        "address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}},
                        "health_status": {},
                    },
                ],
            },
        ]
    }
    assert admin.healthy_hosts(document) == {"empty": (), "shop~blue": ("/a", "/b", "10.0.0.1:80")}


def _program(path, version: str):
    path.write_text(f"#!/bin/sh\necho 'envoy  version: abc/{version}/Clean/RELEASE/BoringSSL'\n")
    path.chmod(0o700)
    return path


def test_the_installed_binary_is_the_pinned_one():
    found = binary.find()
    assert found.stat().st_size > 50_000_000


def test_another_content_is_refused_where_the_hash_is_pinned(tmp_path):
    program = _program(tmp_path / "envoy", "1.40.3")
    with pytest.raises(MooringsError) as caught:
        binary.check(program, tmp_path / "cache", machine="x86_64")
    assert caught.value.failure.code == "GatewayBinaryRefused"
    assert not (tmp_path / "cache").exists()


def test_another_version_is_refused_everywhere(tmp_path):
    with pytest.raises(MooringsError, match=r"1\.41\.0"):
        binary.check(_program(tmp_path / "envoy", "1.41.0"), tmp_path / "cache", machine="unlisted")


def test_a_verdict_is_kept_until_the_file_changes(tmp_path):
    program, cache = _program(tmp_path / "envoy", "1.40.9"), tmp_path / "cache"
    first = binary.check(program, cache, machine="unlisted")
    assert first.version == "1.40.9"
    again = program.stat()
    _program(program, "1.41.0")
    import os

    os.utime(program, ns=(again.st_atime_ns, again.st_mtime_ns))
    # Same path, size and time: the content isn't read again.
    assert binary.check(program, cache, machine="unlisted") == first
    os.utime(program, ns=(1, 1))
    with pytest.raises(MooringsError):
        binary.check(program, cache, machine="unlisted")
