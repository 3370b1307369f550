"""`/connection/…`, the Centrifuge protocol."""
