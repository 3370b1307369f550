"""Who a user is: keys, signatures, tokens, revocations."""
