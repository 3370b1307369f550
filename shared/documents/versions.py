"""The versions of the two documents that describe what others may rely on.

What breaks those who use the old one raises the first number: see docs/contracts.md.
"""

HTTP_VERSION = "1.0.0"
"""Of the OpenAPI document."""
MESSAGES_VERSION = "1.0.0"
"""Of the AsyncAPI document."""
