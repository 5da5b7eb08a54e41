"""Errors as data: a catalogue of everything that can fail, the exception that carries an entry, diagnosis from evidence."""
