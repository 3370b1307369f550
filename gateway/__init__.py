"""The gateway: owns every live connection and subscribes to the bus."""
