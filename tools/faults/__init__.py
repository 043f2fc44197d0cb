"""Faults, done to a whole line that runs: what each costs in good parts, and that no defective part gets through."""
