"""Failures of the listener for the ecosystem's own clients, and of what they upload."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Step

ENTRIES: tuple[Entry, ...] = (
    Entry(
        code="AccessDenied",
        title="The request is from nobody known",
        cause="The listener for clients takes requests with a bearer token of this workspace; the token is missing, "
        "has ended, or was made for another workspace.",
        fix='Export the variables of this workspace, and start the client anew: eval "$(moor workspace env)"',
        fault=Fault.USER,
        step=Step.API,
        http_status=401,
    ),
    Entry(
        code="ListenerPortTaken",
        title="The port of the listener for clients cannot be used",
        cause="Another program listens on it, or the system reserves it.",
        fix="End that program (ss -ltnp 'sport = :{port}' names it), or set clients.port in settings.json to another "
        "port; then: moor workspace stop && moor workspace env",
        fault=Fault.MACHINE,
        step=Step.API,
        http_status=503,
        retryable=True,
        evidence=(Evidence.OPERATING_SYSTEM,),
    ),
    Entry(
        code="ListenerOff",
        title="The listener for clients is off",
        cause="Datastores and uploads are reached through it, and nobody has turned it on.",
        fix='Turn it on: eval "$(moor workspace env)"',
        fault=Fault.USER,
        step=Step.API,
        http_status=409,
    ),
    Entry(
        code="ListenerUnreachable",
        title="The listener for clients does not answer",
        cause="It is on, but a request over TLS with the workspace's own certificate got no good answer.",
        fix="Try again: moor workspace env   If it stays so, the daemon's log says more: moor workspace status",
        fault=Fault.MACHINE,
        step=Step.CLIENT,
        http_status=503,
        retryable=True,
        evidence=(Evidence.OPERATING_SYSTEM,),
    ),
    Entry(
        code="BlobStoreUnknown",
        title="The workspace has no such account or container",
        cause="It has one account, one container for uploads and registered content, and one container for each upload "
        "that has not been registered yet.",
        fix="moor storage blob exists --account-name {account} --container-name {container} --name {name}",
        fault=Fault.USER,
        step=Step.API,
        http_status=404,
    ),
    Entry(
        code="UploadMissing",
        title="Nothing was uploaded to this address",
        cause="A version names uploaded content, and there is none: it was never sent, or not within the last days.",
        fix="See whether it is there: moor storage blob exists --account-name moorings --container-name "
        "azureml-blobstore --name {name}   Upload it, then register the version again: send the request again from "
        "the files.",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
    ),
    Entry(
        code="UploadAmbiguous",
        title="A name was uploaded both as a file and as a folder",
        cause="On a disk one path is a file or a folder, not both.",
        fix="Remove one of the two from what is uploaded, then send the request again.",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
        evidence=(Evidence.FILES,),
    ),
    Entry(
        code="UploadRefused",
        title="Nothing can be uploaded there",
        cause="The path is that of registered content, which never changes.",
        fix="Upload to another path and register a new version, for instance: moor model create",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=403,
    ),
    Entry(
        code="UserError",
        title="The content of a version cannot be changed",
        cause="A version was sent again with another path. Clients of the ecosystem know this answer by its code and "
        "its words, and tell their users what to do.",
        fix="Register it under another version: set `version:` to one that is not taken, or leave it out.",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
    ),
)
