"""What the documents of our interfaces are made with."""
