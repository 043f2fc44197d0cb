"""Every runner is held to the protocol in runners/base.py."""
