"""A simulated plant: conveyor, photo-eye, encoder, lens, diverter, two bins, and the PLC that drives them.

`belt` is the physics and `plc` the logic, both pure; `ports` and `lens` are their sockets; `simulation` is their clock.
"""
