"""Output as uv printed it (lines wrapped), and what it has to be called."""

from __future__ import annotations

import pytest

from moorings.environments.verdict import evidence, nearest, verdict

FIELDS = {"key": "0123456789abcdef", "path": "/environments", "python": "3.12.1"}

CASES = {
    "EnvironmentUnsatisfiable": [
        """
error: No solution found when resolving dependencies
  cause: Because numba==0.57.0 depends on numpy>=1.21,<1.25 and you require numpy==2.3.1, we can conclude
         that your requirements and numba==0.57.0 are incompatible.
         And because you require numba==0.57.0, we can conclude that your requirements are unsatisfiable.
""",
        """
  × No solution found when resolving dependencies:
  ╰─▶ Because numba==0.57.0 depends on numpy>=1.21,<1.25 and you require
      numpy==2.3.1, we can conclude that your requirements and numba==0.57.0 are incompatible.
""",
    ],
    "PackageNotFound": [
        """
error: No solution found when resolving dependencies
  cause: Because scikit-lern was not found in the package registry and you require scikit-lern==1.0, we can
         conclude that your requirements are unsatisfiable.
""",
        "error: Distribution not found at: file:///nope/foo-1.0-py3-none-any.whl",
        """
error: Failed to download `foo @ https://host/foo-1.0-py3-none-any.whl`
  cause: HTTP status client error (404 Not Found) for url (https://host/foo-1.0-py3-none-any.whl)
""",
    ],
    "PackageVersionNotFound": [
        """
error: No solution found when resolving dependencies
  cause: Because there is no version of six==99.1 and you require six==99.1, we can conclude that your
         requirements are unsatisfiable.
""",
        """
error: No solution found when resolving dependencies
  cause: Because only six<=1.17.0 is available and you require six>=99, we can conclude that your
         requirements are unsatisfiable.
""",
    ],
    "NoWheelForPython": [
        """
error: No solution found when resolving dependencies
  cause: Because tensorflow==2.5.0 has no wheels with a matching Python ABI tag (e.g., `cp312`) and you
         require tensorflow==2.5.0, we can conclude that your requirements are unsatisfiable.

hint: You require CPython 3.12 (`cp312`), but we only found wheels for `tensorflow` (v2.5.0) with the
following Python ABI tags: `cp36m`, `cp37m`, `cp38`, `cp39`
""",
        """
error: No solution found when resolving dependencies
  cause: Because the current Python version (3.8.18) does not satisfy Python>=3.11 and
         scipy==1.16.0 depends on Python>=3.11, we can conclude that scipy==1.16.0 cannot be used.
         And because you require scipy==1.16.0, we can conclude that your requirements are unsatisfiable.
""",
    ],
    "PackageBuildFailed": [
        """
   Building mysqlclient==2.2.0
error: Failed to build `mysqlclient==2.2.0`
  cause: The build backend returned an error
  cause: Call to `setuptools.build_meta.get_requires_for_build_wheel` failed (exit status: 1)
         Exception: Can not find valid pkg-config name.
""",
        """
error: Failed to download and build `httptools==0.0.1`
  cause: The build backend returned an error
""",
    ],
    "IndexUnreachable": [
        """
error: Request failed after 3 retries in 4.3s
  cause: Failed to fetch: http://127.0.0.1:9/simple/six/
  cause: error sending request for url (http://127.0.0.1:9/simple/six/)
  cause: Connection refused (os error 111)
""",
        """
error: No solution found when resolving dependencies
  cause: Because zstandard was not found in the cache and you require zstandard==0.19.0, we can conclude that
         your requirements are unsatisfiable.

hint: Packages were unavailable because the network was disabled. When the network is disabled, registry
packages may only be read from the cache.
""",
    ],
    "EnvironmentDiskFull": [
        """
error: Failed to download and build `httptools==0.0.1`
  cause: Failed to extract archive: setuptools-84.2.1-py3-none-any.whl
  cause: failed to write to file `/cache/x`: No space left on device (os error 28)
""",
    ],
    "EnvironmentBuildFailed": [
        "error: Something that nobody has seen before",
        "",
    ],
}


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in CASES.items() for text in texts])
def test_verdicts(code: str, text: str) -> None:
    failure = verdict(text.splitlines(), fields=FIELDS)
    assert failure.code == code
    assert "<" not in failure.fix.replace("<file>", "").replace("<url>", "")
    for line in failure.evidence:
        assert line.startswith("...") or line in text


def test_the_message_names_package_and_python() -> None:
    failure = verdict(CASES["NoWheelForPython"][1].splitlines(), fields=FIELDS)
    assert (failure.target, failure.message.startswith("scipy,")) == ("scipy", True)
    failure = verdict(CASES["PackageBuildFailed"][0].splitlines(), fields=FIELDS)
    assert failure.target == "mysqlclient"
    assert "mysqlclient==2.2.0" in failure.message and "3.12.1" in failure.message
    assert FIELDS["key"] in failure.fix
    failure = verdict(CASES["IndexUnreachable"][0].splitlines(), fields=FIELDS)
    assert "Connection refused" in failure.message


def test_a_mistyped_name_gets_a_suggestion() -> None:
    failure = verdict(CASES["PackageNotFound"][0].splitlines(), fields=FIELDS)
    assert failure.message.endswith("did you mean scikit-learn?")
    assert nearest("Matplotlip") == "matplotlib"
    assert nearest("my-own-package-of-nothing") is None


def test_a_contradiction_with_the_inference_server_says_so() -> None:
    text = """
error: No solution found when resolving dependencies
  cause: Because moorings-server==0.1.0 depends on uvloop and you require uvloop<0, we can conclude that your
         requirements are unsatisfiable.
"""
    failure = verdict(text.splitlines(), fields=FIELDS)
    assert failure.code == "EnvironmentUnsatisfiable"
    assert "moorings-server, which every environment gets" in failure.message


def test_long_output_keeps_its_head_and_its_tail() -> None:
    lines = [
        "Resolved 1 package",
        "error: Failed to build `x==1`",
        *(f"line {n}" for n in range(500)),
        "fatal: end",
    ]
    kept = evidence(lines)
    assert kept[0].startswith("error:")
    assert kept[-1] == "fatal: end"
    assert len(kept) < 30
