"""How the database of the auth service came to look as it does."""
