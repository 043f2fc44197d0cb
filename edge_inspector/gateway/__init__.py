"""The gateway: the second process of a line, between the daemon's verdicts and the PLC that drives the ejector."""
