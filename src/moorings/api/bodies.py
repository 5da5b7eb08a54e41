"""JSON bodies of requests, as all handlers take them."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Body
from pydantic import AfterValidator

Json = dict[str, Any]


def _unicode(body: Json) -> Json:
    """Refuses lone surrogates, which JSON can write but no file, log or answer can hold."""
    json.dumps(body, ensure_ascii=False).encode()
    return body


JsonBody = Annotated[Json, AfterValidator(_unicode), Body()]
