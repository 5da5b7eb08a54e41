"""The workspace's memory: desired state, conditions, operations, events, keys. Only this package knows the database."""
