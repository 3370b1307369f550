"""`python -m examples.ai_stream --port 8080`"""

import click
import uvicorn

from examples.ai_stream.app import Settings, create_app


@click.command()
@click.option("--host", default="127.0.0.1")
@click.option("--port", default=8080)
def main(host: str, port: int) -> None:
    uvicorn.run(create_app(Settings()), host=host, port=port)


main()
