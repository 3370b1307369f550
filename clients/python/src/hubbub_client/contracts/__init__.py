"""What is said on the bus: names, subjects, publications, events; and errors. Pure."""
