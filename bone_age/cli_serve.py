"""`bone-age serve`: the REST API and the page."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Make this command part of the command line."""
    app.command(epilog="Example: `bone-age serve --port 8080`")(serve)


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen at [default: 127.0.0.1, this machine only]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="[default: 8000; 0 takes a free one]")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="REF",
            help="models:/bone-age/7 or a folder, and no other [default: the champion, whoever it becomes]",
        ),
    ] = None,
) -> None:
    """Answer over HTTP: a page for people at /, a REST API for programs, described at /docs.

    BONE_AGE_API_TOKEN makes it ask for a token; further settings are variables BONE_AGE_SERVE_… (see the reference).
    """
    from bone_age.serving.rest.settings import load_settings

    settings = load_settings(host=host, port=port)
    from bone_age.serving.rest.later_page import mount_gradio
    from bone_age.serving.rest.server import serve as serve_until_stopped

    serve_until_stopped(settings, model, mount_gradio if settings.page else None)
