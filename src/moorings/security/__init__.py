"""Keys, encryption of secrets at rest, safe folders. Must not know what an endpoint does with a key."""
