"""What services tell each other: names, events, publications, errors. Pure."""
