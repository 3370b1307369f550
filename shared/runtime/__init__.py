"""The life of a process: settings, logs, sockets to listen on, signals."""
