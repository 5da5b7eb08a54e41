"""Settings of a worker: defaults, bad values, and which config files count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moorings_server.settings import SettingsError, read


def test_relative_paths_start_at_the_app_root(tmp_path: Path) -> None:
    found = read(
        {
            "AML_APP_ROOT": "app",
            "AZUREML_ENTRY_SCRIPT": "onlinescoring/score.py",
            "AZUREML_SOURCE_DIRECTORY": "lib",
        },
        str(tmp_path),
    )
    assert found.entry_script == str(tmp_path / "app/onlinescoring/score.py")
    assert found.source_directory == str(tmp_path / "app/lib")
    assert found.script_folder == str(tmp_path / "app/onlinescoring")


def test_without_a_name_the_script_is_main(tmp_path: Path) -> None:
    assert read({}, str(tmp_path)).entry_script == str(tmp_path / "main.py")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MOORINGS_MAX_CONCURRENT", "0"),
        ("MOORINGS_MAX_CONCURRENT", "many"),
        ("MOORINGS_DRAIN_S", "-1"),
        ("MOORINGS_DRAIN_S", "inf"),
        ("MOORINGS_DRAIN_S", "nan"),
        ("SCORING_TIMEOUT_MS", "0"),
        ("SCORING_TIMEOUT_MS", "1.5"),
        ("MOORINGS_SERVER_PARSER", "fast"),
        ("MOORINGS_SOCKET", "/tmp/" + "x" * 200),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read({name: value}, str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[1]", '{"model_type": "bert"}', '"text"'])
def test_a_foreign_config_json_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert read({}, str(tmp_path)).exports == ()


def test_a_config_json_of_ours_counts_below_the_environment(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"SCORING_TIMEOUT_MS": 7, "SERVICE_NAME": "file", "AZUREML_MODEL_DIR": "m"})
    )
    found = read({"SERVICE_NAME": "environment"}, str(tmp_path))
    assert (found.scoring_timeout_ms, found.service_name) == (7, "environment")
    assert dict(found.exports)["AZUREML_MODEL_DIR"] == "m"
    assert "SERVICE_NAME" not in dict(found.exports)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_named_config_file_must_be_usable(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "mine.json").write_text(content)
    with pytest.raises(SettingsError, match=r"mine\.json"):
        read({"AZUREML_CONFIG_FILE": "mine.json"}, str(tmp_path))
