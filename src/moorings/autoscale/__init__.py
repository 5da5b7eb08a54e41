"""How many instances a deployment shall have: rules and measurements in, a count and its reason out."""
