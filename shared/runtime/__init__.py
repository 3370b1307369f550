"""What every process needs: settings, logs, listening sockets, signals, background loops."""
