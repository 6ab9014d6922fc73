import pytest

from tests.serving.servers import running


@pytest.fixture(scope="module")
def server():
    """A server with the usual limits, whose transcriber does not wait."""
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def client(server):
    """OpenAI's own client of it."""
    with server.client() as found:
        yield found
