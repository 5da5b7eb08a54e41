"""The gateway: desired state -> Envoy resources -> accepted version. The agent (own process) needs no control
plane."""
