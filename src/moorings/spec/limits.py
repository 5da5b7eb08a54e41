"""Limits of the data plane: defaults and bounds. Numbers only, so that whoever needs one imports nothing else."""

from __future__ import annotations

MAX_BODY_BYTES = 1_572_864
"""1.5 MB: request and response bodies unless an endpoint says otherwise (sections 5.5 and 5.8)."""
MAX_BODY_LIMIT_BYTES = 104_857_600
"""100 MB: the most an endpoint may allow. The gateway holds a body in memory until it is complete."""
MIN_RESPONSE_LIMIT_BYTES = 100_000
"""Answers below this pass the gateway without being looked at."""
RATE_LIMIT_PER_S = 100
"""Requests per second and endpoint unless the workspace or the endpoint says otherwise (section 5.8)."""
MAX_CONNECTIONS = 20_000
"""Callers' connections a gateway holds open at once unless the workspace says otherwise; one more is closed."""
MAX_CONNECTIONS_LIMIT = 1_000_000
MAX_RATE_LIMIT_PER_S = 1_000_000
"""Far above what one gateway can pass on: as good as no limit."""
MAX_ENDPOINTS = 100
MAX_DEPLOYMENTS = 500
"""In a workspace (behaviour reference, section 10.2)."""
MAX_ROLE_ASSIGNMENTS = 4000
"""In a workspace; elsewhere it is the limit of a subscription."""
MAX_DEPLOYMENTS_PER_ENDPOINT = 20
"""Behaviour reference, section 10.2."""
