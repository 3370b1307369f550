"""The programs in C: the floor, the load generator, and the flood."""

import asyncio
import hashlib
import tempfile
from pathlib import Path

SOURCES = Path(__file__).with_name("native")
PROGRAMS = {
    "floor": ("floor.c",),
    "flood": ("flood.c",),
    "load": ("load.c", "clients.c", "bus.c", "samples.c"),
}
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


async def compiled(program: str) -> Path:
    """Compile the program unless that was done before; return its binary.

    Raises:
        SystemExit: it does not compile.
    """
    files = [SOURCES / name for name in PROGRAMS[program]]
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in sorted(SOURCES.iterdir())))
    folder = Path(tempfile.gettempdir()) / f"hubbub-bench-{digest.hexdigest()[:16]}"
    binary = folder / program
    if not binary.exists():
        folder.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as fresh:
            fresh_binary = Path(fresh.name)
        try:
            compiler = await asyncio.create_subprocess_exec(
                "cc", *FLAGS, "-o", fresh_binary, *files
            )
        except FileNotFoundError:
            raise SystemExit("the benchmarks need a C compiler, `cc`") from None
        if await compiler.wait() != 0:
            raise SystemExit(f"{program} does not compile")
        fresh_binary.replace(binary)  # noqa: ASYNC240 - atomic, since another run may do the same
    return binary
