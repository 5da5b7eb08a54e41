"""Failures that only the Kubernetes engine raises: cluster, router, pods, and the credentials between them."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Origin, Step

_UPDATE = "moor online-deployment update -e {endpoint} -n {deployment} -f <deployment.yml>"
_LOGS = "moor online-deployment get-logs -e {endpoint} -n {deployment}"
_AGAIN = "then send the same request again: " + _UPDATE


def _entry(
    code: str,
    title: str,
    cause: str,
    fix: str,
    *,
    fault: Fault = Fault.USER,
    step: Step = Step.INSTANCE,
    http_status: int = 400,
    retryable: bool = False,
    numeric: str | None = None,
    evidence: tuple[Evidence, ...] = (Evidence.EVENTS,),
    family: str | None = None,
    aliases: tuple[str, ...] = (),
) -> Entry:
    return Entry(
        code=code,
        title=title,
        cause=cause,
        fix=fix,
        fault=fault,
        step=step,
        http_status=http_status,
        retryable=retryable,
        numeric=numeric,
        evidence=evidence,
        family=family,
        aliases=aliases,
        origin=Origin.KUBERNETES,
    )


_RESOURCES = (
    _entry(
        "PodUnschedulable",
        "No node of the cluster can take the pod",
        "No node has the processors and memory left that the deployment requests, has a free place for another pod, or "
        "matches its node selector and tolerations.",
        "Add nodes or free some, request less (resources.requests), or name another instance_type; what the nodes have: "
        "kubectl describe nodes   Then: " + _UPDATE,
        numeric="ERR_2101",
        family="OutOfQuota",
        aliases=("KubernetesUnschedulable", "OutOfQuotaKubernetes"),
    ),
    _entry(
        "ResourceRequestsInvalid",
        "The deployment requests more than its limits",
        "A request of `resources` (or the default that was set when the cluster was attached) is above the limit of the "
        "same resource.",
        "Lower resources.requests or raise resources.limits, then: " + _UPDATE,
        step=Step.SPEC,
        numeric="ERR_2102",
        evidence=(Evidence.PLACES,),
        family="BadArgument",
        aliases=("ResourcesRequestsInvalid", "ResourceRequestsGreaterThanLimits"),
    ),
    _entry(
        "PodOutOfMemory",
        "The pod was ended for want of memory",
        "Model and requests need more memory than the memory limit of the pod.",
        "Raise resources.limits.memory or take a larger instance_type, then: " + _UPDATE,
        numeric="ERR_2200",
        evidence=(Evidence.MEMORY, Evidence.EVENTS, Evidence.LOG),
        family="ResourceNotReady",
        aliases=("OOMKilled",),
    ),
    _entry(
        "InvalidDeploymentSpec",
        "The deployment cannot be written for Kubernetes",
        "The number of instances, or the least and the most of its scaling, do not fit each other or are out of range.",
        "Correct instance_count and scale_settings (min_instances, max_instances), then: " + _UPDATE,
        step=Step.SPEC,
        evidence=(Evidence.PLACES,),
    ),
    _entry(
        "KubernetesCrashLoopBackOff",
        "Pods of the deployment crash again and again",
        "A container of the pod (the script, or one that stands beside it) ends soon after each start: an error in the "
        "script, or a memory limit that is too small.",
        "See what it says before it ends: " + _LOGS + "   Correct it, or raise the memory, then: " + _UPDATE,
        numeric="ERR_2200",
        evidence=(Evidence.EXIT, Evidence.EVENTS, Evidence.LOG),
        family="ResourceNotReady",
    ),
    _entry(
        "ImagePullLoopBackOff",
        "The cluster cannot pull the image",
        "The nodes tried to pull the image several times: its name is wrong, the registry does not answer, or refuses.",
        "Look at the registry from a node (crictl pull <image>) and at its login, then: " + _UPDATE,
        step=Step.ENVIRONMENT,
        numeric="ERR_1200",
        evidence=(Evidence.REGISTRY, Evidence.EVENTS),
        family="BadArgument",
        aliases=("ImagePullBackOff", "ErrImagePull"),
    ),
)

_REGISTRY = (
    _entry(
        "ACRSecretError",
        "The cluster got no credentials for the registry",
        "The role of the cluster's identity is not in effect yet, its components are not installed or too old, or a "
        "network, proxy or certificate is in the way.",
        "Wait a few minutes and try again; if it stays so, check the network of the cluster and install its components "
        "anew, " + _AGAIN,
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=503,
        retryable=True,
        evidence=(Evidence.REGISTRY, Evidence.EVENTS),
    ),
    _entry(
        "TokenRefreshFailed",
        "The cluster cannot renew its own credential",
        "The components in the cluster get no credential for the principal they were installed with.",
        "Install the components in the cluster anew, " + _AGAIN,
        fault=Fault.MACHINE,
        http_status=503,
        retryable=True,
    ),
    _entry(
        "GetAADTokenFailed",
        "The cluster got no token from the identity service",
        "The request for a token failed or took too long: outbound rules, a proxy or a private link are in the way.",
        "Let the cluster reach the identity service (outbound rules, proxy), " + _AGAIN,
        fault=Fault.MACHINE,
        http_status=503,
        retryable=True,
    ),
    _entry(
        "ACRAuthenticationChallengeFailed",
        "The cluster cannot reach the registry",
        "The first request to the registry, which asks how to log in, got no answer.",
        "Let the cluster reach the registry (name resolution, outbound rules, private endpoint), " + _AGAIN,
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=503,
        retryable=True,
        evidence=(Evidence.REGISTRY,),
    ),
    _entry(
        "ACRTokenExchangeFailed",
        "The registry gave no token",
        "The role that lets the identity pull is not in effect yet, or the registry gets too many requests.",
        "Wait a few minutes, " + _AGAIN,
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=503,
        retryable=True,
        evidence=(Evidence.REGISTRY, Evidence.ROLES),
    ),
)

_CLUSTER = (
    _entry(
        "KubernetesUnaccessible",
        "The cluster cannot be reached",
        "Its API server does not answer, or its certificate or the credentials for it are not valid any more.",
        "See that it answers: kubectl cluster-info   Renew its certificate or the credentials that the workspace has for "
        "it, " + _AGAIN,
        fault=Fault.MACHINE,
        http_status=503,
        retryable=True,
        evidence=(Evidence.ANSWER,),
        aliases=("KubernetesInaccessible",),
    ),
    _entry(
        "NamespaceNotFound",
        "The namespace is not in the cluster",
        "The namespace in which the deployments of this cluster run does not exist, or was deleted.",
        "Create it (kubectl create namespace <namespace>), or attach the cluster with a namespace that exists, "
        + _AGAIN,
        http_status=404,
        evidence=(Evidence.ANSWER,),
    ),
    _entry(
        "EndpointAlreadyExists",
        "The name of the endpoint is taken in the cluster",
        "An endpoint of this name is in the cluster already, put there by another workspace.",
        "Choose another name: moor online-endpoint create -n <another name> -f endpoint.yml",
        step=Step.API,
        http_status=409,
        evidence=(Evidence.ANSWER,),
    ),
    _entry(
        "ScoringFeUnhealthy",
        "The router of the cluster is not ready",
        "The component that takes scoring requests in the cluster is missing, or has no replica that is ready.",
        "Look at its pods (kubectl get pods -A) and install the components in the cluster anew, " + _AGAIN,
        fault=Fault.MACHINE,
        step=Step.GATEWAY,
        http_status=503,
        retryable=True,
        family="BadArgument",
        aliases=("AzuremlFeNotReady", "AzuremlFeUnhealthy"),
    ),
    _entry(
        "ValidateScoringFailed",
        "The scoring address of the deployment does not answer",
        "The deployment was made, but a request to its scoring address got no good answer.",
        "See what the container says: " + _LOGS + "   Then: " + _UPDATE,
        step=Step.GATEWAY,
        evidence=(Evidence.ANSWER, Evidence.LOG),
    ),
    _entry(
        "InferencingClientCallFailed",
        "The components in the cluster do not answer",
        "The workspace cannot reach what it installed in the cluster.",
        "Look at its pods (kubectl get pods -A); detach the cluster and attach it again with the same name and namespace, "
        + _AGAIN,
        fault=Fault.MACHINE,
        http_status=503,
        retryable=True,
    ),
)

ENTRIES: tuple[Entry, ...] = _RESOURCES + _REGISTRY + _CLUSTER
