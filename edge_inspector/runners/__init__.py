"""Runners: what computes an engine, one library a file, all held to the protocol in base.py."""
