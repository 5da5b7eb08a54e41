"""The Docker Engine as a thing to talk to: images and containers over its API. Knows nothing of deployments."""
