"""Side-by-side measurements with other products, each in an environment of its own; nothing here is a dependency."""
