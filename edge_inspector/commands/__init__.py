"""One file a command, imported only when chosen."""
