"""Templates survive the state, and what only containers have changes no revision of a process."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace

from moorings.controller.publisher import health_path
from moorings.controller.templates import revision_of, template_from_json
from moorings.engines.base import ContainerTemplate, InstanceTemplate, ModelMount, ProbeTimes, Routes

PROCESS = InstanceTemplate(
    endpoint="shop",
    deployment="blue",
    python="/p",
    environment_key="k",
    code_digest="c",
    code_folder="src",
    scoring_script="score.py",
    model=ModelMount("d", "m", "1"),
    environment_variables={"A": "1"},
    max_concurrent_requests=1,
    request_timeout_ms=5000,
    liveness=ProbeTimes(10, 10, 2, 1, 30),
    cpus=None,
    memory_bytes=None,
)
ROUTES = Routes("/live", 1, "/ready", 2, "/score", 2)


def test_the_revision_of_a_process_is_what_it_was_before_there_were_containers() -> None:
    content = asdict(PROCESS)
    del content["container"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert revision_of(PROCESS) == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_another_image_is_another_revision() -> None:
    one, two = (replace(PROCESS, container=ContainerTemplate("a:1", f"sha256:{n}")) for n in (1, 2))
    assert len({revision_of(PROCESS), revision_of(one), revision_of(two)}) == 3


def test_a_template_comes_back_from_the_state() -> None:
    for container in (
        None,
        ContainerTemplate("a:1", "sha256:1"),
        ContainerTemplate("a:1", "i", ROUTES, "/m"),
    ):
        template = replace(PROCESS, container=container)
        assert template_from_json(json.loads(json.dumps(asdict(template)))) == template
    old = asdict(PROCESS)
    del old["container"]
    assert template_from_json(old) == PROCESS, "one that was stored before there were containers"


def test_where_the_gateway_asks_whether_a_worker_is_well() -> None:
    def status(container: ContainerTemplate | None) -> dict[str, object]:
        template = asdict(replace(PROCESS, container=container))
        return {"resolved": {"revision": "r"}, "templates": {"r": template}}

    assert health_path({}) == "/"
    assert health_path(status(None)) == "/"
    assert health_path(status(ContainerTemplate("a", "i"))) == "/"
    assert health_path(status(ContainerTemplate("a", "i", ROUTES))) == "/ready"
    elsewhere = replace(ROUTES, readiness_port=3)
    assert health_path(status(ContainerTemplate("a", "i", elsewhere))) == "", "another port: connections only"
