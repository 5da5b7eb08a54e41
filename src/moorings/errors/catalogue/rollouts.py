"""Failures of updates, and of traffic that is shifted step by step while a guard holds."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Step

_STATUS = "moor rollout status -e {endpoint}"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        code="SampleRequestFailed",
        title="A new instance did not answer the sample request",
        cause="The deployment has a sample request (`moorings.sample_request`), and a new instance that was ready "
        "answered it with another status than 200, or not in time. It never got traffic; what served before goes on.",
        fix="Correct the scoring script, the model or the sample request, then: "
        "moor online-deployment update -e {endpoint} -n {deployment} -f <deployment.yml>",
        fault=Fault.USER,
        step=Step.SCRIPT,
        http_status=424,
        evidence=(Evidence.ANSWER, Evidence.TRACEBACK, Evidence.LOG),
    ),
    Entry(
        code="ProgressDeadlineExceeded",
        title="The rollout made no progress in time",
        cause="For longer than the deployment allows (`moorings.progress_deadline_s`, else the time its readiness probe "
        "has) no further instance came to serve, and no instance shows why.",
        fix="See what it waited for: moor diagnose -e {endpoint} -n {deployment}   (then update it again, with a longer "
        "`moorings.progress_deadline_s` if it only needs more time)",
        fault=Fault.MACHINE,
        step=Step.INSTANCE,
        http_status=504,
        retryable=True,
    ),
    Entry(
        code="RolloutInvalid",
        title="The rollout cannot be started as it is asked for",
        cause="Its steps, times or guard are not well formed, or its deployments are not there.",
        fix="Correct what is named above. An example: moor rollout start -e {endpoint} --from blue --to green "
        '--steps 1,10,50,100 --every 2m --guard "error_rate<1%,p99<1.2x"',
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
        evidence=(Evidence.CHOICES,),
    ),
    Entry(
        code="RolloutConflict",
        title="The endpoint is not ready for this rollout",
        cause="Another rollout of the endpoint goes on, a deployment does not serve, or the traffic is not where the "
        "rollout has to begin.",
        fix="{remedy}   (what goes on: moor rollout list -e {endpoint})",
        fault=Fault.USER,
        step=Step.API,
        http_status=409,
        evidence=(Evidence.CHOICES,),
    ),
    Entry(
        code="RolloutNotFound",
        title="There is no such rollout",
        cause="The endpoint has no rollout of this name, or none at all.",
        fix="See which there are: moor rollout list -e {endpoint}",
        fault=Fault.USER,
        step=Step.API,
        http_status=404,
    ),
    Entry(
        code="RolloutEnded",
        title="The rollout has ended",
        cause="What has ended cannot be paused, resumed or aborted.",
        fix=f"See how it ended: {_STATUS}   (start another one: moor rollout start -e {{endpoint}} ...)",
        fault=Fault.USER,
        step=Step.API,
        http_status=409,
    ),
    Entry(
        code="GuardBreached",
        title="The new deployment did not keep within the guard",
        cause="In the same time and under the same endpoint the new deployment answered worse than the guard of the "
        "rollout allows.",
        fix=f"See the figures: {_STATUS}   (and what the deployment wrote: "
        "moor online-deployment get-logs -e {endpoint} -n {deployment})",
        fault=Fault.USER,
        step=Step.GATEWAY,
        http_status=424,
        evidence=(Evidence.ANSWER,),
    ),
    Entry(
        code="RolloutSuperseded",
        title="Somebody else changed the traffic during the rollout",
        cause="The traffic of the endpoint is not what the rollout had set. What was set by hand stays; the rollout "
        "does nothing more.",
        fix="See the traffic: moor online-endpoint show -n {endpoint} --query traffic   (and start another rollout from "
        "there)",
        fault=Fault.USER,
        step=Step.API,
        http_status=409,
    ),
    Entry(
        code="RolloutDeploymentLost",
        title="A deployment of the rollout is not there any more",
        cause="The deployment was deleted or its endpoint was, so there is nothing to shift traffic to, or back to.",
        fix="See what there is: moor online-deployment list -e {endpoint}",
        fault=Fault.USER,
        step=Step.API,
        http_status=409,
    ),
    Entry(
        code="RolloutWithoutTraffic",
        title="Too few requests came to decide",
        cause="The new deployment got fewer requests in its step than the rollout wants to see before it decides "
        "(`--min-requests`), and the time it waits for them (`--patience`) has passed.",
        fix="Go on when there is traffic: moor rollout resume -e {endpoint}   (or start a rollout that decides with "
        "fewer: --min-requests 0)",
        fault=Fault.USER,
        step=Step.GATEWAY,
        http_status=409,
        retryable=True,
    ),
)
