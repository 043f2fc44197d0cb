"""From a file that some framework exported to an engine that has proved itself."""
