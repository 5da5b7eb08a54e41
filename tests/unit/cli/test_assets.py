"""`moor model`, `environment`, `code` and `data` against the real routes, in this process and without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from moorings.api import asset_routes, errors
from moorings.api.assets import Assets
from moorings.assets.store import AssetStore
from moorings.cli.main import run
from moorings.cli.session import Session
from moorings.client.transport import Answer
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.settings import WorkspaceName
from moorings.state.database import Database

WS = WorkspaceName().path


class AppTransport:
    """The transport protocol, straight into the app."""

    def __init__(self, app: Any, clock: ManualClock) -> None:
        self.app, self.clock = app, clock
        self.runner = asyncio.Runner()

    def request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            inside = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=inside, base_url="http://moorings") as client:
                return await client.request(method, path, json=body)

        return self.runner.run(ask())

    def send(self, method: str, path: str, *, body: Any = None, timeout_s: float | None = 60.0) -> Answer:
        self.clock.advance(1)
        answer = self.request(method, path, body)
        return Answer(answer.status_code, dict(answer.headers), answer.content, answer.reason_phrase)

    def fetch(self, path: str, write: Callable[[bytes], None]) -> Answer:
        answer = self.request("GET", path)
        if answer.status_code < 400:
            write(answer.content)
        return Answer(answer.status_code, dict(answer.headers), answer.content)


@dataclass
class Shell:
    transport: AppTransport
    folder: Path
    capture: Any

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        session = Session(environ={"MOORINGS_HOME": str(self.folder / "home")}, transport=self.transport)
        code = run(argv, session)
        shown = self.capture()
        return code, shown.out, shown.err

    def json(self, *argv: str) -> Any:
        code, out, err = self(*argv)
        assert code == 0, err
        return json.loads(out) if out else None

    def fails(self, code: str, *argv: str) -> str:
        status, out, err = self(*argv)
        assert status == 1, (status, out, err)
        assert f"({code}" in err, err
        assert "Fix:" in err
        return err

    def lying(self) -> Lying:
        lying = Lying(self.transport.app, self.transport.clock)
        lying.runner.close()
        lying.runner = self.transport.runner
        return lying

    def model(self, text: str = "weights", **more: str) -> dict[str, Any]:
        path = self.folder / "m.bin"
        path.write_text(text)
        flags = [word for key, value in more.items() for word in (f"--{key}", value)]
        made: dict[str, Any] = self.json("model", "create", "-n", "m", "--path", str(path), *flags)
        return made


@pytest.fixture
def moor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    clock = ManualClock()
    database = Database.at(tmp_path / "home" / "state.db", clock)
    database.open()
    store = AssetStore(tmp_path / "home" / "assets", home=tmp_path / "home")
    app = FastAPI()
    errors.install(app)
    app.include_router(asset_routes.router(Assets(database, store), WS), prefix=WS)
    transport = AppTransport(app, clock)
    try:
        yield Shell(transport, tmp_path, capsys.readouterr)
    finally:
        transport.runner.close()
        database.close()


def test_a_model_from_flags(moor: Shell) -> None:
    made = moor.model(type="custom_model", description="first", stage="Staging")
    assert (made["name"], made["version"], made["type"], made["stage"]) == (
        "m",
        "1",
        "custom_model",
        "Staging",
    )
    assert made["content"]["size_bytes"] == 7
    assert made["path"].endswith(f"/paths/moorings/{made['content']['digest']}/m.bin")
    assert moor.model("other")["version"] == "2"
    assert moor.model("other")["version"] == "2", "the same content again is the same version"
    assert moor.json("model", "show", "-n", "m")["version"] == "2"
    assert moor.json("model", "show", "-n", "m", "-v", "1") == made
    assert moor.json("model", "show", "-n", "m", "--label", "latest")["version"] == "2"


def test_a_model_from_a_file_and_flags_that_beat_it(moor: Shell) -> None:
    folder = moor.folder / "project"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "MLmodel").write_text("flavors: {}\n")
    (folder / "model.yml").write_text(
        "$schema: x\nname: iris\nversion: 3\npath: ./model\ntype: mlflow_model\ntags:\n  a: b\n"
    )
    made = moor.json(
        "model", "create", "-f", "project/model.yml", "--tags", "c=d", "--set", "description=why"
    )
    assert (made["name"], made["version"], made["type"]) == ("iris", "3", "mlflow_model")
    assert (made["tags"], made["description"]) == ({"a": "b", "c": "d"}, "why")
    (moor.folder / "here.txt").write_text("a path of a flag starts at the current folder")
    made = moor.json(
        "model", "create", "-f", "project/model.yml", "-v", "4", "-p", "here.txt", "-t", "triton_model"
    )
    assert (made["version"], made["type"], made["content"]["files"]) == ("4", "triton_model", 1)


def test_what_show_prints_can_be_created_again(moor: Shell) -> None:
    made = moor.model(description="x")
    (moor.folder / "again.yml").write_text(json.dumps(made))
    again = moor.json("model", "create", "-f", "again.yml", "-n", "copy")
    assert (again["name"], again["content"]["digest"]) == ("copy", made["content"]["digest"])


def test_all_problems_of_a_model_file_at_once(moor: Shell) -> None:
    (moor.folder / "model.yml").write_text("name: 'a b'\nversion: [1]\ntype: onnx\npath: ./none\nmode: 1\n")
    err = moor.fails("SpecInvalid", "model", "create", "-f", "model.yml")
    for key in ("name", "version", "type", "path", "mode"):
        assert f" {key}" in err
    err = moor.fails("NameMissing", "model", "create", "--path", "x")
    assert "Fix: Give it with --name" in err
    assert "endpoint" not in err, "models have no default name"
    assert "`path` is required" in moor.fails("SpecInvalid", "model", "create", "-n", "m")


def test_the_command_to_type_again_says_that_flags_are_left_out(moor: Shell) -> None:
    err = moor.fails("SpecInvalid", "model", "create", "-n", "a b", "-v", "1", "-p", "./none")
    assert "moor model create -n 'a b' ..." in err


def test_content_of_a_version_never_changes(moor: Shell) -> None:
    moor.model("one", version="1")
    (moor.folder / "m.bin").write_text("two")
    err = moor.fails("AssetVersionImmutable", "model", "create", "-n", "m", "-v", "1", "-p", "m.bin")
    assert "moor model list -n m --include-archived" in err
    err = moor.fails("AssetNotFound", "model", "show", "-n", "m", "-v", "2")
    assert "moor model list -n m --include-archived -o table" in err
    assert "moor model list -o table" in moor.fails("AssetNotFound", "model", "show", "-n", "none")


def test_words_of_a_version_are_updated(moor: Shell) -> None:
    moor.model("one", tags="a=b", description="x")
    changed = moor.json(
        "model",
        "update",
        "-n",
        "m",
        "-v",
        "1",
        "--set",
        "tags.c=d",
        "--remove",
        "tags.a",
        "--stage",
        "Production",
    )
    assert (changed["tags"], changed["stage"], changed["description"]) == ({"c": "d"}, "Production", "x")
    cleared = moor.json("model", "update", "-n", "m", "-l", "latest", "--remove", "tags.c", "description")
    assert (cleared["tags"], cleared["description"]) == ({}, "")
    err = moor.fails(
        "SpecInvalid", "model", "update", "-n", "m", "-v", "1", "--set", "path=./x", "type=triton_model"
    )
    assert "`path` is part of" in err and "`type` is part of" in err and "ImmutableProperty" in err
    moor.fails("NothingToUpdate", "model", "update", "-n", "m", "-v", "1")
    named = moor.json("model", "update", "-n", "m", "--set", "description=all of them", "tags.x=y")
    assert (named["description"], named["tags"], named["latest_version"]) == ("all of them", {"x": "y"}, "1")
    assert moor.json("model", "show", "-n", "m")["tags"] == {}


def test_archive_and_restore(moor: Shell) -> None:
    for text in ("one", "two", "three"):
        moor.model(text)

    def versions(*flags: str) -> list[str]:
        return [m["version"] for m in moor.json("model", "list", "-n", "m", *flags)]

    moor.json("model", "archive", "-n", "m", "-v", "3")
    assert versions() == ["2", "1"]
    assert versions("--include-archived") == ["3", "2", "1"]
    assert versions("--archived-only") == ["3"]
    assert versions("--max-results", "1") == ["2"]
    assert moor.json("model", "show", "-n", "m")["version"] == "2"
    moor.json("model", "restore", "-n", "m", "-v", "3")
    moor.json("model", "archive", "-n", "m", "-l", "latest")
    assert versions("--archived-only") == ["3"]

    moor.json("model", "archive", "-n", "m")
    assert moor.json("model", "list") == []
    assert [m["name"] for m in moor.json("model", "list", "--archived-only")] == ["m"]
    assert versions() == []
    assert moor.json("model", "show", "-n", "m", "-v", "1")["version"] == "1"
    err = moor.fails("AssetContainerArchived", "model", "restore", "-n", "m", "-v", "3")
    assert "moor model restore -n m" in err
    moor.json("model", "restore", "-n", "m")
    moor.json("model", "restore", "-n", "m", "-v", "3")
    assert versions() == ["3", "2", "1"]
    for version in ("1", "2", "3"):
        moor.json("model", "archive", "-n", "m", "-v", version)
    assert "every version of model m is archived" in moor.fails("AssetNotFound", "model", "show", "-n", "m")
    moor.fails("AssetNotFound", "model", "archive", "-n", "none")
    moor.fails("FlagsExclusive", "model", "list", "--archived-only", "--include-archived")
    moor.fails("FlagsExclusive", "model", "show", "-n", "m", "-v", "1", "-l", "latest")


def test_list_shows_names_with_their_latest_version(moor: Shell) -> None:
    moor.model("one")
    moor.model("two", stage="Production")
    assert [(m["name"], m["latest_version"]) for m in moor.json("model", "list")] == [("m", "2")]
    assert [m["version"] for m in moor.json("model", "list", "-n", "m", "--stage", "Production")] == ["2"]
    moor.fails("AssetNotFound", "model", "list", "-n", "none")
    _, out, _ = moor("model", "list", "-o", "table")
    assert "Latest version" in out


def test_an_environment_from_flags_and_file(moor: Shell) -> None:
    (moor.folder / "conda.yml").write_text("dependencies:\n- python=3.12\n- pip:\n  - six\n")
    made = moor.json(
        "environment", "create", "-n", "e", "--image", "base:1", "--conda-file", "conda.yml", "--tags", "a=b"
    )
    assert (made["name"], made["version"], made["image"], made["tags"]) == ("e", "1", "base:1", {"a": "b"})
    assert made["conda_file"]["dependencies"][0] == "python=3.12"
    assert moor.json("environment", "show", "-n", "e") == made
    (moor.folder / "env.yml").write_text(
        "name: e\nimage: base:2\ninference_config:\n"
        + "".join(
            f"  {r}_route:\n    path: /{r}\n    port: 8080\n" for r in ("liveness", "readiness", "scoring")
        )
    )
    second = moor.json("environment", "create", "-f", "env.yml", "--os-type", "Linux")
    assert second["version"] == "2"
    assert second["inference_config"]["scoring_route"] == {"path": "/scoring", "port": 8080}
    assert moor.json("environment", "create", "-f", "env.yml")["version"] == "2"
    updated = moor.json("environment", "update", "-n", "e", "-v", "2", "--set", "tags.x=1")
    assert (updated["tags"], updated["version"], updated["image"]) == ({"x": "1"}, "2", "base:2")
    assert (
        "ImmutableProperty" in moor("environment", "update", "-n", "e", "-v", "2", "--set", "image=base:3")[2]
    )
    moor.json("environment", "archive", "-n", "e", "-v", "2")
    assert [e["version"] for e in moor.json("environment", "list", "-n", "e")] == ["1"]
    moor.json("environment", "restore", "-n", "e", "-v", "2")
    assert [e["name"] for e in moor.json("environment", "list")] == ["e"]


def test_an_environment_from_a_build_context(moor: Shell) -> None:
    (moor.folder / "context").mkdir()
    (moor.folder / "context" / "Containerfile").write_text("FROM scratch\n")
    made = moor.json("environment", "create", "-n", "e", "-b", "context", "-d", "Containerfile")
    assert made["build"] == {"path": (moor.folder / "context").as_uri(), "dockerfile_path": "Containerfile"}
    err = moor.fails(
        "SpecInvalid",
        "environment",
        "create",
        "-n",
        "e",
        "-b",
        "context",
        "-i",
        "base:1",
        "-d",
        "Containerfile",
    )
    assert "exclude each other" in err
    (moor.folder / "conda.yml").write_text("dependencies: [python=3.12]\n")
    moor.fails("SpecInvalid", "environment", "create", "-f", "conda.yml", "-n", "e")


def test_a_download_brings_the_files_and_overwrites_nothing(moor: Shell) -> None:
    source = moor.folder / "model"
    (source / "empty").mkdir(parents=True)
    odd = b"\xff \xc3\xa4#%41\n.bin".decode(errors="surrogateescape")
    (source / odd).write_bytes(b"odd")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    moor.json("model", "create", "-n", "m", "-p", "model")
    moor.json("model", "download", "-n", "m", "-v", "1", "-p", "out/deep")
    got = moor.folder / "out" / "deep" / "m" / "model"
    assert (got / odd).read_bytes() == b"odd"
    assert (got / "run.sh").stat().st_mode & 0o100
    assert (got / "empty").is_dir()
    (got / "run.sh").write_text("mine")
    err = moor.fails("DownloadTargetExists", "model", "download", "-n", "m", "-v", "1", "-p", "out/deep")
    assert "mv " in err
    assert (got / "run.sh").read_text() == "mine"
    assert [p.name for p in (moor.folder / "out" / "deep").iterdir()] == ["m"]
    (moor.folder / "elsewhere").mkdir()
    (moor.folder / "link").mkdir()
    (moor.folder / "link" / "m").symlink_to(moor.folder / "elsewhere")
    assert "symbolic link" in moor.fails("DownloadTargetExists", "model", "download", "-n", "m", "-p", "link")
    assert list((moor.folder / "elsewhere").iterdir()) == []


class Lying(AppTransport):
    """A workspace whose list of files says what it likes."""

    files: Any = None
    content: bytes | None = None

    def send(self, method: str, path: str, **more: Any) -> Answer:
        answer = super().send(method, path, **more)
        if self.files is None or "/files?" not in path:
            return answer
        return Answer(200, {}, json.dumps({"files": self.files}).encode())

    def fetch(self, path: str, write: Callable[[bytes], None]) -> Answer:
        if self.content is not None:
            write(self.content)
            return Answer(200, {}, b"")
        return super().fetch(path, write)


@pytest.mark.parametrize(
    "path",
    [
        "../out.txt",
        "/etc/out.txt",
        "a/../../out.txt",
        "a//b",
        "",
        ".",
        "%2e%2e/out.txt",
        "a%00b",
        "..%2fout.txt",
    ],
)
def test_paths_that_lead_out_of_the_folder_are_refused(moor: Shell, path: str) -> None:
    moor.model()
    lying = moor.lying()
    lying.files = [{"path": path, "sizeBytes": 1, "sha256": "0" * 64}]
    moor.transport = lying
    before = sorted(moor.folder.rglob("*"))
    moor.fails("WorkspaceAnswerInvalid", "model", "download", "-n", "m", "-v", "1", "-p", ".")
    assert sorted(moor.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("files", "content", "code"),
    [
        ([{"path": "a", "sizeBytes": 1, "sha256": "0" * 64}], b"x", "WorkspaceAnswerInvalid"),
        ([{"path": "a", "sizeBytes": 1, "sha256": "0"}] * 2, b"x", "WorkspaceAnswerInvalid"),
        ([{"path": "a"}], b"x", "WorkspaceAnswerInvalid"),
        ([{"path": "a", "sizeBytes": 10**18, "sha256": "0"}], b"x", "DownloadNoSpace"),
        (
            [{"path": p, "sizeBytes": 1, "sha256": "0" * 64} for p in ("a/b", "a")],
            b"x",
            "WorkspaceAnswerInvalid",
        ),
        ([{"path": "n" * 300, "sizeBytes": 1, "sha256": "0"}], b"x", "DownloadUnwritable"),
    ],
)
def test_a_download_that_fails_leaves_nothing(moor: Shell, files: Any, content: bytes, code: str) -> None:
    moor.model()
    lying = moor.lying()
    lying.files, lying.content = files, content
    honest, moor.transport = moor.transport, lying
    moor.fails(code, "model", "download", "-n", "m", "-v", "1", "-p", "out")
    out = moor.folder / "out"
    assert not out.exists() or list(out.iterdir()) == []
    moor.transport = honest
    moor.json("model", "download", "-n", "m", "-v", "1", "-p", "out")
    assert (out / "m" / "m.bin").read_text() == "weights"


def test_what_a_killed_download_left_goes_with_the_next_one(moor: Shell) -> None:
    moor.model()
    (moor.folder / ".m.0badcafe.partial").mkdir()
    (moor.folder / ".m.0badcafe.lock").touch()
    moor.json("model", "download", "-n", "m", "-v", "1")
    assert [p.name for p in moor.folder.iterdir() if p.name.startswith(".m")] == []


def test_code_can_be_looked_at(moor: Shell) -> None:
    folder = moor.folder / "src"
    folder.mkdir()
    (folder / "score.py").write_text("def init(): ...\n")
    moor.transport.send(
        "PUT",
        f"{WS}/codes/c1/versions/1",
        body={"properties": {"codeUri": folder.as_uri(), "isAnonymous": True}},
    )
    shown = moor.json("code", "show", "-n", "c1", "-v", "1")
    assert (shown["name"], shown["version"], shown["content"]["files"]) == ("c1", "1", 1)
    moor.json("code", "download", "-n", "c1", "-v", "1")
    assert (moor.folder / "c1" / "score.py").read_text() == "def init(): ...\n"
    err = moor.fails("AssetNotFound", "code", "show", "-n", "c2", "-v", "1")
    assert "--query code_configuration.code" in err, "code has no list to look at"
    with pytest.raises(MooringsError) as caught:
        raise_code(moor)
    assert caught.value.failure.code == "AssetWithoutFiles"


def raise_code(moor: Shell) -> None:
    from moorings.client.client import Client

    moor.json("environment", "create", "-n", "e", "-i", "base:1")
    Client(moor.transport, WS).asset_files("environments", "e", "1")


def test_registries_are_refused_and_other_datastores_pointed_out(moor: Shell) -> None:
    code, _, err = moor("model", "list", "--registry-name", "r")
    assert code == 2 and "no registry is attached" in err
    (moor.folder / "m.bin").write_text("x")
    _, _, err = moor("model", "create", "-n", "m", "-p", "m.bin", "--datastore", "other")
    assert "WARNING" in err and "workspaceblobstore" in err


def test_data_from_flags_and_from_a_file(moor: Shell) -> None:
    address = "azureml://datastores/workspaceblobstore/paths/rows"
    made = moor.json("data", "create", "-n", "rows", "--path", address, "--tags", "a=b")
    assert (made["version"], made["type"], made["path"]) == ("1", "uri_folder", address)
    assert made["tags"] == {"a": "b"}
    file = moor.folder / "rows.yml"
    file.write_text(f"name: rows\ntype: uri_file\npath: {address}.csv\nversion: 7\n")
    assert moor.json("data", "create", "-f", str(file))["type"] == "uri_file"
    assert moor.json("data", "show", "-n", "rows")["path"] == f"{address}.csv"
    assert [d["version"] for d in moor.json("data", "list", "-n", "rows")] == ["7", "1"]
    said = moor.fails("AssetVersionImmutable", "data", "create", "-f", str(file), "--path", address)
    assert "moor data list -n rows" in said
    assert moor("data", "archive", "-n", "rows", "-v", "7")[0] == 0
    assert moor.json("data", "show", "-n", "rows", "--label", "latest")["version"] == "1"
    assert moor("data", "restore", "-n", "rows", "-v", "7")[0] == 0
    assert [d["name"] for d in moor.json("data", "list")] == ["rows"]


def test_what_is_wrong_with_data_stands_where_it_was_given(moor: Shell) -> None:
    file = moor.folder / "rows.yml"
    file.write_text("name: rows\ntype: folder\npath: 5\nextra: 1\n")
    said = moor.fails("SpecInvalid", "data", "create", "-f", str(file))
    for place in ("rows.yml:2:", "rows.yml:3:", "rows.yml:4:"):
        assert place in said, said
    assert "datastores/<datastore>/" in moor.fails(
        "SpecInvalid", "data", "create", "-n", "rows", "-p", "./here"
    )
    attic = "azureml://datastores/attic/paths/x"
    assert "DatastoreUnknown" in moor.fails("SpecInvalid", "data", "create", "-n", "rows", "-p", attic)
