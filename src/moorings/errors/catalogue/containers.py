"""Failures of the Docker Engine, of images and of registries."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Step

_UPDATE = "moor online-deployment update -f <deployment.yml>"

_ENGINE = (
    Entry(
        code="DockerEngineNotAvailable",
        title="The Docker Engine does not answer",
        cause="This workspace runs its instances in containers, and nothing listens where its Docker Engine should "
        "be. Containers that run already are not touched by this.",
        fix="Start it (sudo systemctl start docker) until `docker -H {host} version` answers; what waits goes on by "
        'itself. Where it listens elsewhere: put "docker": {{"host": "unix:///path/docker.sock"}} into '
        "settings.json, then: moor workspace stop && moor workspace start",
        fault=Fault.MACHINE,
        step=Step.INSTANCE,
        http_status=503,
        retryable=True,
        evidence=(Evidence.REGISTRY,),
    ),
    Entry(
        code="DockerAccessDenied",
        title="The Docker Engine does not let this user in",
        cause="Its socket belongs to root and a group this user is not in.",
        fix="sudo usermod -aG docker $USER, log in anew, then: moor workspace stop && moor workspace start",
        fault=Fault.MACHINE,
        step=Step.INSTANCE,
        http_status=503,
        evidence=(Evidence.REGISTRY,),
    ),
    Entry(
        code="DockerHostRemote",
        title="The Docker Engine is not one of this machine",
        cause="Model, code and sockets are shared with containers through folders of this machine.",
        fix='Name a socket of this machine in settings.json ("docker": {{"host": "unix:///var/run/docker.sock"}}), '
        "then: moor workspace stop && moor workspace start",
        fault=Fault.USER,
        step=Step.INSTANCE,
        http_status=400,
    ),
    Entry(
        code="DockerRequestFailed",
        title="The Docker Engine refused a request",
        cause="It answered with an error that has no code of its own here.",
        fix="Its own words are above; its log has more (journalctl -u docker). Then: " + _UPDATE,
        fault=Fault.MACHINE,
        step=Step.INSTANCE,
        http_status=502,
        retryable=True,
        evidence=(Evidence.REGISTRY,),
    ),
    Entry(
        code="DockerDiskFull",
        title="No space is left for images or containers",
        cause="The disk (or the quota) of the Docker Engine's data folder is full.",
        fix="Free space there (docker system df; docker image prune), then: " + _UPDATE,
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=507,
        retryable=True,
        numeric="ERR_1350",
        evidence=(
            Evidence.REGISTRY,
            Evidence.BUILD_LOG,
        ),
        family="OutOfQuota",
    ),
    Entry(
        code="WorkspaceEngineFixed",
        title="The engine of a workspace cannot change under its deployments",
        cause="Instances of another engine are still there, and nobody would look after them.",
        fix="Stop the workspace and start it with the other engine (moor workspace stop && moor workspace start --engine "
        "<engine>), once no instance of the one it has is left. What runs: moor workspace status",
        fault=Fault.USER,
        step=Step.CLIENT,
        http_status=409,
    ),
)

_IMAGES = (
    Entry(
        code="ImageNotFound",
        title="The image does not exist",
        cause="Neither this machine nor the registry has an image of this name and tag.",
        fix="See what is there (docker image ls; docker pull {image}; in the workspace's registry: moor acr repository "
        "show-tags -n {registry} --repository {repository} --orderby time_desc --output table), correct "
        "`environment.image` or the FROM of the Dockerfile, or give the name another meaning in settings.json "
        '("image_aliases"), then: ' + _UPDATE,
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        numeric="ERR_1200",
        evidence=(Evidence.REGISTRY,),
        family="BadArgument",
        aliases=("UnableToDownloadUserContainerImage",),
    ),
    Entry(
        code="ImagePullDenied",
        title="The registry refuses to give the image",
        cause="The registry is there, but the credentials we have for it are missing, wrong or not enough.",
        fix='docker login {registry} (as the user the workspace runs as), or "registry" in settings.json; then: '
        + _UPDATE,
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        numeric="ERR_1200",
        evidence=(Evidence.REGISTRY,),
        family="BadArgument",
        aliases=(
            "ContainerRegistryInaccessible",
            "ContainerRegistryPrivate",
        ),
    ),
    Entry(
        code="ImagePushDenied",
        title="The registry refuses to take the image",
        cause="The credentials we have for the workspace's registry are missing, wrong or not enough.",
        fix='docker login {registry} (as the user the workspace runs as), or "registry" in settings.json; then: '
        + _UPDATE,
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.REGISTRY,),
        family="ImageBuildFailure",
        aliases=(
            "RegistryAuthorizationFailure",
            "ContainerRegistryAuthorizationFailure",
        ),
    ),
    Entry(
        code="RegistryUnreachable",
        title="The image registry does not answer",
        cause="It is down, its name does not resolve, or the network (a proxy, TLS) is in the way.",
        fix="See that it answers: docker pull {image}   Then: " + _UPDATE,
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=503,
        retryable=True,
        numeric="ERR_1200",
        evidence=(Evidence.REGISTRY,),
        family="BadArgument",
    ),
    Entry(
        code="RegistryNotConfigured",
        title="The workspace has no image registry",
        cause="A registry was asked about, and the settings of the workspace name none.",
        fix='Put "registry": {{"repository": "<host>/<team>"}} into {settings}, then: '
        "moor workspace stop && moor workspace start",
        fault=Fault.USER,
        step=Step.CLIENT,
        http_status=400,
    ),
    Entry(
        code="RegistryNotAttached",
        title="The workspace has another image registry",
        cause="The name given is neither the address of the workspace's registry nor the first label of it.",
        fix="moor acr repository show-tags -n {registry} --repository {repository} --orderby time_desc --output table",
        fault=Fault.USER,
        step=Step.CLIENT,
        http_status=404,
    ),
    Entry(
        code="RepositoryNotFound",
        title="The registry has no such repository",
        cause="Nothing was pushed there under this name, or its last tag is gone. It is named without registry and tag.",
        fix="Name one that is there: moor acr repository show-tags -n {registry} --repository {repository} "
        "--orderby time_desc --output table",
        fault=Fault.USER,
        step=Step.CLIENT,
        http_status=404,
        evidence=(
            Evidence.CHOICES,
            Evidence.REGISTRY,
        ),
    ),
    Entry(
        code="ImageBuildFailure",
        title="The image cannot be built",
        cause="A step of the Dockerfile ended with an error.",
        fix="Correct that step; the whole build log: moor environment build-log --key {key}   Then: "
        + _UPDATE,
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.BUILD_LOG,),
        aliases=("ImageBuildFailed",),
    ),
    Entry(
        code="BuildContextMissing",
        title="The build context is not there",
        cause="The folder of `environment.build.path`, or the Dockerfile in it, could not be read.",
        fix="Correct `environment.build`, then: " + _UPDATE,
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        family="ImageBuildFailure",
    ),
    Entry(
        code="ImagePythonMissing",
        title="The image has no Python that the environment can use",
        cause="Packages are installed for a Python of the base image, and it has none of the version asked for.",
        fix="Name a base image with that Python in `environment.image`, or ask for one of the versions named above "
        "in the conda file, then: " + _UPDATE,
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.CHOICES,),
        family="ImageBuildFailure",
    ),
    Entry(
        code="ImageUnusable",
        title="The inference server does not run in the image",
        cause="The image was built, but Python could not import the inference server in it.",
        fix="Its words are above: usually a C library that is missing, or one that is older than the packages need. "
        "Choose another base image, then: " + _UPDATE,
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.BUILD_LOG,),
        family="ImageBuildFailure",
    ),
)

ENTRIES: tuple[Entry, ...] = (*_ENGINE, *_IMAGES)
