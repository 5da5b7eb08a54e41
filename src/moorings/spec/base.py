"""What all spec models share: frozen, unknown keys refused, names checked (behaviour reference, section
1.2)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

NAME_PATTERN = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
"""Endpoint and deployment names: start with a letter, letters, digits and hyphens, end with a letter or
digit; 3-32."""
ASSET_NAME_PATTERN = r"^[a-zA-Z0-9][a-zA-Z0-9\-_.]{0,254}$"

OBJECT_TAG = "(object)"
REFERENCE_TAG = "(reference)"
"""Names of the two forms of a key that takes an inline object or a reference; they occur in pydantic's error
paths."""


def object_or_reference(value: Any) -> str:
    """Which of the two forms `value` has."""
    return REFERENCE_TAG if isinstance(value, str) else OBJECT_TAG


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"found {str(value).lower()}; expected a whole number")  # noqa: TRY004 - pydantic takes ValueError
    return value


ResourceName = Annotated[str, StringConstraints(min_length=3, max_length=32, pattern=NAME_PATTERN)]
AssetName = Annotated[str, StringConstraints(pattern=ASSET_NAME_PATTERN)]
NO_BOOL = BeforeValidator(_no_bool)
"""For ints: `true` is not taken for 1. Last in an `Annotated`, so that the limits stay in the JSON Schema."""


class Spec(BaseModel):
    """Base of every spec value."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )
