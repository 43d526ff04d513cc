"""What the gateway takes: messages a second, acknowledgements, connections, the way to a result, and a peer."""
