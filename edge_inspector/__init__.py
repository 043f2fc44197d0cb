"""edge-inspector: every trigger gets exactly one verdict, by its deadline, and an error never looks like a pass."""

__version__ = "0.1.0"
