"""MQTT 3.1.1 and 5: packets, the server's and the device's state machines, and the server's sockets."""
