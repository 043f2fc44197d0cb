"""Faults are injected by doing them, into a real daemon, and its ledger must add up afterwards."""
