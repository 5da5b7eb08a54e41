"""Failures of scaling: settings and rules that cannot be, and first instances that are too slow."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Step

ENTRIES: tuple[Entry, ...] = (
    Entry(
        code="AutoscaleRuleInvalid",
        title="A rule or schedule of autoscale cannot be read",
        cause="A condition is a metric, a comparison, a number, an aggregation and a period; an action is a direction "
        "and a number of instances or per cent; a schedule is days of the week or two dates.",
        fix="Write it like this: moor autoscale rule create --autoscale-name {name} --condition "
        '"CpuUtilizationPercentage > 70 avg 5m" --scale out 2',
        fault=Fault.USER,
        step=Step.CLIENT,
        http_status=400,
        evidence=(Evidence.PLACES, Evidence.CHOICES),
    ),
    Entry(
        code="AutoscaleNotFound",
        title="There is no such autoscale setting, profile or rule",
        cause="The workspace has no autoscale setting of this name, or the setting has no such profile or rule. A "
        "setting goes with its deployment.",
        fix="Look what there is: moor autoscale list -o table",
        fault=Fault.USER,
        step=Step.API,
        http_status=404,
        evidence=(Evidence.CHOICES,),
    ),
    Entry(
        code="AutoscaleConflict",
        title="Something else scales this deployment already",
        cause="A deployment is scaled by one thing: an autoscale setting, or `scale_settings.type: target_utilization` "
        "in its own file. A name stands for one setting.",
        fix="Take the other one away first: moor autoscale delete -n {name}   (or moor online-deployment update -n "
        "{deployment} -e {endpoint} --set scale_settings.type=default)",
        fault=Fault.USER,
        step=Step.API,
        http_status=409,
    ),
    Entry(
        code="TraceInvalid",
        title="The trace of load cannot be read",
        cause="A trace is a CSV file with a heading: a column `seconds` (or `time`), and a column `rps` or `requests`. "
        "Times grow from row to row.",
        fix="Correct the lines that are named, then: moor autoscale simulate -f {name}",
        fault=Fault.USER,
        step=Step.CLIENT,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="ActivationTimeout",
        title="The first instance took too long to start",
        cause="The deployment had no instance, since nobody had called it for a while (`min_instances: 0`). The request "
        "waited for one to start, for as long as `moorings.activation_timeout_s` allows.",
        fix="Try again after the seconds that the header Retry-After names. To wait longer, set "
        "`moorings.activation_timeout_s` under `properties` of the deployment; to keep an instance: `moor "
        "online-deployment update -n {deployment} -e {endpoint} --set scale_settings.min_instances=1`",
        fault=Fault.PLATFORM,
        step=Step.SCORING,
        http_status=503,
        retryable=True,
    ),
)
