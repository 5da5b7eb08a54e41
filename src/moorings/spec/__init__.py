"""What users write, as frozen values: endpoints, deployments, models, environments; loading, checking,
status. No side effects."""
