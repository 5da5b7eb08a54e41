"""`make demo`: train the model, start the local workspace, deploy, call the endpoint through the gateway. Prints every step.

Uses only the commands a person would type, so that each can be repeated by hand. A second run with nothing changed
finds everything in place and builds nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
PINS = ("scikit-learn==1.7.0", "numpy==2.3.1", "joblib==1.5.1")


def say(text: str) -> None:
    print(text, flush=True)


class Steps:
    """Runs commands and keeps how long each took."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []

    def run(self, title: str, *argv: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        say(f"\n== {title}\n$ {' '.join(Path(argv[0]).name if i == 0 else a for i, a in enumerate(argv))}")
        start = time.monotonic()
        done = subprocess.run(argv, cwd=HERE, stdout=subprocess.PIPE, text=True)
        took = time.monotonic() - start
        self.times.append((title, took))
        if done.returncode != 0:
            print(done.stdout, end="")
            say(f"failed after {took:.1f} s: see above")
            sys.exit(done.returncode)
        if not quiet:
            print(done.stdout, end="" if done.stdout.endswith("\n") else "\n")
        say(f"   {took:.1f} s")
        return done


def exists(*argv: str) -> bool:
    return subprocess.run(argv, cwd=HERE, capture_output=True).returncode == 0


def main() -> None:
    moor, uv = str(BIN / "moor"), str(BIN / "uv")
    began = time.monotonic()
    steps = Steps()
    model = HERE / "model" / "diabetes.joblib"
    if not model.exists() or model.stat().st_mtime < (HERE / "train.py").stat().st_mtime:
        withs = [a for pin in PINS for a in ("--with", pin)]
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        steps.run("train", uv, "run", "--quiet", "--no-project", "--python", python, *withs, "train.py")
    steps.run("start the workspace", moor, "workspace", "start")
    if not exists(moor, "online-endpoint", "show", "-n", "diabetes", "-o", "none"):
        steps.run("create the endpoint", moor, "online-endpoint", "create", "-f", "endpoint.yml", quiet=True)
    if exists(moor, "online-deployment", "show", "-e", "diabetes", "-n", "blue", "-o", "none"):
        steps.run(
            "update the deployment", moor, "online-deployment", "update", "-f", "deployment.yml", quiet=True
        )
    else:
        create = ("create", "-f", "deployment.yml", "--all-traffic")
        steps.run("create the deployment", moor, "online-deployment", *create, quiet=True)
    invoke = ("invoke", "-n", "diabetes", "-r", "sample-request.json")
    answer = steps.run("call it through the gateway, with its key", moor, "online-endpoint", *invoke)
    total = time.monotonic() - began
    show = (moor, "online-endpoint", "show", "-n", "diabetes", "-o", "json")
    endpoint = json.loads(subprocess.run(show, capture_output=True, text=True, check=True).stdout)
    finish(steps, total, answer.stdout.strip(), endpoint["scoring_uri"])


def finish(steps: Steps, total: float, answer: str, scoring_uri: str) -> None:
    install = os.environ.get("MOORINGS_INSTALL_SECONDS", "")
    say("\n== done")
    if install:
        say(f"   {float(install):6.1f} s  install (when .venv was made)")
    for title, took in steps.times:
        say(f"   {took:6.1f} s  {title}")
    say(f"   {total:6.1f} s  in all, to the first prediction")
    moor = os.path.relpath(BIN / "moor")
    say(
        f"""
prediction:   {answer}
scoring URI:  {scoring_uri}

next:
  {moor} online-deployment get-logs -e diabetes -n blue
  KEY=$({moor} online-endpoint get-credentials -n diabetes -o tsv --query primaryKey)
  curl -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
       -d @examples/01-diabetes/sample-request.json {scoring_uri}
  {moor} online-endpoint delete -n diabetes --yes
"""
    )


if __name__ == "__main__":
    main()
