"""Namespaces, permissions, and who listens to what on this gateway. Nothing in here awaits."""
