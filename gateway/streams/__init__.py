"""Publications on the bus: following, keeping, reading and publishing them."""
