"""What every HTTP service does alike."""
