"""The schema of the posts service's database, step by step."""
