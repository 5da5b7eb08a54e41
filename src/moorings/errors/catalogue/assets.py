"""Failures of storing models and code, and of laying them out for an instance."""

from __future__ import annotations

from moorings.errors.entry import Entry, Fault, Step

ENTRIES: tuple[Entry, ...] = (
    Entry(
        code="AssetSourceMissing",
        title="The model or code path does not exist",
        cause="Nothing is at the path that was given, or it is neither a file nor a folder.",
        fix="Correct the path in the YAML; it is relative to the YAML file. Look at it: ls -ld {path}",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
    ),
    Entry(
        code="AssetLinkEscapes",
        title="A symbolic link points out of the folder",
        cause="A link inside the model or code folder leads to a file outside of it, which would not travel "
        "along.",
        fix="Put the files themselves there, for instance: cp -rL {path} {path}-copied",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
    ),
    Entry(
        code="AssetLinkBroken",
        title="A symbolic link leads nowhere",
        cause="A link inside the model or code folder names a missing file, or leads back to itself.",
        fix="Remove or repair the links named above. To see them: find {path} -xtype l",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
    ),
    Entry(
        code="AssetNotAFile",
        title="The folder holds something that is neither a file nor a folder",
        cause="Devices, sockets and pipes have no content that can be stored.",
        fix="Remove them, or name them in .amlignore. To see them: find {path} -not -type f -not -type d "
        "-not -type l",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
    ),
    Entry(
        code="AssetUnreadable",
        title="Files of the model or code cannot be read",
        cause="The user that runs the workspace has no right to read them, or the disk fails.",
        fix="Give it the right: chmod -R u+rX {path}",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
    ),
    Entry(
        code="AssetInsideHome",
        title="The path overlaps the workspace's own folder",
        cause="Models and code are copied into the workspace folder, so they cannot be read from it, nor "
        "from a folder around it.",
        fix="Move the files elsewhere and name that place, for instance: cp -r {path} ~/model",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
    ),
    Entry(
        code="AssetChanging",
        title="A file kept changing while it was read",
        cause="Something writes to the model or code folder, so no one version of it could be stored.",
        fix="Wait until the writer has finished, then send the request again. Who writes: lsof {path}",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=409,
        retryable=True,
    ),
    Entry(
        code="AssetStoreFull",
        title="No space is left to store the model or code",
        cause="The disk (or the quota) of the workspace folder is full. Nothing of this asset was kept.",
        fix="Free space, or choose a larger disk with MOORINGS_HOME. How much there is: df -h {store}",
        fault=Fault.MACHINE,
        step=Step.ASSETS,
        http_status=507,
        retryable=True,
    ),
    Entry(
        code="AssetStoreUnwritable",
        title="The folder of stored models and code cannot be used",
        cause="The workspace folder is read-only, belongs to somebody else, or its disk fails.",
        fix="Look at it: ls -ld {store} && df -h {store}",
        fault=Fault.MACHINE,
        step=Step.ASSETS,
        http_status=500,
    ),
    Entry(
        code="AssetSchemeUnknown",
        title="This kind of address is not supported",
        cause="Models and code are read from this machine's disk; other kinds of addresses are not known "
        "here.",
        fix="Download it first and give the local path (or {supported}). Then: moor online-deployment create -f <file>",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
    ),
    Entry(
        code="ArtifactsUnavailable",
        title="Stored model or code files are missing or damaged",
        cause="The instance needs files that are no longer in the workspace's store, or not as they were "
        "stored.",
        fix="Deploy again, which stores them anew: moor online-deployment update -f <file>",
        fault=Fault.MACHINE,
        step=Step.ASSETS,
        http_status=500,
        numeric="ERR_1300",
    ),
    Entry(
        code="ArtifactsTooLarge",
        title="The model is larger than the free space of the disk",
        cause="The sizes were asked for before the download: it would not fit on the disk of the workspace folder. "
        "Nothing was downloaded.",
        fix="Free space, or choose a larger disk with MOORINGS_HOME. How much there is: df -h {store}",
        fault=Fault.MACHINE,
        step=Step.ASSETS,
        http_status=507,
        retryable=True,
        numeric="ERR_1350",
    ),
    Entry(
        code="ArtifactsNoSpace",
        title="No space is left to lay out the model for an instance",
        cause="The disk (or the quota) that holds the instances is full.",
        fix="Free space on that disk, or delete deployments that are not used: df -h {target}",
        fault=Fault.MACHINE,
        step=Step.ASSETS,
        http_status=507,
        retryable=True,
        numeric="ERR_1350",
    ),
)
