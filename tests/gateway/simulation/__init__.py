"""The whole chain around the real gate, in virtual time: belt, camera, PLC, daemon, and the links between them.

Nothing here waits, has a thread or opens a socket: everything is an event on one heap, and every chance is drawn from
one seed, so that a scenario that goes wrong can be had again.
"""
