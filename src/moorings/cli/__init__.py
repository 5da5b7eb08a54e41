"""The `moor` command: parse, call the client, print. Imports at start-up only what parsing needs."""
