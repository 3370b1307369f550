"""What is logged: an event with fields, by the standard `logging`."""


class LogEvent:
    """A message for a logger: ``log.warning(LogEvent("bus_error", error=text))``.

    A plain log has it as a line, ``bus_error error='no route to host'``. A structured one may take
    the name and the fields from it: it is the `msg` of the record.
    """

    __slots__ = ("fields", "name")

    def __init__(self, name: str, /, **fields: object) -> None:
        self.name = name
        self.fields = fields

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value!r}" for key, value in self.fields.items())])
