"""Real Kafka and a real schema registry as processes of this machine."""
