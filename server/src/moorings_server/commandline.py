"""The arguments of `moorings-server`, and which mode they ask for. Errors end with a sentence and exit code
1."""

from __future__ import annotations

import argparse
import os
import sys
from typing import List, Mapping, NoReturn, Optional

from moorings_server import __version__, contract

DEFAULT_HEALTH_PORT = 5000
DESCRIPTION = """\
Serve a scoring script over HTTP: init() is called once in each worker, run() for each request to /score.
"""
EPILOG = """\
example:
  moorings-server --entry-script score.py --model-dir ./model
  curl -d '{"data": [1, 2]}' http://127.0.0.1:5001/score

exit codes: 0 stopped, 1 wrong arguments or the port is taken, 3 the script failed to boot (the log says why)
"""


class Parser(argparse.ArgumentParser):
    """Usage errors show the help and end with EXIT_USAGE."""

    def error(self, message: str) -> NoReturn:
        self.print_help(sys.stderr)
        sys.stderr.write("\nerror: %s\n" % message)
        raise SystemExit(contract.EXIT_USAGE)


def parser() -> Parser:
    made = Parser(
        prog="moorings-server",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def option(name: str, **details: object) -> None:
        spellings = [name] if "-" not in name[2:] else [name, "--" + name[2:].replace("-", "_")]
        made.add_argument(*spellings, **details)  # type: ignore[arg-type]

    option("--entry-script", metavar="FILE", help="the scoring script, with init() and run()")
    option(
        "--model-dir", metavar="DIR", help="the folder of the model; the script finds it in AZUREML_MODEL_DIR"
    )
    option(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="address to listen on (default %(default)s)"
    )
    option("--port", metavar="N", type=int, default=5001, help="port to listen on (default %(default)s)")
    option(
        "--health-port",
        metavar="N",
        type=int,
        help="with SEPERATE_HEALTH_ENDPOINT=true: a second port for probes (default 5000)",
    )
    option("--worker-count", metavar="N", type=int, help="worker processes (default 1, or WORKER_COUNT)")
    option(
        "--access-control-allow-origins",
        metavar="LIST",
        help="web pages whose scripts may read answers: a comma list of origins, or * for all",
    )
    option(
        "--appinsights-instrumentation-key",
        metavar="KEY",
        help="accepted; this server exports nothing to Application Insights",
    )
    option("--config-file", metavar="FILE", help="JSON file with settings; the environment wins over it")
    made.add_argument("--version", action="version", version="moorings-server " + __version__)
    made.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    made.add_argument("--listen-fd", type=int, action="append", default=[], help=argparse.SUPPRESS)
    return made


def _check(
    made: Parser, arguments: argparse.Namespace, entry: Optional[str], environ: Mapping[str, str]
) -> None:
    """End with a sentence when an argument cannot be used."""
    if entry and not os.path.isfile(os.path.join(environ.get(contract.ENV_APP_ROOT) or ".", entry)):
        made.error("the scoring script %s does not exist" % entry)
    if arguments.model_dir and not os.path.exists(arguments.model_dir):
        made.error("the model folder %s does not exist" % arguments.model_dir)
    for name, number in (("--port", arguments.port), ("--health-port", arguments.health_port or 0)):
        if not 0 <= number <= 65535:
            made.error("%s must be between 0 and 65535" % name)


def main(argv: List[str], environ: Mapping[str, str]) -> int:
    """Run the mode that `argv` asks for; returns the exit code."""
    made = parser()
    arguments = made.parse_args(argv)
    if arguments.worker:
        from moorings_server import worker

        return worker.main(environ, arguments.listen_fd)
    from moorings_server import parent

    config_file: Optional[str] = arguments.config_file or environ.get("AZUREML_CONFIG_FILE")
    entry = arguments.entry_script or environ.get(contract.ENV_ENTRY_SCRIPT)
    if not entry and not config_file:
        made.error("give the scoring script with --entry-script FILE (or a --config-file that names it)")
    _check(made, arguments, entry, environ)
    count_text = str(arguments.worker_count or environ.get(contract.ENV_WORKER_COUNT) or 1)
    if not count_text.isdigit() or int(count_text) < 1:
        made.error("the number of workers must be a whole number of at least 1, not %s" % count_text)
    changed = dict(environ)
    if entry:
        changed[contract.ENV_ENTRY_SCRIPT] = entry
    if arguments.model_dir:
        changed[contract.ENV_MODEL_DIR] = os.path.abspath(arguments.model_dir)
    if config_file:
        changed["AZUREML_CONFIG_FILE"] = config_file
    if arguments.access_control_allow_origins:
        changed["AML_CORS_ORIGINS"] = arguments.access_control_allow_origins
    if arguments.appinsights_instrumentation_key:
        changed["AML_APP_INSIGHTS_ENABLED"] = "true"
        changed["AML_APP_INSIGHTS_KEY"] = arguments.appinsights_instrumentation_key
    health_port: Optional[int] = None
    if environ.get("SEPERATE_HEALTH_ENDPOINT", "").strip().lower() == "true":
        health_port = DEFAULT_HEALTH_PORT if arguments.health_port is None else arguments.health_port
    return parent.main(changed, arguments.host, arguments.port, int(count_text), health_port)
