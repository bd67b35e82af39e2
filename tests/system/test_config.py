"""What pavise says about its configuration, and that certificates and secrets are taken seriously."""

import json
import os
import shutil
import subprocess

import pytest

from client import ask, unique
from process import BUILD, PATIENCE, ROOT, wait_until
from servers import DemoLLM, Pavise, Web, default_config, keys_file, merged

PAVISE = BUILD / "pavise"
CONF = ROOT / "conf"
SECRETS = ("OPENAI_", "RUN_DIR", "DEMO_PORT", "SSL_CERT")


def run(*arguments, **environment):
    """(status, stdout, stderr) of pavise, without anything of ours in its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
    done = subprocess.run([PAVISE, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=PATIENCE, env={**clean, **environment}, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def check(folder):
    """check(over, …) → (status, stdout, stderr) of pavise --check for the usual configuration with this over it."""
    def check_config(over=None, keys=None, mode=0o600, text=None, **environment):
        config = merged(default_config(folder, None, "http://127.0.0.1:9/v1"), over)
        path = folder / "pavise.json"
        path.write_text(json.dumps(config) if text is None else text)
        path.chmod(mode)
        (folder / "keys.json").write_text(keys or json.dumps(keys_file({"demo": {}})))
        return run("--check", "--config", path, **environment)
    check_config.path = folder / "pavise.json"
    return check_config


# ── the command line ──

def test_version_and_help():
    status, out, err = run("--version")
    assert (status, out[:7], err) == (0, "pavise ", "")
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    assert out.startswith("usage: pavise [--config FILE] [--check | --worker]\n")
    for option in ("--config", "--check", "--worker", "--version", "--help"):
        assert option in out


@pytest.mark.parametrize("arguments, says", [
    (["--verbose"], "unrecognized option '--verbose'"), (["--config"], "option '--config' requires an argument"),
    (["pavise.json"], "pavise: unexpected argument 'pavise.json'")])
def test_bad_options(arguments, says):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert says in err and "usage: pavise" in err


@pytest.mark.parametrize("mode", [[], ["--worker"]])
def test_without_a_socket_it_says_how_to_start_it(check, mode):
    check()
    status, out, err = run("--config", check.path, *mode)
    assert (status, out) == (1, "")
    assert err == "pavise: file descriptor 0 is no listening socket; start it through spawn-fcgi (see pavise --help)\n"


@pytest.mark.parametrize("mode", [[], ["--worker"]])
def test_with_a_bad_configuration_it_does_not_start(folder, mode):
    with Pavise(folder, config={"cache": {"ttl": "soon"}}, options=mode, wait=False) as p:
        assert p.process.wait() == 1
        assert p.process.said().endswith(
            f'pavise: {p.config_path}: cache.ttl: found "soon", expected a duration such as "50ms", "30s", "5m", "1h" '
            'or "1d"\n')


# ── --check ──

def test_a_good_one(check):
    status, out, err = check()
    assert (status, err) == (0, "")
    assert out == f"{check.path}: good (1 providers, 1 models, 1 keys, 0 limits)\n"


def test_comments_and_variables(check):
    config = json.dumps(default_config("${WHERE:-/tmp}", None, "http://${HOST}:${PORT:-80}/v1"))
    assert check(text="// why\n" + config + "/* so */", HOST="localhost")[0] == 0
    status, _, err = check(text=config)
    assert status == 1
    assert err == (f'{check.path}: providers.fake.base_url: found "http://${{HOST}}:${{PORT:-80}}/v1", but the '
                   'environment variable HOST is not set (expected a string)\n')


# what is wrong, and what its one message must name: where, what was found, what was expected
WRONG = [
    ({"servers": {}}, ["servers: there is no such setting", "expected one of: server, memcached"]),
    ({"server": {"workers": {"mim": 1}}}, ["server.workers.mim: there is no such setting", "min, max, spare, reserve"]),
    ({"server": {"workers": {"min": 0}}}, ["server.workers.min: found 0, expected an integer from 1 to 4000"]),
    ({"server": {"workers": {"min": "4"}}}, ['server.workers.min: found "4", expected an integer']),
    ({"server": {"workers": {"min": 4.5}}}, ["server.workers.min: found 4.5, expected an integer"]),
    ({"server": {"workers": {"min": 65}}}, ["server.workers.min: found 65, expected at most server.workers.max (64)"]),
    ({"server": {"workers": {"reserve": 64}}}, ["server.workers.reserve: found 64, expected less than"]),
    ({"server": {"workers": []}}, ["server.workers: found [], expected an object"]),
    ({"server": {"max_body": "32 apples"}}, ['server.max_body: found "32 apples", expected a size']),
    ({"server": {"max_body": 1}}, ["server.max_body: found 1, expected from 1024 to 1073741824 bytes"]),
    ({"server": {"shutdown_grace": 5}}, ["server.shutdown_grace: found 5, expected a duration"]),
    ({"server": {"base_path": "llm/"}}, ['server.base_path: found "llm/", expected "" or a path']),
    ({"server": {"trusted_proxies": ["10.0.0.0/8", "10.0.0.1/8"]}},
     ['server.trusted_proxies[1]: found "10.0.0.1/8", expected an address or a network']),
    ({"server": {"trusted_proxies": ["localhost"]}}, ['server.trusted_proxies[0]: found "localhost", expected']),
    ({"server": {"user_header": "X-User"}}, ["server.user_header: it is believed only from server.trusted_proxies"]),
    ({"server": {"user_header": "Authorization", "trusted_proxies": ["::1"]}},
     ['server.user_header: found "Authorization", which is not the client']),
    ({"server": {"user_header": "X User", "trusted_proxies": ["::1"]}},
     ['server.user_header: found "X User", expected a header']),
    ({"memcached": {"servers": []}}, ["memcached.servers: found 0 values, expected 1 to"]),
    ({"memcached": {"servers": ["localhost:0"]}}, ['memcached.servers: found "localhost:0", expected a socket']),
    ({"memcached": {"servers": ["/" + 108 * "x"]}}, ["memcached.servers: found", "at most 107 bytes"]),
    ({"memcached": {"timeout": "0ms"}}, ['memcached.timeout: found "0ms", expected a duration from 0.001s to 10s']),
    ({"memcached": {"prefix": "a b"}}, ['memcached.prefix: found "a b", expected 1 to 32 of']),
    ({"providers": {"fake": {"base_url": None}}}, ["providers.fake.base_url: it is missing"]),
    ({"providers": {"fake": {"base_url": "ftp://x"}}}, ['providers.fake.base_url: found "ftp://x", expected http://']),
    ({"providers": {"fake": {"base_url": "http://u:p@x"}}}, ["providers.fake.base_url", "or a password"]),
    ({"providers": {"fake": {"dialect": "klingon"}}},
     ['providers.fake.dialect: found "klingon", expected one of "openai"']),
    ({"providers": {"fake": {"ca_file": "/nonexistent"}}},
     ["providers.fake.ca_file: found", "no certificate in PEM form"]),
    ({"providers": {"fake": {"api_key": {"file": "nowhere"}}}},
     ["providers.fake.api_key", "nowhere cannot be read: No such"]),
    ({"providers": {"fake": {"api_key": 5}}}, ["providers.fake.api_key", "expected a string or {\"file\""]),
    ({"providers": {"fake": {"timeout": {"connect": "1"}}}}, ['providers.fake.timeout.connect: found "1", expected']),
    ({"models": {"demo": {"provider": "nobody"}}},
     ['models.demo.provider: found "nobody", expected the name of one of']),
    ({"models": {"demo": {"price": {"input": "cheap"}}}}, ['models.demo.price.input: found "cheap", expected dollars']),
    ({"models": {"demo": {"price": {"output": None}}}}, ["models.demo.price: expected both input and output"]),
    ({"models": None}, ["models: it is missing"]),
    ({"cache": {"enabled": 1}}, ["cache.enabled: found 1, expected true or false"]),
    ({"cache": {"scope": "world"}}, ['cache.scope: found "world", expected one of "key", "team", "everyone"']),
    ({"limits": [{"name": "a", "amount": 1, "window": "1m"}, {"name": "a", "amount": 1, "window": "1m"}]},
     ['limits[1].name: found "a" a second time']),
    ({"limits": [{"name": "a", "amount": 1, "window": "2d"}]}, ['limits[0].window: found "2d", expected a duration']),
    ({"limits": [{"name": "a", "amount": 0, "window": "1m"}]},
     ["limits[0].amount: found 0, expected more than 0"]),
    ({"limits": [{"name": "a", "amount": 1, "window": "1m", "per": ["planet"]}]}, ['limits[0].per: found "planet"']),
    ({"limits": [{"name": "a", "amount": 1, "window": "1m", "on_store_down": "panic"}]},
     ['limits[0].on_store_down: found "panic", expected one of "open", "closed", "local"']),
    ({"limits": [{"name": "a", "amount": 1, "window": "1M"}]}, ['limits[0].window: found "1M", expected a duration']),
    ({"limits": [{"name": "a", "amount": 1}]}, ['limits[0].window: it is missing, expected "1s" to "1d", or "month"']),
    ({"limits": [{"name": "a", "amount": 1, "count": "concurrent", "window": "1m"}]},
     ["limits[0].window: calls at the same time have no window"]),
    ({"limits": [{"name": "a", "amount": 10001, "count": "concurrent"}]},
     ["limits[0].amount: expected at most 10000 calls at the same time"]),
    ({"limits": [{"name": name, "amount": 1, "count": "concurrent"} for name in "abcd"]},
     ['limits[3]: at most 3 limits may count "concurrent"']),
    ({"limits": [{"amount": 1, "window": "1m"}]}, ["limits[0].name: it is missing"]),
    ({"keys_file": "nokeys.json"}, ["nokeys.json: cannot be read: No such file or directory"]),
    ({"log": {"client_address": "half"}}, ['log.client_address: found "half", expected one of "full", "truncated"']),
    ({"log": {"level": "loud"}}, ['log.level: found "loud", expected one of "debug", "info", "warn", "error"']),
]


@pytest.mark.parametrize("over, parts", WRONG, ids=lambda value: None)
def test_what_is_wrong_is_named(check, over, parts):
    status, out, err = check(over)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1 and err.startswith(str(check.path.parent))
    for part in parts:
        assert part in err


@pytest.mark.parametrize("text, part", [
    ("", "Invalid JSON"), ("{", "Invalid JSON"), ("[]", "found an array, expected an object"),
    ('{"cache": {}, "cache": {}}', "cache"), ('{"cache": {"ttl": NaN}}', "Invalid JSON"), ("\0", "NUL byte"),
    ('{"cache": "\\ud800"}', "surrogate")])
def test_what_is_not_json_is_named(check, text, part):
    status, out, err = check(text=text)
    assert (status, out) == (1, "")
    assert part in err and err.count("\n") == 1


@pytest.mark.parametrize("keys, part", [
    ({"demo": {"sha256": ["0123"]}}, 'demo.sha256: found "0123", expected 64 hexadecimal digits'),
    ({"demo": {"sha256": []}}, "demo.sha256: found 0 values, expected 1 to 2"),
    ({"demo": {}}, "demo.sha256: it is missing"),
    ({"a b": {"sha256": 64 * "0"}}, "a b: a key's name is expected to be 1 to 64 of"),
    ({"demo": {"sha256": 64 * "0", "expires": "tomorrow"}}, 'demo.expires: found "tomorrow", expected a time such as'),
    ({"demo": {"sha256": 64 * "0", "modles": []}}, "demo.modles: there is no such setting"),
])
def test_what_is_wrong_with_a_key_is_named(check, keys, part):
    status, out, err = check(keys=json.dumps(keys))
    assert (status, out) == (1, "")
    assert f"{check.path.parent / 'keys.json'}: {part}" in err


@pytest.mark.parametrize("name, counts", [
    ("conf/pavise.json", "2 providers, 2 models"), ("conf/openai.json", "1 providers, 5 models"),
    ("docker/config/pavise.json", "2 providers, 2 models")])
def test_the_shipped_ones_are_good(name, counts):
    status, out, err = run("--check", "--config", ROOT / name, OPENAI_API_KEY="sk-test")
    assert (status, err) == (0, "")
    assert out == f"{ROOT / name}: good ({counts}, 1 keys, 2 limits)\n"
    # without the key its provider is off: good all the same, with one warning
    status, out, err = run("--check", "--config", ROOT / name)
    assert status == 0 and ": good (" in out
    warning = json.loads(err)
    assert warning["event"] == "provider_off"
    assert warning["message"].endswith('"openai" is switched off: the environment variable OPENAI_API_KEY is not set')


# ── secrets ──

def test_a_secret_that_others_can_read_is_refused(check):
    over = {"providers": {"fake": {"api_key": "sk-literal"}}}
    status, _, err = check(over, mode=0o644)
    assert status == 1
    assert err.startswith(f"{check.path}: providers.fake.api_key: a secret stands in a file that every user")
    assert "mode 644" in err and "sk-literal" not in err
    assert check(over, mode=0o640)[0] == 0
    over["providers"]["fake"]["api_key"] = "${FAKE_KEY:-sk-literal}"  # a default stands in the file, too
    assert check(over, mode=0o644)[0] == 1
    over["providers"]["fake"]["api_key"] = "${FAKE_KEY}"
    assert check(over, mode=0o644, FAKE_KEY="sk-from-environment")[0] == 0


def test_a_secret_file_that_others_can_read_is_refused(check, folder):
    secret = folder / "secret"
    secret.write_text("sk-in-file\n")
    secret.chmod(0o644)
    over = {"providers": {"fake": {"api_key": {"file": "secret"}}}}
    status, _, err = check(over)
    assert status == 1
    assert "providers.fake.api_key" in err and f"{secret} can be read by every user" in err and "sk-in-file" not in err
    secret.chmod(0o600)
    assert check(over)[0] == 0
    secret.write_text("")
    assert "is empty" in check(over)[2]


def test_a_secret_from_a_file_arrives_and_a_new_one_too(start):
    s = start(wait=True)
    secret = s.pavise.folder / "secret"

    def write(text):
        fresh = secret.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o600)
        fresh.replace(secret)

    def arrives():
        prompt = unique()
        s.client.chat(prompt)
        return s.provider.requests(prompt)[0].headers.get("authorization")

    assert arrives() is None
    write("sk-one\n")
    s.pavise.change({"providers": {"fake": {"api_key": {"file": "secret"}}}})
    wait_until(lambda: arrives() == "Bearer sk-one", 2)
    write("sk-two\n")
    wait_until(lambda: arrives() == "Bearer sk-two", 2)


def test_a_run_dir_that_cannot_be_written_is_a_warning(start):
    s = start({"server": {"run_dir": "/nonexistent"}})
    line = s.pavise.wait_event("run_dir")
    assert line["level"] == "warn" and "/nonexistent (No such file or directory)" in line["message"]
    assert s.client.chat(unique()).status == 200


# ── the real provider's configuration, against a pretend one over TLS ──

def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(module_folder):
    """A certificate authority: (folder with ca.pem, issue(name, subjectAltName))."""
    folder = module_folder / "ca"
    folder.mkdir()
    openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=a test's authority", "-keyout", "ca.key", "-out", "ca.pem")

    def issue(name, alternative):
        (folder / "ext").write_text(f"subjectAltName={alternative}\n")
        openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", "/CN=provider", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", "ext", "-out", f"{name}.pem")
        return "--tls-cert", folder / f"{name}.pem", "--tls-key", folder / f"{name}.key"

    return folder, issue


@pytest.fixture(scope="module")
def secure(module_folder, authority):
    """demo-llm over TLS, which wants the key sk-real."""
    with DemoLLM(module_folder, *authority[1]("localhost", "DNS:localhost,IP:127.0.0.1"), "--api-key", "sk-real",
                 "--first-ms", "0", "--token-ms", "0") as demo:
        yield demo


class OpenAI(Pavise):
    """pavise with conf/openai.json as it is shipped."""

    def __init__(self, folder, **options):
        super().__init__(folder, wait=False, **options)

    def start(self, wait=True):
        for name in ("openai.json", "keys.json", "prices.json"):
            shutil.copy(CONF / name, self.folder)
        self.config_path = self.folder / "openai.json"
        super().start(True)


@pytest.fixture
def openai(folder, memcached):
    """openai(base_url, **environment) → (Web, Pavise), with a memcached where that file expects it."""
    endings = []

    def start(base_url, key="sk-real", **environment):
        pavise = OpenAI(folder, env={"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": key, "SSL_CERT_FILE": "",
                                     "OPENAI_CA_FILE": "", **environment})
        os.symlink(memcached.path, pavise.folder / "memcached.sock")
        endings.append(pavise)
        web = Web(folder, "lighttpd", pavise.socket)
        endings.append(web)
        return web, pavise
    yield start
    for each in reversed(endings):
        each.end()


def ask_openai(text=None, **fields):
    return ask(text or unique(), model="gpt-4o-mini", **fields)


def test_openai_over_tls(openai, secure, authority):
    web, _ = openai(f"https://localhost:{secure.port}/v1", OPENAI_CA_FILE=str(authority[0] / "ca.pem"))
    answer = web.client.post(ask_openai("over TLS"))
    assert answer.status == 200, answer
    assert answer.json["choices"][0]["message"]["content"]
    again = web.client.post(ask_openai("over TLS", stream=True))
    assert again.status == 200 and again.cache == "HIT"
    with web.client.stream(ask_openai(stream=True)) as stream:
        assert stream.rest()[-1] == "[DONE]"
    line = web.log.wait(lambda line: line.get("request_id") == answer.request_id)
    assert line["gen_ai.provider.name"] == "openai" and line["cost_usd"] > 0


def test_openai_sends_its_key_as_a_bearer(openai, secure, authority):
    """The pretend provider knows another one: its 401 is passed on."""
    web, _ = openai(f"https://localhost:{secure.port}/v1", key="sk-wrong", OPENAI_CA_FILE=str(authority[0] / "ca.pem"))
    answer = web.client.post(ask_openai())
    assert answer.status == 401, answer


def refused_by_tls(web):
    answer = web.client.post(ask_openai())
    assert answer.status == 502, answer
    assert answer.error["code"] == "provider_tls_error"
    line = web.log.wait(lambda line: line.get("request_id") == answer.request_id)
    assert line["error.type"] == "provider_tls"
    with web.client.stream(ask_openai(stream=True)) as stream:
        assert stream.status == 502
    return line["upstream_error"]


def test_openai_with_an_unknown_authority(openai, secure):
    """Verification is on: the system's certificates do not know ours."""
    web, _ = openai(f"https://localhost:{secure.port}/v1")
    assert "certificate" in refused_by_tls(web)


def test_openai_with_a_certificate_for_another_host(openai, folder, authority):
    with DemoLLM(folder, *authority[1]("other", "DNS:other.example")) as demo:
        web, _ = openai(f"https://localhost:{demo.port}/v1", OPENAI_CA_FILE=str(authority[0] / "ca.pem"))
        assert "localhost" in refused_by_tls(web)


def test_openai_where_nobody_speaks_tls(openai, folder):
    with DemoLLM(folder) as demo:
        web, _ = openai(f"https://localhost:{demo.port}/v1")
        refused_by_tls(web)


def test_openai_without_a_key_is_off(openai, secure):
    web, pavise = openai(f"https://localhost:{secure.port}/v1", key="")
    answer = web.client.post(ask_openai())
    assert answer.status == 503
    assert answer.error["code"] == "provider_not_configured"
    assert len(pavise.log.find(lambda line: line["event"] == "provider_off")) == 1


def test_without_ca_file_the_systems_certificates_count(start, secure, authority):
    """SSL_CERT_FILE is OpenSSL's own word for where they are."""
    s = start({"providers": {"fake": {"base_url": f"https://localhost:{secure.port}/v1", "api_key": "sk-real"}}},
              env={"SSL_CERT_FILE": str(authority[0] / "ca.pem")})
    assert s.client.chat(unique()).status == 200


def test_a_changed_authority_is_taken_up(start, secure, authority):
    s = start({"providers": {"fake": {"base_url": f"https://localhost:{secure.port}/v1", "api_key": "sk-real"}}})
    assert s.client.post(ask(unique())).status == 502
    s.pavise.change({"providers": {"fake": {"ca_file": str(authority[0] / "ca.pem")}}})
    wait_until(lambda: s.client.post(ask(unique())).status == 200, 2)
