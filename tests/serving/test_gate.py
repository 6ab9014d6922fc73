"""Who may ask: Host, Origin and token, for HTTP and for WebSockets."""

import socket

import httpx2
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sottovoce.serving.gate import is_loopback
from sottovoce.serving.server import Address, bound, url
from tests.serving.servers import running, speech

TOKEN = "s3cret-token"


@pytest.fixture(scope="module")
def guarded():
    with running(address=Address(port=0, token=TOKEN)) as found:
        yield found


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1", "127.1.2.3"])
def test_names_of_loopback_are_answered(server, host):
    assert httpx2.get(f"{server.url}/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["example.com", "example.com:8080", "localhost.example.com", "192.168.0.1", "127.0.0.1.example.com"]
)
def test_a_page_that_lets_its_name_point_here_is_refused(server, host):
    made = httpx2.get(f"{server.url}/models", headers={"Host": host})
    assert (made.status_code, made.json()["error"]["code"]) == (403, "host")


@pytest.mark.parametrize("origin", ["https://example.com", "null", "http://localhost:1", "file://"])
def test_a_page_elsewhere_is_refused(server, origin):
    for made in (
        httpx2.get(f"{server.url}/models", headers={"Origin": origin}),
        httpx2.post(f"{server.url}/audio/transcriptions", headers={"Origin": origin}, files={"file": speech(1)}),
        httpx2.options(f"{server.url}/models", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}),
    ):
        assert (made.status_code, made.json()["error"]["code"]) == (403, "origin")
        assert not [name for name in made.headers if name.startswith("access-control")]


def test_a_page_of_this_server_would_be_answered(server):
    assert httpx2.get(f"{server.url}/models", headers={"Origin": server.root}).status_code == 200


@pytest.mark.parametrize(("host", "origin"), [("localhost", "https://example.com"), ("example.com", None)])
def test_a_page_elsewhere_gets_no_socket(server, host, origin):
    place = server.root.removeprefix("http://").split(":")
    with socket.create_connection(place) as made, pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{host}/v1/realtime", sock=made, origin=origin)
    assert caught.value.response.status_code == 403


def live(server):
    return server.url.replace("http", "ws", 1) + "/realtime"


def test_the_token_opens(guarded):
    with openai.OpenAI(base_url=guarded.url, api_key=TOKEN) as client:
        assert client.audio.transcriptions.create(file=speech(1), model="any").text == "one"
    with connect(live(guarded), additional_headers={"Authorization": f"Bearer {TOKEN}"}) as opened:
        assert "session.created" in opened.recv()


@pytest.mark.parametrize("given", [None, "", TOKEN, f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer é"])
def test_without_the_token_nothing_opens(guarded, given):
    headers = {} if given is None else {"Authorization": given.encode()}
    for path in ("/v1/models", "/metrics", "/v1/audio/transcriptions", "/nowhere"):
        made = httpx2.get(guarded.root + path, headers=headers)
        assert (made.status_code, made.json()["error"]["code"]) == (401, "invalid_api_key")
        assert made.headers["www-authenticate"] == "Bearer"
    with pytest.raises(InvalidStatus) as caught, connect(live(guarded)):
        pass
    assert caught.value.response.status_code == 401


def test_health_needs_no_token_and_tells_nothing(guarded):
    assert httpx2.get(f"{guarded.root}/health").json() == {"status": "ok"}


def test_the_client_calls_it_an_authentication_error(guarded):
    with pytest.raises(openai.AuthenticationError), guarded.client() as client:
        client.audio.transcriptions.create(file=speech(1), model="any")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.com", ""])
def test_no_server_without_a_token_can_be_reached_from_elsewhere(host):
    with pytest.raises(ValueError, match="--token"):
        Address(host)
    assert not Address(host, token=TOKEN).loopback


@pytest.mark.parametrize("token", ["", "a b", "ä", "a\n"])
def test_a_token_that_no_header_can_hold_is_refused(token):
    with pytest.raises(ValueError, match="--token has to be"):
        Address(token=token)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ValueError, match=f"--port {port}"):
        Address(port=port)


def test_loopback_is_what_no_other_machine_reaches():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LocalHost")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "10.0.0.1", "localhost.", "a.localhost", "2130706433")))


def test_an_address_that_is_taken_is_told():
    with bound(Address(port=0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert url(taken) == f"http://127.0.0.1:{port}/v1"
        with pytest.raises(ValueError, match=f"port {port}: Address already in use"):
            bound(Address(port=port))
    with pytest.raises(ValueError, match="cannot listen on 192"):
        bound(Address("192.0.2.1", token=TOKEN))
