"""Run the table against any base URL:

    python tests/conformance/run.py http://127.0.0.1:8650 --key KEY --token TOKEN --idle-key KEY --home-key KEY

Behind it are four endpoints with the model of `score.py`: `conf` (keys; deployments `echo` with all the traffic
and `short` with a request timeout of 400 ms), `strict` (tokens; `max_request_bytes` 1000; a deployment `echo`
with all the traffic), `idle` (keys; no deployment) and `home` (made with `--local`; a deployment `echo` with all the
traffic); none of them limited in rate. The rows of `home` ask from the machine of the gateway.
"""

from __future__ import annotations

import argparse
import sys
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from case import Target
from judge import run_case
from table import table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base_url", help="scheme, host and port; http only")
    parser.add_argument("--key", required=True, help="key of the endpoint conf")
    parser.add_argument("--token", required=True, help="token of the endpoint strict")
    parser.add_argument("--idle-key", required=True, help="key of the endpoint idle")
    parser.add_argument("--home-key", required=True, help="key of the endpoint home")
    parser.add_argument("--prefix", default="/api/v1/endpoint", help="path of the endpoints")
    parser.add_argument("--only", default="", help="run rows whose name contains this")
    options = parser.parse_args()
    url = urllib.parse.urlsplit(options.base_url)
    address = (url.hostname or "127.0.0.1", url.port or 80)
    target = Target(
        url.netloc, options.prefix, options.key, options.token, options.idle_key, options.home_key
    )
    rows = [row for row in table() if options.only in row.name]
    failed = 0
    for row in rows:
        _, differences = run_case(row, target, address)
        failed += bool(differences)
        print(f"{'FAIL' if differences else 'ok  '} {row.name}")
        for difference in differences:
            print(f"       {difference}")
    print(f"{len(rows) - failed} of {len(rows)} rows as expected")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
