"""A service's database, its migrations, and its outbox."""
