"""What a deployment that writes 100 MB/s into its log costs: itself, a neighbour, and the disk.

`python -m bench.log_flood` makes a workspace of its own, deploys two endpoints, and asks both at a fixed rate: before,
and while the first one floods. It prints one JSON object: answers and percentiles of each, bytes of its log on disk,
CPU seconds of the supervisor, bytes that were dropped. Loopback only; it stops by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.workspace import free_port

RATE, SECONDS, FLOOD_MB_PER_S = 150, 12, 100
SCRIPT = """
import json, os, threading, time

LINE = (b"2026-11-25 a line of a library that says too much about every single thing it does ............\\n")
CHUNK = LINE * (65536 // len(LINE))

def flood(seconds, bytes_per_s):
    began, written = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        written += os.write(1, CHUNK)
        ahead = written / bytes_per_s - (time.monotonic() - began)
        if ahead > 0.002:
            time.sleep(ahead)
    os.write(1, b"flood: %d bytes in %.1f s\\n" % (written, time.monotonic() - began))

def init(): pass

def run(data):
    asked = json.loads(data)
    if "flood_s" in asked:
        threading.Thread(target=flood, args=(asked["flood_s"], asked["bytes_per_s"])).start()
    return "ok"
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="moor-flood-") as folder:
        bench = Bench(Path(folder))
        try:
            bench.deploy()
            json.dump(bench.measure(), sys.stdout, indent=1)
            print()
        finally:
            bench.moor("workspace", "stop", check=False)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.port = folder, folder / "home", free_port()
        self.home.mkdir(mode=0o700)
        settings = {"gateway": {"port": self.port, "rate_limit_per_s": 1_000_000}}
        (self.home / "settings.json").write_text(json.dumps(settings))
        keep = {k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")}
        self.env = {**keep, "MOORINGS_HOME": str(self.home)}
        self.keys: dict[str, str] = {}

    def moor(self, *argv: str, check: bool = True) -> str:
        program = Path(sys.executable).parent / "moor"
        done = subprocess.run([program, *argv], env=self.env, cwd=self.folder, capture_output=True, text=True)
        if check and done.returncode:
            raise SystemExit(done.stderr)
        return done.stdout

    def deploy(self) -> None:
        code = self.folder / "code"
        code.mkdir()
        (code / "score.py").write_text(SCRIPT)
        (self.folder / "conda.yaml").write_text("dependencies: [python=3.11]\n")
        for name in ("flood", "calm"):
            spec = {
                "name": "blue",
                "endpoint_name": name,
                "code_configuration": {"code": "code", "scoring_script": "score.py"},
                "environment": {"conda_file": "conda.yaml"},
                "instance_type": "Standard_DS3_v2",
                "instance_count": 1,
                "request_settings": {"max_concurrent_requests_per_instance": 50, "request_timeout_ms": 20000},
            }
            path = self.folder / f"{name}.yml"
            path.write_text(json.dumps(spec))
            self.moor("online-endpoint", "create", "-n", name)
            self.moor("online-deployment", "create", "-f", str(path), "--all-traffic")
            found = json.loads(self.moor("online-endpoint", "get-credentials", "-n", name, "-o", "json"))
            self.keys[name] = found["primaryKey"]

    def measure(self) -> dict[str, Any]:
        before = self.asked()
        pid = self.supervisor()
        cpu = _cpu_s(pid)
        self.load("flood", 1, 1, {"flood_s": SECONDS + 4, "bytes_per_s": FLOOD_MB_PER_S * 1_000_000})
        time.sleep(1)
        during = self.asked()
        time.sleep(5)
        cpu = _cpu_s(pid) - cpu
        text = self.moor(
            "online-deployment",
            "get-logs",
            "-e",
            "flood",
            "-n",
            "blue",
            "-c",
            "inference-server",
            "-l",
            "1000000",
        )
        notices = re.findall(
            r"^moorings: ([\d,]+) bytes of output \(([\d,]+) lines\) were dropped", text, re.M
        )
        written = re.search(r"^flood: (\d+) bytes in ([\d.]+) s", text, re.M)
        sizes = [p.stat().st_size for p in self.home.rglob("inference-server.log*") if "flood" in str(p)]
        return {
            "before": before,
            "during": during,
            "written_mb_per_s": round(int(written[1]) / float(written[2]) / 1e6, 1) if written else None,
            "log_bytes_on_disk": sum(sizes),
            "notices_that_are_kept": len(notices),
            "supervisor_cpu_s": round(cpu, 2),
        }

    def asked(self) -> dict[str, Any]:
        loads = {name: self.start(name, RATE, SECONDS, {}) for name in self.keys}
        reports = {name: json.loads(load.communicate()[0]) for name, load in loads.items()}
        return {
            n: {k: r[k] for k in ("sent", "failed", "p50_ms", "p99_ms", "max_ms")} for n, r in reports.items()
        }

    def load(self, name: str, rate: float, seconds: float, body: dict[str, Any]) -> None:
        self.start(name, rate, seconds, body).communicate()

    def start(self, name: str, rate: float, seconds: float, body: dict[str, Any]) -> subprocess.Popen[str]:
        url = f"http://127.0.0.1:{self.port}/api/v1/endpoint/{name}/score"
        argv = [sys.executable, str(Path(__file__).parent / "load.py"), url, f"--key={self.keys[name]}"]
        argv += ["--rate", str(rate), "--seconds", str(seconds), "--body", json.dumps(body)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def supervisor(self) -> int:
        wanted = {b"MOORINGS_ROLE=supervisor", b"MOORINGS_HOME=" + os.fsencode(self.home)}
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with contextlib.suppress(OSError):
                    found = (path / "environ").read_bytes().split(b"\0")
                    if wanted <= set(found) and any(b"flood/blue" in item for item in found):
                        return int(path.name)
        raise SystemExit("no supervisor")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
