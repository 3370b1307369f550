# The project's verbs; `uv run just` lists them.

_list:
    @just --list --unsorted

# start the whole system on embedded defaults
up *options:
    uv run hubbub up {{options}}

# format, lint, types, import contracts: what .ci/run demands beside the tests
check:
    uv run ruff format --check
    uv run ruff check
    uv run mypy
    uv run lint-imports

# let ruff mend what it can
fix:
    uv run ruff format
    uv run ruff check --fix

# all tests
test *options:
    uv run pytest {{options}}

# measure; see bench/README.md
bench *options:
    uv run python -m bench {{options}}

# resolve all dependencies afresh and pin the whole closure
pin:
    uv run --no-project tools/pin.py
