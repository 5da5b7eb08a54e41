"""Names of the cloud service for failures that cannot happen here: what they mean there, and what to do instead here.
Nothing raises them; `moor explain` and the pages know them."""

from __future__ import annotations

from moorings.errors.entry import Entry, Fault, Origin, Step


def _entry(
    code: str,
    title: str,
    cause: str,
    fix: str,
    *,
    family: str | None,
    step: Step,
    aliases: tuple[str, ...] = (),
) -> Entry:
    return Entry(
        code=code,
        title=title,
        cause=cause,
        fix=fix,
        fault=Fault.USER,
        step=step,
        http_status=400,
        family=family,
        aliases=aliases,
        origin=Origin.CLOUD,
    )


ENTRIES: tuple[Entry, ...] = (
    _entry(
        "SubscriptionNotFound",
        "The subscription does not exist",
        "The id of the subscription is wrong, or the subscription is not active. Here every subscription, resource "
        "group and workspace that a command or client names stands for the workspace of this machine.",
        "In the cloud: give the id of an active subscription. Here nothing has to be changed; which workspace is "
        "meant: moor workspace status",
        family="BadArgument",
        step=Step.API,
        aliases=("SubscriptionDoesNotExist",),
    ),
    _entry(
        "PolicyTemplateInvalid",
        "Invalid template function specification",
        "A policy of the cloud subscription that applies to the endpoint has a faulty template. A workspace here has "
        "no policies.",
        "In the cloud: correct or remove the policy that the message names. Here: moor online-deployment create -f "
        "deployment.yml",
        family="BadArgument",
        step=Step.API,
        aliases=("InvalidTemplateFunctionSpecification",),
    ),
    _entry(
        "MlflowPrivateNetworkUnsupported",
        "MLflow models are not supported with this network isolation",
        "The older network isolation of the cloud service cannot serve MLflow models without code. Here the model "
        "runs on this machine and its network does not matter.",
        "In the cloud: use the managed network of the workspace. Here: moor online-deployment create -f deployment.yml",
        family="BadArgument",
        step=Step.API,
        aliases=("MlflowWithPrivateNetworkUnsupported",),
    ),
    _entry(
        "WorkspaceManagedNetworkNotReady",
        "The managed network of the workspace is not ready",
        "The workspace of the cloud service has a managed network that has not been provisioned yet. A workspace here "
        "has none: nothing listens beyond this machine unless it is asked to.",
        "In the cloud: provision the managed network first. Where this workspace listens: moor workspace status",
        family=None,
        step=Step.API,
    ),
    _entry(
        "OperationLockPending",
        "An equal operation still waits for its lock",
        "In the cloud the same request was sent again before the first one was confirmed. Here equal requests share "
        "one operation and end together.",
        "In the cloud: wait up to a minute, then try again. Here: moor online-deployment show -n <name> -e <endpoint>",
        family="OperationCanceled",
        step=Step.API,
        aliases=("WaitingForLockConfirmation",),
    ),
    _entry(
        "ImageBuildComputeMissing",
        "The build cannot reach the workspace's registry",
        "The registry is private, and in the cloud the workspace names no compute that could build images inside its "
        "network. Here the Docker Engine of this machine builds, and needs no such thing.",
        "In the cloud: set an image build compute, or let the registry build inside the network. Here see that the "
        "registry answers: docker login <registry>, then: moor online-deployment update -f <deployment.yml>",
        family="ImageBuildFailure",
        step=Step.ENVIRONMENT,
        aliases=("FailedToCommunicateWithContainerRegistry",),
    ),
    _entry(
        "ImageBuildTimeout",
        "The image was not built in the time that is allowed",
        "In the cloud an image has to be built within the time of a deployment's creation; a log that is cut off is "
        "the sign of it. Here a build may take as long as it needs.",
        "In the cloud: build the image beforehand and name it in the environment. How far it is here: moor "
        "environment build-log --key <key>",
        family="ImageBuildFailure",
        step=Step.ENVIRONMENT,
        aliases=("BuildTimeout",),
    ),
)
