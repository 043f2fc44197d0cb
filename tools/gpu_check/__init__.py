"""Everything that only an NVIDIA GPU can tell, in one command, on a machine without a network. See __main__.py."""
