"""`uvicorn serving.asgi:app` with settings from `EMBARGO_*`."""

from serving.app import create_app

app = create_app()
