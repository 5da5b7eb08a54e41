from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from moorings.environments import conda_names
from moorings.environments.conda import (
    UntranslatableError,
    known_channel,
    parse_match_spec,
    pip_requirement,
    specifiers_of,
    translate,
    variables_of,
)


def requirements(*entries: object) -> list[str]:
    found = translate({"dependencies": list(entries)})
    assert found.problems == []
    return [str(requirement) for requirement in found.requirements]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("numpy", "numpy"),
        ("numpy=2.3.1", "numpy==2.3.1.*"),
        ("numpy=2", "numpy==2.*"),
        ("scikit-learn=1.2.*", "scikit-learn==1.2.*"),
        ("scikit-learn 1.2.*", "scikit-learn==1.2.*"),
        ("numpy=1.2*", "numpy==1.2.*"),
        ("numpy=*", "numpy"),
        ("numpy==2.3.1", "numpy==2.3.1"),
        ("numpy 2.3.1", "numpy==2.3.1"),
        ("numpy>=1.2,<2", "numpy<2,>=1.2"),
        ("numpy >= 1.2, < 2", "numpy<2,>=1.2"),
        ("numpy>=1.2.*", "numpy>=1.2"),
        ("numpy!=1.24.*", "numpy!=1.24.*"),
        ("numpy~=1.24", "numpy~=1.24"),
        ("pkg==1.0=py38_0", "pkg==1.0"),
        ("pkg=1.0=py38_0", "pkg==1.0"),
        ("pkg 1.0 py38_0", "pkg==1.0"),
        ("pkg=1.0rc1", "pkg==1.0rc1"),
        ("conda-forge::pkg=1.0", "pkg==1.0.*"),
        ("conda-forge/linux-64::pkg", "pkg"),
        ("pkg[version='>=1,<2']", "pkg<2,>=1"),
        ('conda-forge::pkg[version="1.0.*",build=py38_0]', "pkg==1.0.*"),
        ("certifi=2020.06.20", "certifi==2020.06.20.*"),
        ("pkg=1.0 # a remark", "pkg==1.0.*"),
        ("typing_extensions=4", "typing-extensions==4.*"),
    ],
)
def test_match_specs(entry: str, expected: str) -> None:
    assert requirements(entry) == [expected]


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("pytorch=2.1", "torch"),
        ("py-xgboost", "xgboost"),
        ("opencv", "opencv-python-headless"),
        ("msgpack-python", "msgpack"),
        ("tensorflow-gpu", "tensorflow"),
        ("matplotlib-base", "matplotlib"),
        ("lightgbm", "lightgbm"),
        ("pillow", "pillow"),
        ("pyyaml", "pyyaml"),
        ("python-graphviz", "graphviz"),
        ("ruamel_yaml", "ruamel.yaml"),
    ],
)
def test_names_of_conda(entry: str, name: str) -> None:
    assert [Requirement(one).name for one in requirements(entry)] == [name]


def test_native_packages_are_left_out_with_a_note_that_names_them() -> None:
    entries = ["_libgcc_mutex=0.1=main", "openssl=1.1.1k=h7f8727e_0", "cudatoolkit=11.3", "tzdata=2021a"]
    found = translate({"dependencies": entries})
    assert (found.requirements, found.problems) == ([], [])
    assert [note.split()[1] for note in found.notes] == [
        "(_libgcc_mutex)",
        "(openssl)",
        "(cudatoolkit)",
        "(tzdata)",
    ]


def test_python_pip_and_setuptools() -> None:
    found = translate({"dependencies": ["python=3.12", "pip", "setuptools", "pip=25.1.1", "python>=3.8"]})
    assert found.python == ["==3.12.*", ">=3.8"]
    assert [str(one) for one in found.requirements] == ["setuptools", "pip==25.1.1.*"]


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("r-base", "language R"),
        ("openjdk=11", "no Python package"),
        ("bioconda::pkg", "channel bioconda"),
        ("numpy=1.21|1.22", "alternatives"),
        ("pkg=1.1.1k", "not a version"),
        ("=1.0", "not a match spec"),
        ("num?py", "not a match spec"),
    ],
)
def test_what_cannot_be_translated_is_named_with_its_place(entry: str, word: str) -> None:
    found = translate({"dependencies": ["numpy", entry]})
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"dependencies[1] ({entry})")
    assert word in found.problems[0]


@pytest.mark.parametrize(
    ("channel", "known"),
    [
        ("conda-forge", True),
        ("defaults", True),
        ("pkgs/main", True),
        ("https://conda.anaconda.org/conda-forge", True),
        ("https://conda.anaconda.org/conda-forge/linux-64", True),
        ("conda-forge/label/cf202003", True),
        ("bioconda", False),
        ("https://example.com/own", False),
    ],
)
def test_channels(channel: str, known: bool) -> None:
    assert known_channel(channel) is known


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("inference-schema[numpy-support]", "inference-schema[numpy-support]"),
        ("scikit-learn==1.2.2 ; python_version < '3.13'", 'scikit-learn==1.2.2; python_version < "3.13"'),
        ("pkg @ https://host/pkg-1.0-py3-none-any.whl", "pkg@ https://host/pkg-1.0-py3-none-any.whl"),
        ("https://host/pkg-1.0-py3-none-any.whl", "pkg@ https://host/pkg-1.0-py3-none-any.whl"),
        ("git+https://host/own/repo@v1#egg=pkg", "pkg@ git+https://host/own/repo@v1"),
    ],
)
def test_pip_lines(line: str, expected: str) -> None:
    assert Requirement(str(pip_requirement(line))) == Requirement(expected)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("-r requirements.txt", "do not travel"),
        ("--extra-index-url https://host/simple", "UV_INDEX"),
        ("-i https://host/simple", "UV_INDEX"),
        ("-f https://host/", "UV_FIND_LINKS"),
        ("-e .", "code folder"),
        ("./wheels/pkg-1.0-py3-none-any.whl", "code folder"),
        ("wheels/pkg-1.0-py3-none-any.whl", "code folder"),
        ("pkg==1.0 --hash=sha256:00", "options"),
        ("pkg=1.0", "two equals signs"),
        ("git+https://host/own/repo", "name in front"),
        ("two words", "not a valid requirement"),
    ],
)
def test_pip_lines_that_are_no_requirement_say_what_to_do(line: str, word: str) -> None:
    with pytest.raises(UntranslatableError, match=word):
        pip_requirement(line)


def test_comments_and_empty_pip_lines_are_nothing() -> None:
    assert requirements({"pip": ["# remark", "", "six # why"]}, {"pip": None}) == ["six"]


@pytest.mark.parametrize(
    "conda",
    [
        {"dependencies": "numpy"},
        {"dependencies": [3]},
        {"dependencies": [{"npm": ["x"]}]},
        {"dependencies": [{"pip": "six"}]},
        {"dependencies": [{"pip": [1]}]},
        {"channels": "conda-forge", "dependencies": []},
        {"channels": [None], "dependencies": []},
    ],
)
def test_wrong_shapes_are_problems_and_no_exceptions(conda: dict[str, object]) -> None:
    assert len(translate(conda).problems) == 1


def test_unknown_keys_are_noted() -> None:
    found = translate({"dependencies": [], "variables": {"A": "1"}, "flavour": 1})
    assert "flavour" in " ".join(found.notes) and found.problems == []


def test_variables_are_texts_with_names() -> None:
    found, problems = variables_of(
        {"variables": {"A": "x", "B_2": 3, "1C": "y", "D": [1], "E": True, "F": "\0"}}
    )
    assert found == {"A": "x", "B_2": "3"}
    assert [one.split(":")[0] for one in problems] == [
        "variables ('1C')",
        "variables.D ([1])",
        "variables.E (True)",
        "variables.F",
    ]
    assert variables_of({"variables": ["A=1"]})[1] == ["variables: expected a mapping of names to texts"]
    assert variables_of({}) == ({}, [])
    assert translate({"dependencies": [], "variables": 3}).problems


@pytest.mark.parametrize("entry", ["_", "__", "git+https://example.org/x#egg=_"])
def test_a_name_of_nothing_is_a_problem_with_its_place(entry: str) -> None:
    found = translate({"dependencies": [entry, {"pip": [entry]}]})
    assert found.requirements == []
    assert len(found.problems) == 2


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    found = translate({"channels": [text], "dependencies": [text, {"pip": [text]}]})
    for requirement in found.requirements:
        Requirement(str(requirement))


versions = st.lists(st.integers(0, 30), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))


@given(versions, versions)
def test_a_prefix_pin_admits_exactly_the_versions_below_it(pin: str, version: str) -> None:
    specifiers = SpecifierSet(specifiers_of(parse_match_spec(f"pkg={pin}").version))
    wanted, given_parts = pin.split("."), (version + ".0.0.0").split(".")
    assert specifiers.contains(version) is (given_parts[: len(wanted)] == wanted)


def test_the_tables_have_canonical_names_and_do_not_overlap() -> None:
    tables = [conda_names.RENAMED, conda_names.DROPPED, conda_names.REFUSED]
    for table in tables:
        assert [name for name in table if name != canonicalize_name(name)] == []
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    for target in conda_names.RENAMED.values():
        Requirement(target)
