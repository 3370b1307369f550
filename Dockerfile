# One image for every service: the command picks one. `--target edge` is the proxy with the page.

FROM python:3.13-slim AS build
RUN apt-get update --quiet=2 \
    && apt-get install --quiet=2 --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --quiet --no-cache-dir --disable-pip-version-check uv==0.13.9
ENV UV_PROJECT_ENVIRONMENT=/opt/hubbub \
    UV_PYTHON=/usr/local/bin/python3 \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
WORKDIR /src
# What changes seldom comes first. pyproject.toml pins all dependencies; without its groups neither
# nats-server nor test tools are installed.
COPY pyproject.toml ./
COPY clients/python/pyproject.toml clients/python/pyproject.toml
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --quiet --no-default-groups --no-install-workspace \
    # A third of the size is debug symbols.
    && find /opt/hubbub -name '*.so*' -exec strip --strip-unneeded {} +
COPY README.md LICENSE ./
COPY clients/python clients/python
COPY hubbub hubbub
COPY gateway gateway
COPY posts_service posts_service
COPY auth_service auth_service
COPY shared shared
COPY web web
COPY deploy/nats/accounts.conf deploy/nats/accounts.conf
# Reinstall both, or uv would use wheels of older code from its cache.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --quiet --no-default-groups --no-editable \
        --reinstall-package hubbub --reinstall-package hubbub-client \
    && /opt/hubbub/bin/hubbub --version

# The page. It needs no bundler; one would run here.
FROM python:3.13-slim AS web
WORKDIR /srv
COPY web web
RUN rm -f web/*.py

FROM caddy:2 AS edge
# A new volume takes over the owner of its mount point.
RUN mkdir -p /config /data \
    && chown -R 10001:10001 /config /data
COPY deploy/edge/Caddyfile /etc/caddy/Caddyfile
COPY --from=web /srv /srv
USER 10001:10001
EXPOSE 8080
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]

FROM python:3.13-slim AS hubbub
# The folders below /volumes: a new volume takes over the owner of its mount point.
RUN pip uninstall --quiet --yes pip \
    && groupadd --gid 10001 hubbub \
    && useradd --uid 10001 --gid hubbub --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin hubbub \
    && install -d -o hubbub -g hubbub -m 0750 /run/hubbub /volumes/auth /volumes/posts \
        /volumes/gateway /volumes/bootstrap /volumes/operator /volumes/application \
        /volumes/nats /volumes/postgres \
        /volumes/nats-data /volumes/nats-1-data /volumes/nats-2-data /volumes/nats-3-data
COPY --from=build /opt/hubbub /opt/hubbub
COPY deploy/secrets /opt/hubbub/libexec/deploy/secrets
ENV PATH=/opt/hubbub/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s --start-interval=1s --retries=3 \
    CMD ["hubbub", "health", "--path", "/livez"]
ENTRYPOINT ["hubbub"]
CMD ["--help"]
