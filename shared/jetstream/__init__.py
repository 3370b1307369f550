"""JetStream: the streams that are kept, and following them."""
