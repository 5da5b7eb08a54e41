"""Level-triggered loops that make what is desired so. They meet the API only in the state database."""
