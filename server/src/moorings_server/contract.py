"""The runtime contract between whoever starts an instance and the inference server in it: names, routes, exit codes.

`moorings_server/contract.py` is this file, byte for byte (a test compares them): the two distributions share these
constants and nothing else. Python 3.8 syntax only.
"""

# --- environment of a worker process -------------------------------------------------------------------------------
ENV_SOCKET = "MOORINGS_SOCKET"
"""Path of the unix socket this worker appears on. The worker binds a temporary name and renames it to this path once
`init()` has returned, so a path that can be connected to is a worker that is ready."""
ENV_MAX_CONCURRENT = "MOORINGS_MAX_CONCURRENT"
"""How many `run()` calls this worker process may have at once (>= 1); further requests wait in it, first come first served."""
ENV_WORKER_INDEX = "MOORINGS_WORKER_INDEX"
ENV_INSTANCE_ID = "MOORINGS_INSTANCE_ID"
ENV_OWNER = "MOORINGS_OWNER"
"""`<endpoint>/<deployment>`; identity travels with the process."""
ENV_WORKSPACE_ID = "MOORINGS_WORKSPACE_ID"
ENV_BOOT_REPORT = "MOORINGS_BOOT_REPORT"
"""Path of a JSON file the worker writes when it is ready or has failed to boot (see BOOT_* below)."""
ENV_DRAIN_S = "MOORINGS_DRAIN_S"
"""After SIGTERM: the most seconds to finish running and queued requests before exit (default 30)."""
ENV_BATCH_MAX_SIZE = "MOORINGS_BATCH_MAX_SIZE"
"""Requests that one call of `run()` may get as a list; 0 or unset: what the script itself says."""
ENV_BATCH_MAX_WAIT_MS = "MOORINGS_BATCH_MAX_WAIT_MS"
"""The most milliseconds a batch is held back to fill; unset: what the script itself says."""

ENV_MODEL_DIR = "AZUREML_MODEL_DIR"
ENV_APP_ROOT = "AML_APP_ROOT"
ENV_ENTRY_SCRIPT = "AZUREML_ENTRY_SCRIPT"
ENV_WORKER_COUNT = "WORKER_COUNT"
ENV_WORKER_TIMEOUT_S = "WORKER_TIMEOUT"
ENV_SCORING_TIMEOUT_MS = "SCORING_TIMEOUT_MS"

# --- routes ---------------------------------------------------------------------------------------------------------
ROUTE_HEALTH = "/"
ROUTE_SCORE = "/score"
ROUTE_SWAGGER = "/swagger.json"
HEALTHY_BODY = b"Healthy"
HUNG_BODY = b"No place is free: every one is taken by a run() beyond its time limit"
"""Of the 503 that a probe gets then."""

# --- comparing two deployments' answers -----------------------------------------------------------------------------
HEADER_COMPARE = "x-moorings-compare"
"""A request with this header (the gateway adds it while a rollout copies requests) has its answer kept for a moment."""
HEADER_COLLECT = "x-moorings-collect"
"""Which of them are wanted: request ids with commas, or `*` for the newest. The gateway takes it off what callers send."""
ROUTE_KEPT = "/moorings/kept"
KEPT_AT_ONCE = 32
"""Answers in one document: {"answers": [[id, status, ms, length, digest, body in Base64]], "skipped"}."""

# --- exit codes -----------------------------------------------------------------------------------------------------
EXIT_OK = 0
EXIT_USAGE = 1
EXIT_BOOT_FAILED = 3
"""The user's code, environment or settings failed at boot; the boot report says how. Not worth an immediate retry."""
EXIT_RUN_STUCK = 6
"""A `run()` took longer than WORKER_TIMEOUT, or calls beyond their time limit took every place; the worker ended itself, and
the log holds its stack. Worth a new start."""

STACKS_SIGNAL = "SIGUSR2"
"""Name of the signal that makes a worker print where all its threads are; it goes on meanwhile. Sent only to a process
that catches it."""

# --- boot report: {"outcome", "pid", "seconds", "kind", "message", "traceback", "file", "line", "text", "missing"} ---
BOOT_READY = "ready"
BOOT_FAILED = "failed"
KIND_SCRIPT_MISSING = "script_missing"
KIND_SYNTAX_ERROR = "syntax_error"
KIND_IMPORT_ERROR = "import_error"
"""`missing` holds the top-level module name that could not be imported."""
KIND_SCRIPT_RAISED = "script_raised"
"""The script's top level raised something else while it was imported."""
KIND_FUNCTION_MISSING = "function_missing"
"""`missing` holds `init` or `run` (or `init, run`)."""
KIND_BAD_SIGNATURE = "bad_signature"
KIND_INIT_RAISED = "init_raised"
KIND_MODEL_PATH = "model_path"
"""`init()` raised FileNotFoundError (or alike) for a path below the model folder; `missing` holds the path."""
KIND_BAD_SETTINGS = "bad_settings"
