"""Engines: the folder `engines/<name>/` and what lies in it."""
