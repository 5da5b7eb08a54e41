from __future__ import annotations

from typing import Any

import pytest

from moorings.containers.reading import (
    BuildReader,
    pull_failure,
    push_failure,
    registry_of,
    split_tag,
)


@pytest.mark.parametrize(
    ("image", "registry", "split"),
    [
        ("python", "docker.io", ("python", "latest")),
        ("python:3.12-slim", "docker.io", ("python", "3.12-slim")),
        ("team/image", "docker.io", ("team/image", "latest")),
        ("host:5000/team/image", "host:5000", ("host:5000/team/image", "latest")),
        ("host:5000/image:7", "host:5000", ("host:5000/image", "7")),
        ("localhost/image:7", "localhost", ("localhost/image", "7")),
        ("mcr.microsoft.com/a/b@sha256:00ff", "mcr.microsoft.com", ("mcr.microsoft.com/a/b", "sha256:00ff")),
    ],
)
def test_the_parts_of_an_image_name(image: str, registry: str, split: tuple[str, str]) -> None:
    assert registry_of(image) == registry
    assert split_tag(image) == split


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("manifest for host/a:1 not found: manifest unknown: manifest unknown", "ImageNotFound"),
        (
            "pull access denied for a, repository does not exist or may require 'docker login'",
            "ImageNotFound",
        ),
        ("No such image: sha256:00", "ImageNotFound"),
        ('Head "https://host/v2/a/manifests/1": unauthorized: authentication required', "ImagePullDenied"),
        ("Get https://host/v2/a/manifests/1: no basic auth credentials", "ImagePullDenied"),
        ("denied: requested access to the resource is denied", "ImagePullDenied"),
        (
            'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
            "RegistryUnreachable",
        ),
        ("dial tcp: lookup nowhere.example: no such host", "RegistryUnreachable"),
        (
            "net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
            "RegistryUnreachable",
        ),
        ("x509: certificate signed by unknown authority", "RegistryUnreachable"),
        ("write /data/x: no space left on device", "DockerDiskFull"),
        ("something nobody has seen", "RegistryUnreachable"),
    ],
)
def test_why_a_pull_failed(said: str, code: str) -> None:
    failed = pull_failure("host.example/a:1", said)
    assert failed.code == code
    assert said[:60] in failed.evidence[0]


def test_why_a_push_failed() -> None:
    assert push_failure("h.example/a:1", "denied: no").code == "ImagePushDenied"
    assert push_failure("h.example/a:1", "dial tcp: connection refused").code == "RegistryUnreachable"


def read(*messages: dict[str, Any]) -> BuildReader:
    reader = BuildReader()
    for message in messages:
        reader.feed(message)
    return reader


def test_a_build_that_succeeds_names_its_image() -> None:
    reader = read(
        {"stream": "Step 1/1 : FROM a\n"}, {"aux": {"ID": "sha256:12"}}, {"stream": "Successfully built 12\n"}
    )
    assert reader.image_id == "sha256:12"
    assert reader.problem is None


def test_the_step_that_failed_and_what_it_said() -> None:
    reader = read(
        {"stream": "Step 1/3 : FROM a\n"},
        {"stream": "Step 2/3 : RUN make\n"},
        *({"stream": f"line {n}\n"} for n in range(100)),
        {"errorDetail": {"code": 2, "message": "The command '/bin/sh -c make' returned 2"}, "error": "x"},
    )
    failed = reader.failure(key="k", dockerfile="docker/File")
    assert failed.code == "ImageBuildFailure"
    assert "docker/File failed at step 2 of 3 (RUN make)" in failed.message
    assert failed.target == "docker/File, step 2"
    assert failed.evidence[0] == "Step 2/3 : RUN make"
    assert failed.evidence[-1] == "The command '/bin/sh -c make' returned 2"
    assert len(failed.evidence) <= 24
    assert any("more lines" in line for line in failed.evidence)


def test_a_base_that_is_missing_is_no_fault_of_a_step() -> None:
    reader = read(
        {"stream": "Step 1/2 : FROM --platform=linux/amd64 h.example/a:1 AS base\n"},
        {"error": "manifest for h.example/a:1 not found"},
    )
    failed = reader.failure(key="k", dockerfile="Dockerfile")
    assert (failed.code, failed.target) == ("ImageNotFound", "Dockerfile, step 1")
    assert "h.example/a:1" in failed.message


def test_a_full_disk_is_seen_in_what_a_step_said() -> None:
    reader = read(
        {"stream": "Step 2/2 : RUN dd\n"},
        {"stream": ": No space left on device\n"},
        *({"stream": f"line {n}\n"} for n in range(10)),
        {"error": "returned a non-zero code: 1"},
    )
    assert reader.failure(key="k", dockerfile="Dockerfile").code == "DockerDiskFull"


def test_a_build_without_a_word() -> None:
    assert read().failure(key="k", dockerfile="Dockerfile").code == "ImageBuildFailure"


@pytest.mark.parametrize(
    "image", ["host.example/team/geofence:eof", "host.example/x509:1", "host.example/denied:503"]
)
def test_what_an_image_is_called_says_nothing_of_why_it_cannot_be_had(image: str) -> None:
    name = image.rpartition(":")[0].partition("/")[2]
    refused = f'Head "https://host.example/v2/{name}/manifests/1": unauthorized: authentication required'
    assert pull_failure(image, refused).code == "ImagePullDenied"
    absent = f"manifest for {image} not found: manifest unknown: manifest unknown"
    assert pull_failure(image, absent).code == "ImageNotFound"
