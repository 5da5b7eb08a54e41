"""Named stores outside this machine, with their credentials: the file `datastores.json` of the workspace, read anew each
time. Opens no store."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from moorings.errors.exceptions import MooringsError, error
from moorings.errors.sentence import verbatim


class Datastore(BaseModel):
    """One entry. `credentials` takes the names of the service:

    s3: `access_key_id`, `secret_access_key`, `session_token`; azure_blob: `account_key`, `sas_token`, or
    `tenant_id`, `client_id`, `client_secret`; gcs: `service_account_key` (its JSON as text) or `bearer_token`.
    Without credentials those of the daemon's environment are used, and without those either none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["s3", "azure_blob", "azure_data_lake_gen2", "gcs", "local"]
    bucket: str = ""
    """s3 and gcs."""
    account_name: str = ""
    """Azure."""
    container_name: str = ""
    """Azure."""
    endpoint: str = ""
    """Another server that speaks the same protocol, `https://host:port`."""
    region: str = ""
    """s3."""
    path: str = ""
    """local: an absolute folder of this machine."""
    credentials: Mapping[str, SecretStr] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Datastore:
        needed = {
            "s3": ("bucket",),
            "gcs": ("bucket",),
            "local": ("path",),
        }.get(self.type, ("account_name", "container_name"))
        missing = [key for key in needed if not getattr(self, key)]
        if missing:
            raise ValueError(f"a datastore of type {self.type} needs {' and '.join(missing)}")
        if self.path and not self.path.startswith("/"):
            raise ValueError("path must be absolute")
        unknown = set(self.credentials) - _CREDENTIALS.get(self.type, frozenset())
        if unknown:
            raise ValueError(f"credentials of type {self.type} are none of {', '.join(sorted(unknown))}")
        return self


_AZURE = frozenset({"account_key", "sas_token", "tenant_id", "client_id", "client_secret"})
_CREDENTIALS = {
    "s3": frozenset({"access_key_id", "secret_access_key", "session_token"}),
    "azure_blob": _AZURE,
    "azure_data_lake_gen2": _AZURE,
    "gcs": frozenset({"service_account_key", "bearer_token"}),
}


def read_datastores(path: Path) -> dict[str, Datastore]:
    """Every datastore by name; {} without a file.

    Raises `DatastoreInvalid` (the user's fault): no JSON, wrong entries (all of them named), or a file that others
    may read although it holds secrets.
    """
    try:
        with path.open("rb") as handle:
            mode = stat.S_IMODE(path.stat().st_mode)
            data = json.load(handle)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise _invalid(path, f"{path}: {problem}") from None
    if mode & 0o077:
        raise error(
            "DatastoreInvalid",
            f"{path} may be read by others (mode {mode:o}), and holds credentials",
            target=str(path),
            fix=verbatim(f"chmod 600 {path}"),
        )
    if not isinstance(data, dict):
        raise _invalid(path, f"{path}: expected an object: name -> datastore")
    found: dict[str, Datastore] = {}
    problems: list[str] = []
    for name, entry in data.items():
        try:
            found[name] = Datastore.model_validate(entry)
        except ValidationError as problem:
            problems += [
                f"{'.'.join([name, *map(str, each['loc'])])}: {each['msg']}"
                for each in problem.errors(include_input=False)
            ]
    if problems:
        raise _invalid(path, f"{path}: {problems[0]}", problems)
    return found


def _invalid(path: Path, message: str, evidence: list[str] | None = None) -> MooringsError:
    return error(
        "DatastoreInvalid", message, target=str(path), evidence=evidence or (), fields={"path": path}
    )
