"""Load for a gateway: messages made before the clock, sent as fast as they go or at a fixed rate, and what came of it.

    result = run(Load(port=1883, stream="power", payload='{"client_id": "$client", "consumption": $value}', qos=1))

`python -m qanat.sim.load` takes a load as JSON on stdin and prints the result as JSON: a process of its own, so that
sender and gateway share no interpreter. Not a simulation of devices (that is `sim.fleet`): it only knows bytes.
"""

from qanat.sim.load.payloads import template_for
from qanat.sim.load.run import run
from qanat.sim.load.terms import Load, LoadResult

__all__ = ["Load", "LoadResult", "run", "template_for"]
