"""Who somebody is: keys, signatures, tokens, and what was revoked."""
