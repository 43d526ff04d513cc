"""Device fleets in virtual or real time, recordings played again, and the verdict on what came of it.

Run by `qanat sim` and `qanat demo`; see docs/design/sim.md.
"""
