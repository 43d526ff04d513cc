"""Outside MQTT brokers: qanat as their client, which acknowledges after durable commit."""
