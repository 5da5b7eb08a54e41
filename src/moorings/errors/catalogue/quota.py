"""Failures of quota and capacity: what a workspace may have, and what there is to have."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Origin, Step

_FAMILY = "OutOfQuota"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        code="OutOfQuota",
        title="Not enough quota",
        cause="The deployment needs more vCPUs than are left of the quota for its family of instance types in this "
        "workspace and region. Every deployment takes its share, and gives it back when it is deleted; an update "
        "needs 20 % more while it runs.",
        fix="Delete deployments that are not used (moor online-deployment delete -n <name> -e <endpoint>), ask for "
        "less (instance_count, a smaller instance_type), or raise the quota. Who holds what: moor quota list",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
        numeric="ERR_1100",
        evidence=(Evidence.QUOTA,),
        aliases=("NotEnoughQuota", "OutOfQuotaCpu", "CpuQuotaReached"),
    ),
    Entry(
        code="OutOfCapacity",
        title="Nowhere is there room for the instances",
        cause="The quota would allow it, but the machine or cluster has not enough processors or memory left for this "
        "instance type.",
        fix="Try again later, choose a smaller instance_type, or make room: moor online-deployment delete -n <name> -e "
        "<endpoint>. What there is: moor quota list",
        fault=Fault.MACHINE,
        step=Step.INSTANCE,
        http_status=503,
        retryable=True,
        numeric="ERR_1101",
        evidence=(Evidence.QUOTA,),
        family=_FAMILY,
        aliases=("RegionWideVmCapacity", "OutOfQuotaCapacity", "OutOfQuotaRegionWideVmCapacity"),
    ),
    Entry(
        code="InstanceTypeTooLarge",
        title="An instance of this type wants more than the machine has",
        cause="A single instance of the instance type, with what is kept free for its updates, is larger than the whole "
        "machine: it could not be started even if nothing else ran.",
        fix="Choose a smaller instance_type. Which there are: moor compute list-sizes -o table",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
        numeric="ERR_2100",
        evidence=(Evidence.QUOTA,),
        family=_FAMILY,
    ),
    Entry(
        code="QuotaLimitInvalid",
        title="This quota cannot be set",
        cause="A quota is a whole number of vCPUs, 0 or more, of a family that exists; not less than deployments hold of "
        "it, and for a family not more than the quota of all families together.",
        fix="Name a family and a number that is possible: moor quota set --resource-name <family> --limit <vCPUs>. What "
        "there is: moor quota list",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
        evidence=(Evidence.QUOTA, Evidence.CHOICES),
        aliases=(
            "InvalidVMFamilyName",
            "InvalidQuotaBelowClusterMinimum",
            "InvalidQuotaExceedsSubscriptionLimit",
        ),
    ),
    Entry(
        code="RoleAssignmentQuotaReached",
        title="No more role assignments",
        cause="Each role that is given is an assignment, also those of a new endpoint's identity, and as many as may exist "
        "are there already.",
        fix="Delete assignments that are not used: moor role assignment list --all, then moor role assignment "
        "delete --ids <id>",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
        numeric="ERR_1102",
        evidence=(Evidence.QUOTA,),
        family=_FAMILY,
        aliases=("NoMoreRoleAssignments", "OutOfQuotaRoleAssignments"),
    ),
    Entry(
        code="EndpointQuotaReached",
        title="The workspace has as many endpoints as it may have",
        cause="The number of endpoints of a workspace is limited.",
        fix="Delete what is not used any more: moor online-endpoint list -o table, then moor online-endpoint delete -n "
        "<name>",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
        numeric="ERR_1103",
        family=_FAMILY,
        aliases=("LimitReached", "OutOfQuotaEndpoints"),
    ),
    Entry(
        code="DeploymentQuotaReached",
        title="The endpoint has as many deployments as it may have",
        cause="The number of deployments of an endpoint is limited.",
        fix="Delete what is not used any more: moor online-deployment list -e {endpoint} -o table, then moor "
        "online-deployment delete -e {endpoint} -n <name>",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
        numeric="ERR_1103",
        family=_FAMILY,
        aliases=("OutOfQuotaDeployments",),
    ),
    Entry(
        code="ClusterQuotaReached",
        title="The subscription has as many compute clusters as it may have",
        cause="The cloud service limits the number of compute clusters of a subscription. A workspace of Moorings is "
        "its own machine and has no such limit.",
        fix="In the cloud: delete clusters that are not used, or ask for a higher limit. Here the limits are those "
        "that this shows: moor quota list",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
        family=_FAMILY,
        aliases=("OutOfQuotaCluster",),
        origin=Origin.CLOUD,
    ),
)
