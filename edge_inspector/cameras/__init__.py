"""Cameras: every source of frames, one library a file, all held to the protocol in base.py."""
