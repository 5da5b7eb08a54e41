"""The control API: ARM-shaped REST over the state. It only reads and writes the state; the controller does the rest."""
