"""References to assets, to values and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.spec.references import (
    AssetRef,
    arm_id,
    format_reference,
    is_local_path,
    is_reference,
    parse_reference,
)

WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
NAME = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9\-_.]{0,20}", fullmatch=True)
KIND = st.sampled_from(["models", "environments", "codes"])
TAIL = st.one_of(
    st.just({}), NAME.map(lambda version: {"version": version}), NAME.map(lambda label: {"label": label})
)


@given(NAME, TAIL)
def test_the_short_form_survives(name: str, tail: dict[str, str]) -> None:
    ref = AssetRef(None, name, **tail)
    assert parse_reference(format_reference(ref)) == ref


@given(KIND, NAME, TAIL)
def test_ids_survive_in_any_case(kind: str, name: str, tail: dict[str, str]) -> None:
    ref = AssetRef(kind, name, **tail)
    text = arm_id(ref, WORKSPACE)
    assert text.startswith(WORKSPACE + "/")
    assert parse_reference(text) == ref
    assert parse_reference(text.replace("resourceGroups", "resourcegroups")) == ref
    assert parse_reference(f"azureml:{text}") == ref


@given(NAME, KIND, NAME, TAIL)
def test_registry_addresses_survive(registry: str, kind: str, name: str, tail: dict[str, str]) -> None:
    ref = AssetRef(kind, name, registry=registry, **tail)
    assert parse_reference(format_reference(ref)) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m:1",
        "azureml:",
        "azureml:m:",
        "azureml:m:1:2",
        "azureml:m@",
        "azureml:m:1@latest",
        "azureml: m:1",
        "azureml:m:1\n",
        "azureml://datastores/d/paths/p",
        "azureml://registries/r/models/m/versions/",
        f"{WORKSPACE}/models/m/versions",
        f"{WORKSPACE}/endpoints/m/versions/1",
        f"{WORKSPACE}/models/m/versions/1/more",
    ],
)
def test_texts_that_are_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match="not a reference"):
        parse_reference(text)


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        ref = parse_reference(text)
    except ValueError:
        return
    assert is_reference(text)
    assert not is_local_path(text)
    assert ref.name


@pytest.mark.parametrize("text", ["model", "./model", "/abs/model", "../m", "a:b", "~/m", "C:x"])
def test_local_paths(text: str) -> None:
    assert is_local_path(text)


@pytest.mark.parametrize(
    "text", ["https://h/p", "azureml://jobs/j/outputs/o/paths/p", "runs:/r/p", "azureml:m", WORKSPACE]
)
def test_what_is_not_local(text: str) -> None:
    assert not is_local_path(text)


def test_no_id_without_a_kind() -> None:
    with pytest.raises(ValueError, match="no id"):
        arm_id(AssetRef(None, "m", "1"), WORKSPACE)
    with pytest.raises(ValueError, match="not both"):
        AssetRef(None, "m", "1", "latest")
