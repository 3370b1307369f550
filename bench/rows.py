"""The benchmarks by name, with their servers, settings and goals."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from bench.load import Load
from bench.scenarios import (
    api,
    burst,
    connect,
    fan_out,
    flood,
    idle,
    personal,
    recover,
    sdk,
    stalled,
    storm,
    talk,
)
from bench.scenarios.scale import Scale
from bench.servers import ORDINARY, Conditions
from bench.targets import Target

Measure = Callable[[Target, Load, Scale], Awaitable[dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Goal:
    """The highest acceptable value of a figure of the gateway."""

    at_most: float
    times_floor: bool = False
    """``at_most`` is a ratio to the floor's figure."""

    def is_met(self, figure: float, floor: float | None) -> bool | None:
        """Whether the figure is low enough; None if it needs a floor that was not measured."""
        if not self.times_floor:
            return figure <= self.at_most
        return None if not floor else figure / floor <= self.at_most

    def __str__(self) -> str:
        return f"<= {self.at_most:g}" + (" * floor" if self.times_floor else "")


@dataclass(frozen=True, slots=True)
class Row:
    """One benchmark."""

    measure: Measure
    servers: tuple[str, ...]
    goals: Mapping[str, Goal] = field(default_factory=dict)
    conditions: Conditions = ORDINARY


_SDK = Conditions({"HUBBUB_GATEWAY_NAMESPACES": '{"chat": {"presence": true}, "news": {}}'})
_RECOVERABLE = Conditions(
    {
        "HUBBUB_GATEWAY_NAMESPACES": '{"chat": {"publish": "users", "presence": true,'
        ' "join_leave": true, "force_recovery": true}}'
    }
)

_STORM = Conditions(
    {"HUBBUB_GATEWAY_NAMESPACES": '{"chat": {"publish": "users", "force_recovery": true}}'}
)
_STORM_GOALS = {"reads of a channel": Goal(5)}

ROWS: Mapping[str, Row] = {
    "idle": Row(
        idle.measure,
        ("floor", "lesson", "hubbub"),
        {"KiB per connection": Goal(4)},
    ),
    "idle-unlisted": Row(
        idle.measure,
        ("hubbub",),
        conditions=Conditions({"HUBBUB_GATEWAY_NAMESPACES": '{"chat": {"publish": "users"}}'}),
    ),
    "connect": Row(
        connect.measure,
        ("floor", "lesson", "hubbub"),
        {"HS256, µs": Goal(150), "again, µs": Goal(120), "EdDSA, µs": Goal(260)},
    ),
    "fan-out": Row(
        fan_out.measure,
        ("floor", "lesson", "hubbub"),
        {
            "µs per delivery": Goal(1.25, times_floor=True),
            "p50, ms": Goal(5),
            "p99, ms": Goal(12),
        },
    ),
    "fan-out-unsynced": Row(
        fan_out.measure,
        ("hubbub",),
        {"p50, ms": Goal(5), "p99, ms": Goal(12)},
        Conditions(synced=False),
    ),
    "burst": Row(
        burst.measure,
        ("floor", "lesson", "hubbub"),
        {"µs per delivery": Goal(0.7)},
    ),
    "personal": Row(
        personal.measure,
        ("lesson", "hubbub"),
        {"µs per delivery": Goal(25), "p50, ms": Goal(1), "p99, ms": Goal(4)},
    ),
    "personal-unsynced": Row(
        personal.measure,
        ("hubbub",),
        {"p50, ms": Goal(1), "p99, ms": Goal(4)},
        Conditions(synced=False),
    ),
    "talk": Row(
        talk.measure,
        ("lesson", "hubbub"),
        {"µs per message": Goal(45)},
    ),
    "api-publish": Row(api.publish, ("floor", "hubbub"), {"µs per publication": Goal(100)}),
    "api-batch": Row(
        api.batch,
        ("floor", "hubbub"),
        {"µs per publication": Goal(20), "parallel, µs per publication": Goal(20)},
        Conditions(synced=False),
    ),
    "stalled": Row(
        stalled.measure,
        ("hubbub",),
        {"others' p99, ratio": Goal(1.1), "memory grown, KiB": Goal(1024)},
        Conditions(stalled.SETTINGS),
    ),
    "sdk-idle": Row(
        sdk.idle,
        ("hubbub",),
        {"KiB per connection": Goal(4), "KiB per further channel": Goal(0.35)},
        _SDK,
    ),
    "sdk-streams": Row(sdk.idle_streams, ("hubbub",), conditions=_SDK),
    "sdk-connect": Row(sdk.connect, ("hubbub",), conditions=_SDK),
    "sdk-fan-out": Row(sdk.fan_out, ("hubbub",), conditions=_SDK),
    "recover": Row(recover.measure, ("hubbub",), conditions=_RECOVERABLE),
    "recover-stored": Row(
        recover.measure,
        ("hubbub",),
        conditions=Conditions({**_RECOVERABLE.settings, **recover.BELOW_THE_RING}),
    ),
    "storm": Row(storm.measure, ("hubbub",), _STORM_GOALS, _STORM),
    "storm-stored": Row(
        storm.measure,
        ("hubbub",),
        _STORM_GOALS,
        Conditions({**_STORM.settings, **recover.BELOW_THE_RING}),
    ),
    "flood": Row(
        flood.measure,
        ("hubbub",),
        {
            f"{kind}: {figure} p99, ms": Goal(at_most)
            for kind in flood.KINDS
            for figure, at_most in (("connect", 1000), ("round trip", 20))
        },
    ),
}
