"""Training the engine in engines/boards with PyTorch. Never needed on the line PC."""
