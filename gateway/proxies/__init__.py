"""Asking the application: who somebody is, what they may do, and what it answers to their calls."""
