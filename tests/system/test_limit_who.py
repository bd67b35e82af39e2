"""Who is counted: the end user behind a key, and an address, which both are believed only from whom one trusts."""

import json

import pytest

from client import ask, unique
from test_limits_cache import limit

PROXY, FAR = "10.1.2.3", "203.0.113.7"
TRUST = {"trusted_proxies": ["10.0.0.0/8", "2001:db8:ffff::/48"], "user_header": "X-End-User"}


@pytest.fixture
def begin(start):
    """begin(*limits, **fields of server) → a Stack without a web server in front: what it would say, we say."""
    def begin_stack(*limits, log=None, **server):
        return start({"limits": list(limits), "server": server, "log": {"to": "stderr", **(log or {})}}, webs=())
    return begin_stack


def post(stack, peer="127.0.0.1", forwarded=None, named=None, **fields):
    body = json.dumps(ask(unique(), **fields)).encode()
    return stack.pavise.call("/v1/chat/completions", "POST", body, REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded,
                             HTTP_X_END_USER=named)


def line(stack, answer):
    return stack.pavise.wait_log(lambda line: line.get("request_id") == answer.request_id)


def statuses(stack, *requests):
    return [post(stack, **request).status for request in requests]


# ── Users ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_user_of_a_key_has_their_own(begin):
    stack = begin(limit(per=["key", "user"], amount=1))
    assert statuses(stack, {"safety_identifier": "a"}, {"user": "b"}, {"safety_identifier": "a", "user": "b"},
                    {"user": "b"}, {"safety_identifier": "c", "user": "a"}) == [200, 200, 429, 429, 200]
    assert statuses(stack, {}, {}) == [200, 429]  # who names none is one with all others who do not


@pytest.mark.parametrize("name", ["Ada Lovelace", "a\r\nset pv:x 0 0 1", "ü" * 300, "x" * 20000, "a,key=b", "=", "\t"],
                         ids=range(7))
def test_a_users_name_is_never_a_part_of_a_key_unless_it_is_plain(begin, name):
    stack = begin(limit(per=["user"], amount=1))
    assert statuses(stack, {"user": name}, {"user": name}, {"user": name + "x"}) == [200, 429, 200]
    prefix = stack.pavise.config["memcached"]["prefix"] + ":c:"
    assert all(len(key.split(":")[3]) == 32 for key in stack.memcached.keys(prefix)) and stack.memcached.keys(prefix)


def test_names_that_look_like_other_names(begin):
    """The parts of who is counted cannot be taken for one another."""
    stack = begin(limit(per=["user", "ip"], amount=1))
    assert statuses(stack, {"user": "a,ip=1.1.1.1", "peer": "2.2.2.2"}, {"user": "a", "peer": "1.1.1.1"},
                    {"user": "a", "peer": "2.2.2.2"}, {"peer": "2.2.2.2"}, {"user": "", "peer": "2.2.2.2"}) == 5 * [200]


def test_the_header_counts_more_than_the_body(begin):
    stack = begin(limit(per=["user"], amount=1), **TRUST)
    asked = [post(stack, PROXY, named="ada", safety_identifier=f"made-up-{i}") for i in range(2)]
    assert [a.status for a in asked] == [200, 429]
    assert [line(stack, a)["user"] for a in asked] == ["ada", "ada"]
    assert post(stack, PROXY, named="", safety_identifier="bob").status == 200  # none is named


def test_nobody_else_may_name_users(begin):
    stack = begin(limit(per=["user"], amount=1), **TRUST)
    asked = [post(stack, FAR, forwarded=PROXY, named=f"made-up-{i}", safety_identifier="bob") for i in range(2)]
    assert [a.status for a in asked] == [200, 429]
    assert line(stack, asked[0])["user"] == "bob"


def test_models_are_asked_for_by_users_too(begin):
    stack = begin(limit(per=["user"], amount=1), **TRUST)
    asked = [stack.pavise.call("/v1/models", REMOTE_ADDR=PROXY, HTTP_X_END_USER=user) for user in ("a", "b", "a")]
    assert [a.status for a in asked] == [200, 200, 429]


# ── Addresses ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SEEN = [  # who is connected, what X-Forwarded-For says, whose request it is
    (FAR, None, FAR),
    (FAR, "198.51.100.1", FAR),  # nobody trusts that one
    (PROXY, None, PROXY),
    (PROXY, "", PROXY),
    (PROXY, FAR, FAR),
    (PROXY, f" {FAR}\t", FAR),
    (PROXY, f"198.51.100.1, {FAR}", FAR),  # the client's own invention stands to the left
    (PROXY, f"198.51.100.1, {FAR}, 10.9.9.9,10.8.8.8", FAR),
    (PROXY, "10.7.7.7, 10.8.8.8", "10.7.7.7"),  # proxies all the way
    (PROXY, f"{FAR}:50123", FAR),
    (PROXY, "[2001:db8::1]:443", "2001:db8::1"),
    (PROXY, "2001:DB8:0::1", "2001:db8::1"),
    (PROXY, f"{FAR}, unknown", PROXY),  # what is no address ends it
    (PROXY, f"{FAR}, unknown, 10.8.8.8", "10.8.8.8"),
    (PROXY, f"{FAR},", PROXY),
    (PROXY, f"{FAR},,10.8.8.8", "10.8.8.8"),
    ("2001:db8:ffff::1", FAR, FAR),
    ("2001:db8:fffe::1", FAR, "2001:db8:fffe::1"),
    ("::ffff:10.1.2.3", FAR, FAR),  # a listener for both kinds says v4 so
]


def test_whose_address_it_is(begin):
    stack = begin(**TRUST)
    for peer, forwarded, expected in SEEN:
        answer = post(stack, peer, forwarded)
        assert line(stack, answer)["client.address"] == expected, (peer, forwarded)


def test_an_address_has_its_own_limit(begin):
    stack = begin(limit(per=["ip"], amount=1), **TRUST)
    assert statuses(stack, {"peer": FAR}, {"peer": FAR, "forwarded": "198.51.100.9"},
                    {"peer": PROXY, "forwarded": FAR}, {"peer": PROXY}, {"peer": "2001:db8::1"}) == \
        [200, 429, 429, 200, 200]


def test_a_network_of_ipv6_counts_together(begin):
    stack = begin(limit(per=["ip"], amount=1))
    assert statuses(stack, {"peer": "2001:db8:0:1::1"}, {"peer": "2001:db8:0:1:ffff::2"},
                    {"peer": "2001:db8:0:2::1"}) == [200, 429, 200]


def test_a_peer_without_an_address(begin):
    stack = begin(limit(per=["ip"], amount=1), **TRUST)
    answers = [post(stack, peer) for peer in (None, None, "unix:/run/x.sock", "unix:/run/x.sock")]
    assert [a.status for a in answers] == [200, 429, 200, 429]
    assert ["client.address" in line(stack, a) for a in answers] == [False, False, True, True]


@pytest.mark.parametrize("how,v4,v6", [("full", FAR, "2001:db8:1:2:3:4:5:6"),
                                       ("truncated", "203.0.113.0", "2001:db8:1::"), ("off", None, None)])
def test_how_much_of_it_is_logged(begin, how, v4, v6):
    stack = begin(log={"client_address": how})
    assert line(stack, post(stack, FAR)).get("client.address") == v4
    assert line(stack, post(stack, "2001:db8:1:2:3:4:5:6")).get("client.address") == v6


def test_a_web_server_passes_them_on(start):
    stack = start({"limits": [limit(per=["user"], amount=1)],
                   "server": {"trusted_proxies": ["127.0.0.1"], "user_header": "X-End-User"}},
                  webs=("lighttpd", "apache"))
    for web in stack.webs.values():
        answer = web.client.post(ask(unique()), {"X-Forwarded-For": FAR, "X-End-User": web.kind})
        said = stack.log_of(answer)
        assert (answer.status, said["client.address"], said["user"]) == (200, FAR, web.kind)
