"""How the database of the posts service came to look as it does."""
