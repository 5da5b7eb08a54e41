"""What the gateway does with more than an endpoint can do, and what an hour of half of it leaves in memory."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from corpus_site import workspace_with
from memory import Slope, Watch, means, slope
from scenarios import Size
from scene import BLUE, INSTANCES, PLACES, Outcome, Scene, outcome, script

GOODPUT_SHARE, REJECT_P99_MS = 0.9, 10.0
FLAT_MIB = 8.0
"""What a process may have more after an overload than soon after its beginning."""
GROWS_MIB_PER_HOUR = 1.0
JUDGED_S = 1800.0
"""A shorter soak shows slopes and promises nothing of them: what is set up once is still coming up."""
SOAK_RUN_S = 0.2
"""So long that a pause of the machine fills no queue: each place does five requests a second."""
SAMPLES_A_CYCLE = 30


def overload(scene: Scene, size: Size) -> Outcome:
    """Ten times what an endpoint can do: it does nearly as much as ever, and refuses the rest at once."""
    small, run_s, places = "small", 0.02, 4
    scene.workspace.endpoint(small)
    folder = scene.workspace.script(small, script("small", run_s=run_s))
    settings = {"max_concurrent_requests_per_instance": places, "request_timeout_ms": 20_000}
    spec = scene.workspace.spec(small, BLUE, folder, request_settings=settings)
    scene.workspace.deploy(spec, "--all-traffic")
    ideal_per_s = places / run_s
    peak_per_s = _closed_loop(scene, small, clients=2 * places, seconds=max(3.0, size.hold_s / 4))
    seconds = size.hold_s * 2
    with (
        Watch(_processes(scene, small), period_s=0.5) as watch,
        scene.load(endpoint=small, rate_per_s=10 * ideal_per_s) as result,
    ):
        time.sleep(seconds)
    scene.workspace.moor("online-endpoint", "delete", "-n", small, "--yes")
    seen = result.seen
    goodput_per_s = (seen.sent - seen.failed) / float(seen.report["seconds"])
    others = set(seen.report["statuses"]) - {"200", "429"}
    grown = {name: round(watch.last(name) - watch.after(name, seconds / 4), 1) for name in watch.samples}
    held = (
        not others
        and seen.uncoded == 0
        and goodput_per_s >= GOODPUT_SHARE * peak_per_s
        and float(seen.report["failed_p99_ms"]) <= REJECT_P99_MS
        and max(grown.values()) <= FLAT_MIB
    )
    return outcome(
        "overload", f"ten times what it can do, for {seconds:g} s", 1, seen,
        f"goodput at least {GOODPUT_SHARE:.0%} of its peak, refusals' p99 at most {REJECT_P99_MS:g} ms, no process "
        f"above {FLAT_MIB:g} MiB more than after a quarter of it", held,
        goodput_of_peak=round(goodput_per_s / peak_per_s, 3),
        asked_per_s=round(seen.sent / float(seen.report["seconds"])), refused_p50_ms=seen.report["failed_p50_ms"],
        refused_p99_ms=seen.report["failed_p99_ms"],
        mib_before_and_after={
            name: f"{watch.first(name):.1f}, {watch.last(name):.1f}" for name in watch.samples
        },
    )  # fmt: skip


def soak(size: Size, rate_per_s: float) -> Outcome:
    """Half of what two endpoints can do, for an hour; one of them gets new code every five minutes, the other is left alone,
    so that its processes are as old as the run."""
    still, each_s = "still", PLACES / SOAK_RUN_S
    with workspace_with({}) as workspace:
        scene = Scene(workspace, INSTANCES * each_s / 2, run_s=SOAK_RUN_S)
        scene.build()
        workspace.endpoint(still)
        settings = {"max_concurrent_requests_per_instance": PLACES, "request_timeout_ms": 20_000}
        folder = workspace.script(still, script(still, run_s=SOAK_RUN_S))
        workspace.deploy(workspace.spec(still, BLUE, folder, request_settings=settings), "--all-traffic")
        deploys = int(size.soak_s / size.deploy_every_s)
        with (
            scene.load() as result,
            scene.load(endpoint=still, rate_per_s=each_s / 2) as beside,
            Watch(_processes(scene, still), size.deploy_every_s / SAMPLES_A_CYCLE) as watch,
        ):
            began = time.monotonic()
            for done in range(1, deploys + 1):
                workspace.deploy(scene.spec(BLUE), verb="update")
                time.sleep(max(0.0, began + done * size.deploy_every_s - time.monotonic()))
        same = _processes(scene, still) == watch.pids
    slopes = {name: slope(means(points, size.deploy_every_s)) for name, points in watch.samples.items()}
    seen = result.seen.with_another(beside.seen)
    long = size.soak_s >= JUDGED_S
    held = seen.failed == 0 and same and not (long and any(_grows(each) for each in slopes.values()))
    steady = f", none surely grows by more than {GROWS_MIB_PER_HOUR:g} MiB/h" if long else ""
    return outcome(
        "soak", f"half load for {size.soak_s / 60:g} min, new code every {size.deploy_every_s:g} s", deploys, seen,
        f"0 failed, all processes but those of the old code live on{steady}", held,
        mib_per_hour={name: str(each) for name, each in slopes.items()},
        mib_at_start_and_end={name: f"{watch.first(name):.1f}, {watch.last(name):.1f}" for name in slopes},
        requests_per_s=scene.rate_per_s + each_s / 2,
    )  # fmt: skip


def _grows(found: Slope) -> bool:
    return found.per_hour - found.give_or_take > GROWS_MIB_PER_HOUR


def _processes(scene: Scene, endpoint: str) -> dict[str, int]:
    """The workspace's own processes, and those of an endpoint of one instance."""
    names = {
        "daemon": "daemon",
        "envoy": "Envoy",
        "gateway-agent": "agent",
        "supervisor": "supervisor",
        "worker": "worker",
    }
    return {name: scene.pids(role, endpoint=endpoint)[0] for role, name in names.items()}


def _closed_loop(scene: Scene, endpoint: str, *, clients: int, seconds: float) -> float:
    """Right answers a second with so many callers that wait for each answer."""
    scene.workspace.key(endpoint)
    until, good = time.monotonic() + seconds, [0] * clients

    def ask(caller: int) -> None:
        while time.monotonic() < until:
            good[caller] += scene.workspace.score(endpoint, 1).status == 200

    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    return sum(good) / (time.monotonic() - began)
