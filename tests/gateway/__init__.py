"""From a verdict to the ejector, rejecting by default."""
