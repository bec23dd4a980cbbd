"""Where servers are: from arguments, else from the environment."""

from __future__ import annotations

import os

API = "http://127.0.0.1:5000"
SERVE = "http://127.0.0.1:8080"


def setting(given: str | None, variable: str, default: str | None = None) -> str | None:
    """What was given, else the variable's value, else the default."""
    return given or os.environ.get(variable) or default


def api_url(given: str | None) -> str:
    """The address of the HTTP API."""
    return (setting(given, "GRISTMILL_API", API) or API).rstrip("/")


def serve_url(given: str | None) -> str:
    """The address of online scoring."""
    return (setting(given, "GRISTMILL_SERVE", SERVE) or SERVE).rstrip("/")
