"""Settings in the environment: their names, their files, and what is wrong with them.

Whatever is wrong is one line that names the variable, and holds nothing that may be a secret.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from shared.runtime.locale import as_utf8

OURS = "HUBBUB_"
_FILE = "_FILE"
_ALIKE = 0.8
"""How much of a name has to be that of a setting, for the setting to be meant."""

# What Kubernetes tells each pod of a Service that is called hubbub-…, unless it is told not to.
_OF_KUBERNETES = re.compile(r"\w+_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


class WrongSettings(Exception):
    """No process can run with them."""

    def __init__(self, problems: Iterable[str]) -> None:
        """
        Args:
            problems: Each names its variable.
        """
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class EnvOrFile(EnvSettingsSource):
    """``HUBBUB_X`` from the environment, else from the file that ``HUBBUB_X_FILE`` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """
        Raises:
            WrongSettings: it can't be read.
        """
        name = _variable_of(self.settings_cls, field_name)
        if self.env_vars.keys().isdisjoint({name.lower(), f"{name}{_FILE}".lower()}):
            return None, field_name, False  # as most are
        value, key, is_complex = super().get_field_value(field, field_name)
        if value is None:
            path = self.env_vars.get(f"{name}{_FILE}".lower())
            return (None if path is None else _read(f"{name}{_FILE}", path)), key, is_complex
        if not _is_path(field):
            try:
                value = as_utf8(value)
            except UnicodeDecodeError:
                raise WrongSettings([f"{name}: not in UTF-8"]) from None
        return value, key, is_complex

    def prepare_field_value(
        self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool
    ) -> Any:
        if value is None:  # to find out how it would be read takes long
            return None
        return super().prepare_field_value(field_name, field, value, value_is_complex)

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError) as error:
            name = _variable_of(self.settings_cls, field_name)
            raise WrongSettings([f"{name}: no JSON: {error}"]) from None


def _read(variable: str, path: str) -> str:
    if not path:
        raise WrongSettings([f"{variable}: empty: it has to name a file"])
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise WrongSettings([f"{variable}: {path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise WrongSettings([f"{variable}: {path}: not in UTF-8"]) from None
    except ValueError as error:  # no path at all
        raise WrongSettings([f"{variable}: {error}"]) from None


def _is_path(field: FieldInfo) -> bool:
    """Paths are bytes to the system, whatever the locale."""
    return Path in (field.annotation, *get_args(field.annotation))


def environment_names(settings: type[BaseSettings]) -> list[str]:
    """The environment variables that a settings class reads."""
    return [_variable_of(settings, name) for name in settings.model_fields]


def problems_with_names(
    known: Iterable[str], *, renamed: Mapping[str, str], of_others: Collection[str]
) -> Iterator[str]:
    """What is set and read by nobody, and what is set twice.

    Args:
        known: The settings that are read.
        renamed: What they were called before.
        of_others: What other processes read: names, and with ``_`` at the end how theirs begin.
    """
    given = {name for name in map(str.upper, _names_in_environment()) if name.startswith(OURS)}
    once = set(known)
    beginnings = tuple(each for each in of_others if each.endswith("_"))
    read = {
        f"{name}{ending}" for name in {*once, *of_others} - {*beginnings} for ending in ("", _FILE)
    }
    for name in sorted(given):
        if name in once and f"{name}{_FILE}" in given:
            yield f"{name} and {name}{_FILE} are both set: only one of them can count"
        if name in read or name.startswith(beginnings) or _OF_KUBERNETES.fullmatch(name):
            continue
        now = renamed.get(name.removesuffix(_FILE))
        if now is not None:
            yield f"{name}: this setting is called {now} now"
        else:
            yield f"{name}: no such setting{_meant(name, read)}"


def _names_in_environment() -> list[str]:
    """An empty ``…_FILE`` is not among them: so compose's overlays and `run` take one back."""
    given = os.environ.items()  # noqa: TID251 the names alone
    return [name for name, value in given if value or not name.upper().endswith(_FILE)]


def _meant(name: str, known: Iterable[str]) -> str:
    endings = [each.removeprefix(OURS) for each in sorted(known)]
    alike = get_close_matches(name.removeprefix(OURS), endings, n=1, cutoff=_ALIKE)
    return f"; did you mean {OURS}{alike[0]}?" if alike else ""


def problems_in(error: ValidationError, settings: type[BaseSettings]) -> list[str]:
    """The problem of each variable, and where in it."""
    return [
        _place(settings, found["loc"]) + _in_our_words(found["type"], found["msg"])
        for found in error.errors(include_url=False, include_input=False, include_context=False)
        if found["type"] != "default_factory_not_called"  # of another option that is wrong
    ]


def _place(settings: type[BaseSettings], place: tuple[int | str, ...]) -> str:
    """The variable, and where in it: `HUBBUB_GATEWAY_NAMESPACES: chat.history_ttl: `."""
    if not place:
        return ""  # it is about several variables, and names them
    name, *rest = place
    variable = _variable_of(settings, name) if name in settings.model_fields else str(name)
    return f"{variable}: {'.'.join(map(str, rest))}: " if rest else f"{variable}: "


def _variable_of(settings: type[BaseSettings], field_name: object) -> str:
    alias = settings.model_fields[str(field_name)].validation_alias
    prefix = settings.model_config.get("env_prefix", "")
    return str(alias or f"{prefix}{field_name}".upper())


_WORDS = {
    "extra_forbidden": "no such option",
    "missing": "not set",
    "dict_type": "not an object of JSON",
    "mapping_type": "not an object of JSON",
    "tuple_type": "not a list of JSON",
}
"""Where pydantic speaks of Python's types, or of an option of JSON as of a field."""


def _in_our_words(kind: str, message: str) -> str:
    return _WORDS.get(kind, message.removeprefix("Value error, "))
