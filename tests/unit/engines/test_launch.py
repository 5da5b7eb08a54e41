"""The environment and the boot budget of a worker, from values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moorings.engines.launch import Launch


def launch(**changes: Any) -> Launch:
    template = {
        "python": "/env/bin/python",
        "code_digest": "c",
        "code_folder": "src",
        "scoring_script": "score.py",
        "model": {"digest": "m", "name": "mine", "version": "2"},
        "environment_variables": {},
        "max_concurrent_requests": 5,
        "request_timeout_ms": 5000,
        "liveness": {"initial_delay_s": 10, "period_s": 10, "timeout_s": 2, "failure_threshold": 30},
        "cpus": None,
        "memory_bytes": None,
        **changes,
    }
    data = {
        "id": "shop-blue-x-0",
        "owner": "shop/blue",
        "revision": "x",
        "ordinal": 0,
        "workspace_id": "w",
        "home": "/home",
        "grace_s": 7.5,
        "worker_argv": ["-m", "moorings_server", "--worker"],
        "initializer_argv": ["init"],
        "store_root": "/store",
        "sockets": ["/run/a-0.sock", "/run/a-1.sock"],
        "logs": "/logs",
        "log_file_bytes": 10,
        "log_files": 2,
        "cgroup_parent": None,
        "template": template,
    }
    return Launch(Path("/i"), data)


def test_only_what_is_listed_comes_in_from_outside():
    outer = {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PYTHONPATH": "/p",
        "CUDA_VISIBLE_DEVICES": "0",
        "HOME": "/h",
    }
    env = launch().worker_environment(outer, 0)
    assert (env["HOME"], env["CUDA_VISIBLE_DEVICES"], env["PATH"]) == ("/h", "0", "/env/bin:/bin")
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH"} & set(env)


def test_the_user_wins_over_outer_and_product_but_not_over_the_contract():
    mine = {
        "HOME": "/mine",
        "AZUREML_MODEL_DIR": "/mine",
        "MOORINGS_INSTANCE_ID": "mine",
        "MOORINGS_MAX_CONCURRENT": "99",
    }
    env = launch(environment_variables=mine).worker_environment({"HOME": "/h"}, 1)
    assert (env["HOME"], env["AZUREML_MODEL_DIR"]) == ("/mine", "/mine")
    assert (env["MOORINGS_INSTANCE_ID"], env["MOORINGS_MAX_CONCURRENT"]) == ("shop-blue-x-0", "2")
    assert (env["MOORINGS_SOCKET"], env["MOORINGS_DRAIN_S"]) == ("/run/a-1.sock", "7.5")


def test_no_model_no_model_folder():
    made = launch(model=None)
    assert "AZUREML_MODEL_DIR" not in made.worker_environment({}, 0)
    assert made.plan()["model"] is None


def test_the_plan_lays_out_code_and_model_beside_each_other():
    assert launch().plan() == {
        "store": "/store",
        "code": {"digest": "c", "target": "/i/app/src"},
        "model": {"digest": "m", "target": "/i/app/azureml-models/mine/2"},
    }


@pytest.mark.parametrize(
    ("asked", "budget_s"), [(None, 310), ("60", 60), ("9999", 310), ("0", 310), ("soon", 310)]
)
def test_the_boot_budget(asked, budget_s):
    variables = {} if asked is None else {"WORKER_TIMEOUT": asked}
    assert launch(environment_variables=variables).boot_budget_s() == budget_s
