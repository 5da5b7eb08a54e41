"""The words around an entry, where people read it: headings, and what the values of its attributes are called. English;
`errors.language` has the other languages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from moorings.errors.entry import WORDS_OF_EVIDENCE

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "cause": "Cause",
        "fix": "What to do",
        "fix_short": "Fix",
        "confidence": "Confidence",
        "confidence.certain": "certain",
        "confidence.likely": "likely",
        "confidence.possible": "possible",
        "request_id": "Request id",
        "colon": ":",
        "code": "Code",
        "numeric": "Numeric code",
        "title": "Title",
        "fault": "Who has to act",
        "fault.user": "you: the spec, the script, the request or the environment",
        "fault.platform": "Moorings itself: a defect",
        "fault.machine": "whoever runs the machine: disk, memory, ports, network",
        "retryable": "The same request again",
        "retryable.yes": "may succeed later with nothing changed",
        "retryable.no": "ends the same",
        "http_status": "HTTP status",
        "step": "Step",
        "step.client": "the command line, before anything is sent",
        "step.spec": "reading and checking the spec",
        "step.api": "the control API, when a request is taken in",
        "step.assets": "storing or laying out model and code",
        "step.environment": "building or fetching the environment",
        "step.instance": "starting the instance",
        "step.script": "running the scoring script",
        "step.gateway": "the gateway, when a route is set up",
        "step.scoring": "a scoring request",
        "evidence": "Evidence it carries",
        "evidence.none": "none: the message says everything",
        **{f"evidence.{kind}": words for kind, words in WORDS_OF_EVIDENCE.items()},
        "family": "Group",
        "aliases": "Also known as",
        "origin": "Raised by",
        "origin.moorings": "Moorings",
        "origin.kubernetes": "nothing yet: it belongs to the Kubernetes engine, which is not part of this version",
        "origin.cloud": "the cloud service only; nothing here raises it",
        "related": "Related",
        "group": "This name stands for several failures. Each has a code of its own:",
        "more": "More",
        "where": "Where",
        "proof": "Evidence",
        "all": "Error codes",
        "numbers": "Numeric codes and groups",
        "made": "Made from the error catalogue; do not edit.",
        "explain": "The same at a terminal:",
        "intro": "Every failure ends in one of these codes. Each page says what brings it about, who has to act, and the "
        "command or edit that fixes it.",
        "placeholders": "A word in angle brackets stands for a name of yours; in the error itself it is filled in.",
        "languages": "Other languages",
        "answers": "What an endpoint answers",
    }
)
