"""init() and run(): what the server would refuse is found in the text, and what it takes is left alone."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.preflight.entry import entry_findings
from moorings.preflight.findings import Finding, Severity
from moorings.preflight.source import Source, parse


def source_of(text: str) -> Source:
    parsed = parse(text.encode(), "score.py", again="moor check -f d.yml")
    assert isinstance(parsed, Source)
    return parsed


def found(text: str, **given_: Any) -> list[Finding]:
    return entry_findings(source_of(text), again="moor check -f d.yml", **given_)


GOOD = {
    "plain": "def init(): pass\ndef run(data): return data\n",
    "async": "async def init(): pass\nasync def run(data): return data\n",
    "generator": "def init(): pass\ndef run(data):\n    yield data\n",
    "async generator": "def init(): pass\nasync def run(data):\n    yield data\n",
    "headers": "def init(): pass\ndef run(data, request_headers): return data\n",
    "keyword-only": "def init(): pass\ndef run(*, data): return data\n",
    "defaults": "def init(level=3): pass\ndef run(data, x=1): return data\n",
    "batch": "from moorings_server import batch\ndef init(): pass\n@batch(max_size=4)\ndef run(data): return data\n",
    "rawhttp": (
        "from azureml.contrib.services.aml_request import rawhttp\n"
        "def init(): pass\n@rawhttp\ndef run(request): return request\n"
    ),
    "rawhttp and routes": (
        "from moorings_server import rawhttp, routes\n"
        "def init(): pass\n@rawhttp\n@routes('/v2')\ndef run(request): return request\n"
    ),
    "schema": (
        "from inference_schema.schema_decorators import input_schema, output_schema\n"
        "def init(): pass\n@input_schema('a', 1)\n@input_schema('b', 2)\n@output_schema(3)\n"
        "def run(a, b): return a\n"
    ),
    "imported": "from model_code import init, run\n",
    "star": "from model_code import *\n",
    "assigned": "class Model:\n    def run(self, data): ...\n    def init(self): ...\nm = Model()\ninit, run = m.init, m.run\n",
    "driver": "import driver_module\ndef init(): pass\n",
    "under a condition": "import os\nif os.name:\n    def init(): pass\nelse:\n    def init(): pass\ndef run(data): pass\n",
    "in a try": "try:\n    from fast import run\nexcept ImportError:\n    def run(data): pass\ndef init(): pass\n",
    "foreign decorator": "import functools\nfrom x import wrap\ndef init(): pass\n@wrap\ndef run(*args): pass\n",
    "globals": "globals()['init'] = globals()['run'] = lambda data=None: data\n",
    "lambda": "init = lambda: None\nrun = lambda data: data\n",
    "walrus": "(init := lambda: None)\n(run := lambda data: data)\n",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_script_that_the_server_takes_has_no_findings(text: str) -> None:
    assert found(text) == []


BAD = {
    "no run": ("def init(): pass\n", "UserScriptFunctionNotFound", "no function run()"),
    "neither": ("x = 1\n", "UserScriptFunctionNotFound", "init() and no function run()"),
    "inside a class": (
        "class A:\n    def run(self, data): ...\ndef init(): pass\n",
        "UserScriptFunctionNotFound",
        "run()",
    ),
    "deleted by name": ("def innit(): pass\ndef run(data): pass\n", "UserScriptFunctionNotFound", "init()"),
    "args": ("def init(): pass\ndef run(*args): pass\n", "UserScriptBadSignature", "*args"),
    "kwargs": ("def init(): pass\ndef run(data, **more): pass\n", "UserScriptBadSignature", "**kwargs"),
    "positional-only": (
        "def init(): pass\ndef run(data, /): pass\n",
        "UserScriptBadSignature",
        "positional-only",
    ),
    "nothing": ("def init(): pass\ndef run(): pass\n", "UserScriptBadSignature", "at least one parameter"),
    "headers alone": (
        "def init(): pass\ndef run(request_headers): pass\n",
        "UserScriptBadSignature",
        "at least",
    ),
    "init takes": (
        "def init(self): pass\ndef run(data): pass\n",
        "UserScriptBadSignature",
        "a value for self",
    ),
    "raw and schema": (
        "def init(): pass\n@rawhttp\n@input_schema('a', 1)\ndef run(a): pass\n",
        "UserScriptBadSignature",
        "both",
    ),
    "routes alone": (
        "def init(): pass\n@routes('/v2')\ndef run(a): pass\n",
        "UserScriptBadSignature",
        "not @rawhttp",
    ),
    "batch generator": (
        "def init(): pass\n@batch\ndef run(data):\n    yield data\n",
        "UserScriptBadSignature",
        "yields",
    ),
}


@pytest.mark.parametrize(("text", "code", "words"), BAD.values(), ids=BAD)
def test_what_the_server_would_refuse(text: str, code: str, words: str) -> None:
    (one,) = found(text)
    assert (one.severity, one.failure.code) == (Severity.ERROR, code)
    assert words in one.failure.message
    assert one.place is not None and one.place.line is not None
    assert one.failure.fix.endswith("then: moor check -f d.yml")


def test_the_setting_asks_for_batches_as_the_decorator_does() -> None:
    text = "def init(): pass\n@rawhttp\ndef run(data): pass\n"
    assert found(text) == []
    (one,) = found(text, batch_setting=True)
    assert "has @rawhttp and cannot take batches" in one.failure.message


PARAMETER = st.sampled_from(
    [
        "data",
        "request_headers",
        "x",
        "x=1",
        "/",
        "*",
        "*rest",
        "**more",
        "request_headers=None",
        "*, only",
        "y: int",
    ]
)


@given(st.lists(PARAMETER, max_size=4), st.booleans())
def test_it_agrees_with_the_server_about_every_signature(parameters: list[str], is_async: bool) -> None:
    from moorings_server.report import BootFailure
    from moorings_server.script import inspect_module
    from moorings_server.settings import Settings

    text = f"def init(): pass\n{'async ' if is_async else ''}def run({', '.join(parameters)}): pass\n"
    module = ModuleType("entry_script")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(text, "score.py", "exec"), module.__dict__)
    except SyntaxError:
        return
    settings = Settings.from_environment({}) if hasattr(Settings, "from_environment") else None
    refused = False
    try:
        inspect_module(module, "score.py", settings or _settings())
    except BootFailure:
        refused = True
    assert bool([one for one in found(text) if one.severity is Severity.ERROR]) is refused


def _settings() -> Any:
    class Plain:
        batch_max_size = None
        batch_max_wait_s = None

    return Plain()
