"""conf/openai.json as it is, against a provider that speaks TLS: who cannot show the right certificate gets nothing."""

import contextlib
import subprocess

import pytest

from client import ask, unique
from process import ROOT
from servers import DemoLLM, Stack

KEY = "sk-of-the-operator"


class Authority:
    """A certificate authority of these tests; cert(name) makes a server's certificate: the options of demo-llm."""

    def __init__(self, folder, name):
        self.folder, self.name, self.ca = folder, name, folder / f"{name}.pem"
        self.run("req", "-x509", *self.key(name), "-out", self.ca, "-subj", f"/CN={name}", "-days", "2")

    def run(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], cwd=self.folder, check=True, capture_output=True)

    def key(self, name):
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"

    def cert(self, host):
        name = f"{self.name}-{host}"
        (self.folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\n")
        self.run("req", *self.key(name), "-out", f"{name}.csr", "-subj", f"/CN={host}")
        self.run("x509", "-req", "-in", f"{name}.csr", "-CA", self.ca, "-CAkey", f"{self.name}.key", "-CAcreateserial",
                 "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        return "--tls-cert", self.folder / f"{name}.pem", "--tls-key", self.folder / f"{name}.key"


@pytest.fixture(scope="module")
def authority(module_folder):
    return Authority(module_folder, "ours")


@pytest.fixture
def openai(folder, memcached, authority):
    """openai(option…) → a Stack with conf/openai.json, our authority, and demo-llm with these options as the provider."""
    with contextlib.ExitStack() as endings:
        def start(*options, api_key=KEY):
            demo = endings.enter_context(DemoLLM(folder, "--first-ms", "0", "--token-ms", "0", "--tokens", "8",
                                                 "--api-key", KEY, *options))
            env = {"OPENAI_BASE_URL": f"https://localhost:{demo.port}/v1", "OPENAI_CA_FILE": str(authority.ca),
                   "OPENAI_API_KEY": api_key}
            return endings.enter_context(Stack(folder, env=env, memcached=memcached,
                                               config_file=ROOT / "conf/openai.json"))
        yield start


def test_the_shipped_configuration_for_openai(openai, authority):
    stack = openai(*authority.cert("localhost"))
    for model in "gpt-4o-mini", "o4-mini":
        prompt = unique()
        miss = stack.client.chat(prompt, model=model)
        stream = stack.client.chat(prompt, model=model, stream=True)
        assert (miss.cache, stream.cache) == ("MISS", "HIT") and stream.events[-1] == "[DONE]"
        assert stack.client.chat(unique(), model=model, stream=True).cache == "MISS"
        line = stack.log_of(miss)
        assert line["gen_ai.provider.name"] == "openai" and line["cost_usd"] > 0
    assert {m["id"] for m in stack.client.get("/v1/models").json["data"]} >= {"gpt-4o", "gpt-4.1"}
    assert KEY not in stack.all_text()


FAULTS = {"another authority": lambda folder, authority: Authority(folder, "theirs").cert("localhost"),
          "another name": lambda folder, authority: authority.cert("elsewhere.example"),
          "no TLS": lambda folder, authority: ()}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_provider_that_is_not_who_it_says(openai, folder, authority, fault):
    stack = openai(*FAULTS[fault](folder, authority))
    for stream in False, True:
        answer = stack.client.post(ask(unique(), model="gpt-4o-mini", stream=stream))
        assert answer.status == 502 and answer.error["code"] == "provider_tls_error", answer
        line = stack.log_of(answer)
        assert line["error.type"] == "provider_tls" and line["upstream_error"]


def test_a_key_that_the_provider_does_not_know(openai, authority):
    stack = openai(*authority.cert("localhost"), api_key="sk-wrong")
    answer = stack.client.post(ask(unique(), model="gpt-4o-mini"))
    assert answer.status == 401 and answer.error["code"] == "invalid_api_key"
    assert stack.log_of(answer)["error.type"] == "provider_error"
