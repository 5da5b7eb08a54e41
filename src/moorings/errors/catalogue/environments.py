"""Failures of building environments."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Step

ENTRIES: tuple[Entry, ...] = (
    Entry(
        code="EnvironmentNotTranslatable",
        title="The conda file asks for things that cannot be installed from the package index",
        cause="Environments are built from Python packages; the named entries have no Python package of the "
        "same "
        "content, or are written in a form that is not understood.",
        fix="Change or remove the entries named above, then: moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.PACKAGES,),
        family="ImageBuildFailure",
    ),
    Entry(
        code="EnvironmentNeedsContainer",
        title="This environment can only run as a container",
        cause="A build context or an inference_config describes an image with a server of its own; "
        "instances run as "
        "processes here.",
        fix="Use a workspace whose instances are containers (moor workspace start --engine docker), or give a "
        "conda_file and a scoring script instead; then: moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
    ),
    Entry(
        code="ScoringMissing",
        title="Nothing would answer requests",
        cause="A deployment is served by a scoring script (`code_configuration`), by an MLflow model, or by an image "
        "that has a server of its own and says where (`environment.inference_config`).",
        fix="Add one of them, then: moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
    ),
    Entry(
        code="CondaChannelUnreachable",
        title="A conda channel cannot be reached",
        cause="The network, a proxy or the channel itself is at fault, and environments.conda_solver is set to "
        "conda, so that the file is not translated to Python packages instead.",
        fix="Check the address of the channel and the network; a proxy is set with HTTPS_PROXY before "
        "moor workspace start. To translate such files: environments.conda_solver=auto in settings.json",
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=503,
        retryable=True,
        family="ImageBuildFailure",
    ),
    Entry(
        code="CondaSpecInvalid",
        title="An entry of the conda file is no match spec",
        cause="Conda expects name, name=version, name>=version or name=version=build.",
        fix="Correct the entries named above, then: moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.PACKAGES,),
        family="ImageBuildFailure",
    ),
    Entry(
        code="CondaPackageNotFound",
        title="No channel has what the conda file names",
        cause="The named packages, or the named versions of them, are in none of the file's channels for this "
        "kind of machine.",
        fix="Correct the entries named above, add the channel that has them, or list Python packages under pip:; "
        "then: moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(
            Evidence.BUILD_LOG,
            Evidence.PACKAGES,
        ),
        family="ImageBuildFailure",
    ),
    Entry(
        code="CondaUnsatisfiable",
        title="The conda packages asked for contradict each other",
        cause="No set of versions in the channels fulfils everything the file and its packages ask for.",
        fix="Loosen or change one of the entries named above, then: moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(
            Evidence.BUILD_LOG,
            Evidence.PACKAGES,
        ),
        family="ImageBuildFailure",
    ),
    Entry(
        code="CondaInstallFailed",
        title="A conda package could not be installed",
        cause="It could not be fetched or unpacked, or it is not what the channel says it is.",
        fix="Read the whole log: moor environment build-log --key {key}; then send the same file again",
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=503,
        retryable=True,
        evidence=(Evidence.BUILD_LOG,),
        family="ImageBuildFailure",
    ),
    Entry(
        code="MlflowModelInvalid",
        title="The folder is no MLflow model",
        cause="A model of type mlflow_model is a folder that MLflow has saved. The file MLmodel in it (the one nearest "
        "to the top) is read when the model is registered; it is missing, or it is not what MLflow writes.",
        fix="Let path lead to the folder that MLflow has saved (to look: find <path> -name MLmodel), or give "
        "type: custom_model; then: moor model create -f <file>",
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=400,
        evidence=(Evidence.FILES,),
    ),
    Entry(
        code="MlflowFlavorMissing",
        title="The MLflow model cannot be loaded as a Python function",
        cause="A model of type mlflow_model is served through its python_function flavor, and its MLmodel file "
        "has none.",
        fix="Save the model with a flavor that has one (mlflow.sklearn, mlflow.pyfunc, ...), or deploy it as "
        "custom_model with a scoring script; then: moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
    ),
    Entry(
        code="TritonModelNotServable",
        title="The model repository cannot be served without a container",
        cause="A triton_model without environment and code is served by onnxruntime, which needs ONNX files: "
        "<model>/<version>/model.onnx. Other kinds of models need the Triton server itself.",
        fix="Export the model to ONNX; or name an image that holds the Triton server as environment.image, "
        "with an inference_config; then: moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.FILES,),
    ),
    Entry(
        code="PythonNotFound",
        title="The Python version asked for is not on this machine",
        cause="No installed interpreter satisfies the environment, and none could be fetched.",
        fix="Install it, or ask for one of the versions named above in the conda file: uv python install "
        "{version}",
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.CHOICES,),
        family="ImageBuildFailure",
    ),
    Entry(
        code="PythonUnsupported",
        title="The Python version asked for is too old",
        cause="The inference server needs Python 3.8 or newer.",
        fix="Ask for a newer one in the conda file (python=3.8 or later), then: "
        "moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        family="ImageBuildFailure",
    ),
    Entry(
        code="EnvironmentUnsatisfiable",
        title="The packages asked for contradict each other",
        cause="No set of versions fulfils everything the environment and its packages ask for.",
        fix="Loosen or change one of the pins named above, then: moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(
            Evidence.BUILD_LOG,
            Evidence.PACKAGES,
        ),
        family="ImageBuildFailure",
    ),
    Entry(
        code="PackageNotFound",
        title="A package does not exist",
        cause="The package index has no package of this name: a typing error, another name than in conda, "
        "or a "
        "package of a private index.",
        fix="Correct the name of {package} (to look: uv pip install --dry-run {package}); for a private "
        "index set "
        "UV_INDEX=<url> and start again: moor workspace start",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(
            Evidence.BUILD_LOG,
            Evidence.PACKAGES,
        ),
        family="ImageBuildFailure",
    ),
    Entry(
        code="PackageVersionNotFound",
        title="This version of a package does not exist",
        cause="The package index has the package, but no version of it that was asked for.",
        fix="Ask for a version that exists. To see what is chosen without a pin: uv pip install --dry-run "
        "{package}",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(
            Evidence.BUILD_LOG,
            Evidence.PACKAGES,
        ),
        family="ImageBuildFailure",
    ),
    Entry(
        code="NoWheelForPython",
        title="A package does not exist for this version of Python",
        cause="The version of the package that was asked for is made for other Python versions.",
        fix="Take a newer {package}, or another python= in the conda file, then: "
        "moor online-deployment update -f <file>",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(
            Evidence.BUILD_LOG,
            Evidence.PACKAGES,
        ),
        family="ImageBuildFailure",
    ),
    Entry(
        code="PackageBuildFailed",
        title="A package had to be compiled, and that failed",
        cause="There is no ready-made file of this package for this Python and machine, and building it "
        "from source "
        "ended with an error (often a missing compiler or system library, or a Python that is too new for "
        "it).",
        fix="Take a version of {package} with a ready-made file for this Python, another python=, or "
        "install what the "
        "compiler misses. The whole log: moor environment build-log --key {key}",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.BUILD_LOG,),
        family="ImageBuildFailure",
    ),
    Entry(
        code="IndexUnreachable",
        title="The package index cannot be reached",
        cause="The network, a proxy, a certificate or the index itself is at fault.",
        fix="Check the network; a proxy or a mirror is set with HTTPS_PROXY, UV_INDEX_URL and SSL_CERT_FILE "
        "before "
        "moor workspace start. To try it: uv pip install --dry-run {package}",
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=503,
        retryable=True,
        evidence=(Evidence.BUILD_LOG,),
        family="ImageBuildFailure",
    ),
    Entry(
        code="EnvironmentDiskFull",
        title="No space is left to build the environment",
        cause="The disk (or the quota) of the workspace folder or of the package cache is full.",
        fix="Free space (uv cache prune frees the package cache). How much there is: df -h {path}",
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=507,
        retryable=True,
        evidence=(Evidence.BUILD_LOG,),
        family="OutOfQuota",
    ),
    Entry(
        code="EnvironmentBuildFailed",
        title="Building the environment failed",
        cause="The installer ended with an error that has no name of its own; its last lines are the "
        "evidence.",
        fix="Read the whole log: moor environment build-log --key {key}",
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=400,
        evidence=(Evidence.BUILD_LOG,),
        family="ImageBuildFailure",
    ),
    Entry(
        code="InstallerNotFound",
        title="The package installer is missing",
        cause="The program uv, which is installed along with Moorings, is not there any more.",
        fix="Install it again: python -m pip install uv",
        fault=Fault.MACHINE,
        step=Step.ENVIRONMENT,
        http_status=500,
    ),
    Entry(
        code="InferenceServerMissing",
        title="The inference server is not installed beside Moorings",
        cause="Every environment gets a copy of the package moorings-server, and it is not there.",
        fix="Install it again: python -m pip install --force-reinstall moorings",
        fault=Fault.PLATFORM,
        step=Step.ENVIRONMENT,
        http_status=500,
    ),
)
