"""The bus between services: NATS JetStream. Nothing else in the project imports ``nats``."""
