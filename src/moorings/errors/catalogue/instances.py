"""Failures of instances, scoring scripts and what a failing instance shows."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Step

_LOGS = "moor online-deployment get-logs -e {endpoint} -n {deployment}"
_UPDATE = "moor online-deployment update -e {endpoint} -n {deployment} -f <deployment.yml>"


def _script(
    code: str,
    title: str,
    cause: str,
    fix: str,
    *,
    evidence: tuple[Evidence, ...] = (Evidence.TRACEBACK, Evidence.LOG),
    aliases: tuple[str, ...] = (),
) -> Entry:
    return Entry(
        code=code,
        title=title,
        cause=cause,
        fix=fix,
        fault=Fault.USER,
        step=Step.SCRIPT,
        http_status=400,
        numeric="ERR_2200",
        evidence=evidence,
        family=None if code == "ResourceNotReady" else "ResourceNotReady",
        aliases=aliases,
    )


_SCRIPTS = (
    _script(
        "ScriptMissing",
        "The scoring script is not there",
        "The code folder has no file at the path that `scoring_script` names.",
        f"Correct `code_configuration.scoring_script` (it is relative to `code`), then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.FILES, Evidence.PLACES),
    ),
    _script(
        "UserScriptSyntaxError",
        "The scoring script is not valid Python",
        "Python could not compile the script, or a module it imports, with the environment's interpreter.",
        f"Correct the line named above, then: {_UPDATE}",
        evidence=(Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
        aliases=("ScriptSyntaxError",),
    ),
    _script(
        "UserScriptImportError",
        "The scoring script imports something the environment does not have",
        "A module could not be imported: its package is not in the environment, or not in a version "
        "that has it.",
        "Add the package that brings the module to the pip list of the environment's conda_file (a module of yours: "
        "put it beside the scoring script), then: " + _UPDATE,
        evidence=(Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
    ),
    _script(
        "UserScriptFunctionNotFound",
        "The scoring script lacks a function",
        "A scoring script needs `init()` and `run(data)` at its top level.",
        f"Define {{missing}} in the script, then: {_UPDATE}",
        evidence=(Evidence.TRACEBACK, Evidence.LOG, Evidence.FILES, Evidence.PLACES),
    ),
    _script(
        "UserScriptBadSignature",
        "`init` or `run` cannot be called as it is declared",
        "`init` takes no argument; `run` takes at least one named parameter and neither *args, **kwargs nor "
        "positional-only ones.",
        f"Declare them as `def init():` and `def run(data):`, then: {_UPDATE}",
        evidence=(Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
    ),
    _script(
        "ScriptRaised",
        "The scoring script raised an exception while it was imported",
        "Code at the top level of the script, or of a module it imports, failed.",
        f"Correct the line named above, then: {_UPDATE}",
    ),
    _script(
        "UserScriptInitFailed",
        "init() of the scoring script raised an exception",
        "`init()` ran when the instance started and did not return.",
        f"Correct the line named above, then: {_UPDATE}   (the whole log: {_LOGS})",
        evidence=(Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
    ),
    _script(
        "ModelPathNotFound",
        "init() looks for a model file that is not there",
        "The path below AZUREML_MODEL_DIR that the script opens does not exist; a registered file is "
        "directly in that folder, a registered folder is a folder in it.",
        "Open what the model has, below os.environ['AZUREML_MODEL_DIR'], or register the files that the script "
        "opens, then: " + _UPDATE,
        evidence=(Evidence.TRACEBACK, Evidence.LOG, Evidence.FILES, Evidence.PLACES),
    ),
    _script(
        "VariableMissing",
        "The script needs an environment variable that is not set",
        "Instances see the variables of the deployment's `environment_variables` and a few of the machine's own (PATH, "
        "proxies); nothing else of where Moorings runs.",
        "Add {name} to environment_variables of the deployment, then: " + _UPDATE,
    ),
    _script(
        "ModelFileInvalid",
        "The model file is not what the script takes it for",
        "What was registered is empty, cut off, a pointer or a page in place of the model, or of another format.",
        "Register the file that was saved by the training, whole and in the format that the script reads (moor model "
        "create), then: " + _UPDATE,
        evidence=(Evidence.TRACEBACK, Evidence.LOG, Evidence.FILES, Evidence.PLACES),
    ),
    _script(
        "PickleVersionMismatch",
        "The model was saved with other versions than it is loaded with",
        "Pickled objects (joblib, cloudpickle and most `.pkl` files too) can be read only by versions of Python and "
        "of the packages that fit the ones that wrote them.",
        "Pin the versions of the packages that saved the model in the environment's conda_file (where it was "
        "trained: pip freeze), or save the model again, then: " + _UPDATE,
        evidence=(Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
    ),
    _script(
        "PickleClassMissing",
        "The model needs a class that is not there when it is loaded",
        "A pickle holds only the name of a class. The module that defines it has to be importable from the scoring "
        "script under the same name.",
        "Put the class into a module of its own beside the scoring script, import it from there where the model is "
        "trained, and save the model again, then: " + _UPDATE,
        evidence=(Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
    ),
    _script(
        "NativeLibraryMissing",
        "A library of the operating system is missing",
        "A Python package is there, but loads a shared library that the system of the instance does not have, or not "
        "in a new enough version.",
        "Install the system package that has the library in the image (or on this machine: apt-get install "
        "<package>), then: " + _UPDATE,
    ),
    _script(
        "PackagesIncompatible",
        "Two packages do not fit each other",
        "A compiled package was built for another version of a package it uses (often NumPy) than is installed.",
        "Pin versions of the two packages that were made for each other (often `numpy<2`), then: " + _UPDATE,
    ),
    _script(
        "FileAccessDenied",
        "The script may not read or write a file",
        "The user that the instance runs as has no permission for the file or folder named above.",
        "Write below a folder of the instance (tempfile.gettempdir()), or allow reading the file (chmod a+r), "
        f"then: {_UPDATE}",
    ),
    _script(
        "ServerSettingsInvalid",
        "The inference server refuses its settings",
        "An environment variable of the deployment, or a settings file beside the script, has a value that "
        "cannot be used.",
        f"Correct the setting named above, then: {_UPDATE}",
    ),
    _script(
        "BootTimeout",
        "The instance was not ready in time",
        "Loading the model in `init()` takes longer than the liveness probe allows, or does not end at all.",
        "See where it stays: "
        + _LOGS
        + "   If it only needs longer, raise liveness_probe.failure_threshold or "
        f".initial_delay, then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.PROBES, Evidence.PLACES),
    ),
    _script(
        "ResourceNotReady",
        "The instance runs but does not answer its readiness probe",
        "The worker processes serve, but `GET /` did not answer with 200 within the readiness probe's time.",
        "See what it does: "
        + _LOGS
        + f"   If it is only slow, raise readiness_probe.timeout, then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.PROBES),
    ),
    _script(
        "ProbeTooEarly",
        "The readiness probe gives up before the script has loaded",
        "The script was still at work when the time of the readiness probe was over "
        "(initial_delay + period x failure_threshold).",
        f"Raise readiness_probe.initial_delay or .failure_threshold, then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.PROBES, Evidence.PLACES),
    ),
    _script(
        "ProbeRouteWrong",
        "The probe asks for a path that the container does not have",
        "The server in the container answers on the port of the probe, but not with 200 at its path.",
        f"Correct inference_config.readiness_route.path (now {{route}}) of the environment, then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.PROBES),
    ),
    _script(
        "ProbePortWrong",
        "The probe asks a port that nothing listens on",
        "The server in the container listens on another port than the environment's inference_config names.",
        "Set the ports of inference_config (liveness_route, readiness_route, scoring_route) to {other}, "
        f"then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.PROBES),
    ),
    _script(
        "ProbeUnhealthy",
        "The container says that it is not ready",
        "The server in the container answers its probe with an error status.",
        f"See why: {_LOGS}   Once corrected: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.PROBES),
    ),
    _script(
        "NothingListens",
        "No program in the container listens on a port",
        "The container's command runs, but does not open the port that the environment's inference_config names.",
        "Start a server on port {port} as the container's command (on 0.0.0.0, not on 127.0.0.1), "
        f"then: {_UPDATE}   What it says: {_LOGS}",
        evidence=(Evidence.LOG, Evidence.PROBES),
    ),
    _script(
        "ListensOnLoopback",
        "The server in the container can be reached from inside only",
        "It listens on the container's own loopback address.",
        f"Let the server listen on 0.0.0.0:{{port}}, then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.PROBES),
    ),
    _script(
        "LivenessProbeFailed",
        "A worker was killed because it stopped answering",
        "The worker did not answer its liveness probe; something holds the whole process, for instance "
        "native code that does not let go of the interpreter.",
        "See what it did last: "
        + _LOGS
        + f"   If it is only slow, raise liveness_probe.timeout, then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.PROBES),
    ),
    _script(
        "CrashLoop",
        "The instance crashes again and again",
        "The worker process ends shortly after each start.",
        f"See what it says before it ends: {_LOGS}",
        evidence=(Evidence.LOG, Evidence.EXIT),
        aliases=("DeploymentCrashLoopBackOff",),
    ),
    _script(
        "KilledBySignal",
        "The worker process was ended by a signal",
        "Somebody on this machine, or the script itself, killed the process.",
        f"See what it said last: {_LOGS}   Then start it again: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.EXIT),
    ),
    _script(
        "NativeCodeCrashed",
        "Compiled code crashed the worker",
        "A compiled package did something that the operating system ends a process for (SIGSEGV, SIGABRT, SIGILL, "
        "SIGBUS, SIGFPE).",
        "Try another version of the package that is named above, then: " + _UPDATE,
        evidence=(Evidence.LOG, Evidence.EXIT, Evidence.PLACES),
    ),
    _script(
        "RunStuck",
        "run() does not end",
        "A request took longer than WORKER_TIMEOUT, or requests beyond their time limit took every place, so that the "
        "worker was replaced; its requests failed.",
        "Look at the place named above: give what it waits for a time limit. If it only needs longer, raise "
        f"request_settings.request_timeout_ms, and WORKER_TIMEOUT in environment_variables, then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.EXIT, Evidence.PLACES),
    ),
    _script(
        "WorkerDeadlocked",
        "The worker waits for something that never comes",
        "run() waits for a lock, a queue or another process without a time limit, and nobody lets go of it.",
        "Look at the place named above: release the lock in a `with` block, give the wait a time limit, do not fork "
        f"while threads hold locks, then: {_UPDATE}",
        evidence=(Evidence.LOG, Evidence.EXIT, Evidence.PLACES),
    ),
    _script(
        "UserScriptRunFailed",
        "run() of the scoring script raises an exception",
        "Requests reach the script, and it fails on them; callers get a 500.",
        f"Correct the line named above, then: {_UPDATE}   (the whole log: {_LOGS})",
    ),
    _script(
        "UserContainerCrash",
        "The instance has ended",
        "The worker process ended and left no report of why.",
        f"See what it said last: {_LOGS}",
        evidence=(Evidence.LOG, Evidence.EXIT),
        aliases=("UserContainerCrashed", "UserContainerTerminated"),
    ),
)

ENTRIES: tuple[Entry, ...] = (
    *_SCRIPTS,
    Entry(
        code="OutOfMemory",
        title="The instance ran out of memory",
        cause="Model and requests need more memory than the instance type gives, or than this "
        "machine has left.",
        fix="Choose a larger instance_type, or a smaller WORKER_COUNT (each worker loads the model), then: "
        + _UPDATE,
        fault=Fault.USER,
        step=Step.INSTANCE,
        http_status=400,
        numeric="ERR_2200",
        evidence=(
            Evidence.MEMORY,
            Evidence.EXIT,
            Evidence.LOG,
        ),
        family="OutOfQuota",
        aliases=("OutOfQuotaMemory",),
    ),
    Entry(
        code="OutOfMemoryServing",
        title="The instance ran out of memory while it served requests",
        cause="The model had loaded; what requests need on top of it is more than the instance type gives, or than "
        "this machine has left.",
        fix="Lower request_settings.max_concurrent_requests_per_instance or the size of a request, or choose a larger "
        "instance_type, then: " + _UPDATE,
        fault=Fault.USER,
        step=Step.INSTANCE,
        http_status=400,
        numeric="ERR_2200",
    ),
    Entry(
        code="ContainerCannotStart",
        title="The instance cannot be started",
        cause="The operating system refused to start a process of the instance: its interpreter is gone, or "
        "a limit of the machine is reached.",
        fix="Deploy again, which builds the environment anew if it is gone: " + _UPDATE,
        fault=Fault.MACHINE,
        step=Step.INSTANCE,
        http_status=500,
        retryable=True,
        numeric="ERR_2100",
        evidence=(
            Evidence.OPERATING_SYSTEM,
            Evidence.REGISTRY,
            Evidence.LOG,
        ),
        family="OutOfQuota",
        aliases=(
            "OutOfQuotaOther",
            "UnableToStartUserContainer",
        ),
    ),
    Entry(
        code="DiskFull",
        title="No space is left on the disk",
        cause="The instance, or what starts it, could not write because a disk (or a quota) is full.",
        fix="Free space on the disk named above (see: df -h), then: " + _UPDATE,
        fault=Fault.MACHINE,
        step=Step.INSTANCE,
        http_status=507,
        retryable=True,
        numeric="ERR_1350",
        evidence=(
            Evidence.OPERATING_SYSTEM,
            Evidence.DISK,
            Evidence.LOG,
        ),
        family="OutOfQuota",
    ),
    Entry(
        code="LogContainerUnknown",
        title="There is no container of this name",
        cause="An instance has the containers `inference-server` and `storage-initializer`.",
        fix="Name one of the two: moor online-deployment get-logs -e <endpoint> -n <deployment> "
        "--container storage-initializer",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
    ),
)
