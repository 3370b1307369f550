"""The docker command, with a deadline for each of its answers."""

import subprocess

DOCKER_SECONDS = 60.0
"""For one command that does not build; stopping a container takes its grace period, too."""


class DockerFailed(AssertionError):
    """The command ended with an error; ``str`` is what it said."""


def docker(
    *arguments: str, input: str = "", seconds: float = DOCKER_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run ``docker …``, whatever comes of it."""
    return subprocess.run(
        ["docker", *arguments],
        input=input,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )


def docker_output(*arguments: str, seconds: float = DOCKER_SECONDS) -> str:
    """What ``docker …`` prints.

    Raises:
        DockerFailed: it did not do it.
    """
    done = docker(*arguments, seconds=seconds)
    if done.returncode:
        raise DockerFailed(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


def logs_of(container: str) -> str:
    """All that a container has printed since it was made, in both of its outputs."""
    done = docker("logs", container)
    return f"{done.stdout}{done.stderr}"
