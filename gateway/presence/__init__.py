"""Who is in which channel, over all gateways: a table that follows the PRES stream."""
