"""Publications between the bus and the rooms above: recent, stored, live, and new ones."""
