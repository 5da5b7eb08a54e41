"""Built environments over the API: what is told of them, and which of them pruning may remove."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest

from moorings.engines.base import GroupSpec, InstanceTemplate, ProbeTimes
from moorings.environments.shelf import Shelf
from moorings.state.transaction import DEPLOYMENT

Api = Any
KEY = "0123456789abcdef"
TEMPLATE = InstanceTemplate(
    endpoint="shop",
    deployment="gone",
    python="/env/bin/python",
    environment_key=KEY,
    code_digest="",
    code_folder="code",
    scoring_script="score.py",
    model=None,
    environment_variables={},
    max_concurrent_requests=1,
    request_timeout_ms=1000,
    liveness=ProbeTimes(0, 1, 1, 1, 1),
    cpus=None,
    memory_bytes=None,
)


def built_environment(shop: Api, key: str = KEY) -> Shelf:
    shelf = Shelf(shop.folder / "environments")
    shelf.prepare()
    (shelf.folder(key) / "bin").mkdir(parents=True)
    (shelf.folder(key) / "bin" / "python").symlink_to(sys.executable)
    meta = {"recipe_key": key[::-1], "python_version": "3.12.1", "packages": {"six": "1"}, "notes": ["n"]}
    shelf.finish(key, {**meta, "solver": "conda", "solver_reason": "why", "seconds": 2.5, "built_at": 1.0})
    shelf.remember(key[::-1], key)
    shelf.keep_locks(key[::-1], {"requirements.lock": "six==1\n"})
    return shelf


def use(shop: Api, key: str, *, template: bool) -> None:
    """Write down that the deployment shop/blue uses (or used before) an environment."""
    with shop.database.write() as tx:
        row = tx.resource(DEPLOYMENT, "shop/blue")
        assert row is not None
        status = (
            {"templates": {"r1": {"environment_key": key}}} if template else {"environment": {"key": key}}
        )
        assert tx.set_status(row, status)


async def test_a_build_tells_its_lock_its_size_and_who_uses_it(shop: Api) -> None:
    built_environment(shop)
    await shop.deployment()
    use(shop, KEY, template=False)
    listed = (await shop.ask("GET", "/environmentBuilds")).json()["value"]
    assert [one["key"] for one in listed] == [KEY] and "locks" not in listed[0]
    found = (await shop.ask("GET", "/environmentBuilds/0123")).json()
    assert (found["key"], found["usedBy"], found["solver"]) == (KEY, ["shop/blue"], "conda")
    assert found["locks"] == {"requirements.lock": "six==1\n"} and found["packages"] == {"six": "1"}
    assert (found["buildSeconds"], found["sizeBytes"] > 0) == (2.5, True)
    assert found["buildLog"].endswith(f"{KEY[::-1]}.log") and found["location"].endswith(KEY)
    assert (await shop.ask("GET", "/environmentBuilds/ffff")).status_code == 404
    assert (await shop.ask("GET", "/environments/env/versions/1/build")).json() == {"build": None}


@pytest.mark.parametrize("template", [True, False])
async def test_pruning_keeps_what_a_deployment_uses(shop: Api, template: bool) -> None:
    shelf = built_environment(shop)
    await shop.deployment()
    use(shop, KEY, template=template)
    other = built_environment(shop, "f" * 16)
    dry = (await shop.ask("POST", "/environmentBuilds/prune")).json()
    assert (dry["dryRun"], [one["key"] for one in dry["removed"]]) == (True, ["f" * 16])
    assert other.complete("f" * 16) is not None
    done = (await shop.ask("POST", "/environmentBuilds/prune", {"dryRun": False})).json()
    assert [one["key"] for one in done["removed"]] == ["f" * 16] and done["freedBytes"] > 0
    assert (done["kept"][0]["usedBy"], done["kept"][0]["reason"]) == (["shop/blue"], "in use")
    assert other.complete("f" * 16) is None and shelf.complete(KEY) is not None


async def test_pruning_waits_for_instances_of_deployments_that_are_gone(shop: Api) -> None:
    shelf = built_environment(shop)
    await shop.engine.apply(GroupSpec("shop/gone", "0" * 12, 1, TEMPLATE))
    done = (await shop.ask("POST", "/environmentBuilds/prune", {"dryRun": False})).json()
    assert (done["removed"], done["kept"][0]["usedBy"]) == ([], ["shop/gone"])
    assert shelf.complete(KEY) is not None
    assert (await shop.ask("POST", "/environmentBuilds/prune", {"dryRun": "no"})).status_code == 400


def stored_files(shop: Api) -> set[str]:
    return {str(path) for path in (shop.folder / "assets").rglob("*") if path.is_file()}


def nested_aliases() -> str:
    """Each line stands for ten times what the one before stands for."""
    names = "abcdefgh"
    return "".join(
        f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n" for old, new in itertools.pairwise(names)
    )


async def test_the_flavors_of_a_registered_model_are_read_from_its_mlmodel(shop: Api) -> None:
    folder = shop.folder.parent / "saved"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors:\n  python_function: {loader_module: mlflow.sklearn}\n")
    read = {"python_function": {"data": {"loader_module": "mlflow.sklearn"}}}
    own = {"mine": {"data": {}}}
    for version, given, told in (("1", {}, read), ("2", {"flavors": own}, own)):
        body = {"modelUri": f"file://{folder}", "modelType": "mlflow_model", **given}
        done = await shop.ask("PUT", f"/models/m/versions/{version}", {"properties": body})
        assert done.status_code == 201, done.text
        properties = (await shop.ask("GET", f"/models/m/versions/{version}")).json()["properties"]
        assert properties["flavors"] == told
        assert "flavors" not in properties["moorings"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no file MLmodel"),
        ("- a list", "expected a mapping"),
        ("a: [", "this is not YAML"),
        ("utc_time_created: 2020-13-45\nflavors: 3", "flavors is not there"),
        ("x: " + "[" * 2000, "nested more than"),
        ("a: &a [x, x, x, x, x, x, x, x, x]\n" + nested_aliases() + "flavors: {}", "more than 20000 values"),
        ("# " + "x" * 1_100_000 + "\nflavors: {}", "at most 1048576"),
    ],
)
async def test_a_folder_that_is_no_mlflow_model_is_refused_and_leaves_nothing(
    shop: Api, text: str | None, said: str
) -> None:
    folder = shop.folder.parent / "saved"
    folder.mkdir()
    (folder / "weights").write_text("of another kind")
    if text is not None:
        (folder / "MLmodel").write_text(text)
    before = stored_files(shop)
    body = {"modelUri": f"file://{folder}", "modelType": "mlflow_model"}
    done = await shop.ask("PUT", "/models/m/versions/1", {"properties": body})
    assert (done.status_code, done.json()["error"]["code"]) == (400, "MlflowModelInvalid"), done.text
    assert said in done.json()["error"]["message"]
    assert (await shop.ask("GET", "/models/m/versions/1")).status_code == 404
    assert stored_files(shop) == before
    body["modelType"] = "custom_model"
    assert (await shop.ask("PUT", "/models/m/versions/1", {"properties": body})).status_code == 201
    assert stored_files(shop) > before
