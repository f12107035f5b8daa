"""A real S3 protocol server on loopback."""

from __future__ import annotations

import atexit
import functools
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@functools.cache
def _start_server() -> str:
    """Start the one server of this process and return its endpoint: redun keeps its first client for good."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


@contextmanager
def run_object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have an S3 server, point every AWS client of this process at it, and yield its endpoint."""
    endpoint = _start_server()
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield endpoint


def create_bucket() -> str:
    """Create a bucket and return its URL."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"
