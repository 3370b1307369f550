# The project's verbs; `uv run --group dev just` lists them.

_list:
    @just --list --unsorted

# start the whole system on embedded defaults
up *options:
    uv run hubbub up {{options}}

# format, lint, types, import contracts: what .ci/run demands beside the tests
check:
    uv run --group dev ruff format --check
    uv run --group dev ruff check
    uv run --group dev mypy
    uv run --group dev lint-imports

# let ruff mend what it can
fix:
    uv run --group dev ruff format
    uv run --group dev ruff check --fix

# all tests, four workers a core; by one process, those that are named
test *options:
    uv run --group dev pytest {{options}}

# measure; see bench/README.md
bench *options:
    uv run --group dev python -m bench {{options}}

# make the synchronous client from the one that is awaited
twin:
    uv run --group dev python -m tools.sync_twin

# write the documents of what others may rely on: docs/contracts
contracts:
    uv run --group dev python -m tools.contracts

# resolve all dependencies afresh and pin the whole closure
pin:
    uv run --no-project tools/pin.py
