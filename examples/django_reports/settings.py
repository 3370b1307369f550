"""Django's settings; what differs from machine to machine is read from the environment."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

FOLDER = Path(__file__).parent


class Environment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DJANGO_REPORTS_")

    secret_key: SecretStr
    """Ours alone."""
    realtime_secret: SecretStr
    """By which we know the gateway."""
    gateway: str = "127.0.0.1:8000"
    """Where we find it. Browsers do at that port of the host where they find us: only there do
    they show it our cookies."""
    database: Path = Path("reports.sqlite3")
    sdk: Path = FOLDER / "node_modules/centrifuge/dist/centrifuge.js"
    """What npm has put there."""


class HubbubEnvironment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="HUBBUB_")

    api_key: SecretStr
    """Which the gateway knows, too."""


_environment = Environment()

SECRET_KEY = _environment.secret_key.get_secret_value()
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "hubbub_client.django",
    "examples.django_reports.apps.ReportsConfig",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "examples.django_reports.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [FOLDER / "templates"],
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _environment.database,
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},  # the server and the worker take turns
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/"
USE_TZ = True

HUBBUB = {
    "URL": f"http://{_environment.gateway}",
    "API_KEY": HubbubEnvironment().api_key.get_secret_value(),
}
GATEWAY_PORT = _environment.gateway.rpartition(":")[2]
REALTIME_SECRET = _environment.realtime_secret.get_secret_value()
SDK = _environment.sdk
