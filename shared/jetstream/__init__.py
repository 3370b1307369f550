"""JetStream: the streams, and publishing, reading and following them."""
