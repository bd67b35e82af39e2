"""The supervisor: its pool follows the demand, nobody's death costs anybody else anything, no stream is ever cut."""

import concurrent.futures
import contextlib
import os
import select
import shutil
import signal
import threading
import time

import pytest

import procs
from client import ask, unique
from conftest import new_folder
from procs import Held
from process import alive, wait_until
from servers import KEYS, Stack

SOON = 2.0  # a change of a file is in force "within a second or so"


def pool(min=2, max=8, spare=1, reserve=1, **server):
    return {"server": {"workers": {"min": min, "max": max, "spare": spare, "reserve": reserve}, **server}}


@pytest.fixture(autouse=True)
def no_zombie_stays(request):
    """Nobody under a supervisor of this file is left unburied."""
    yield
    for stack in [request.getfixturevalue(name) for name in ("burst", "calm") if name in request.fixturenames]:
        wait_until(lambda: not procs.zombies(stack.pavise.pid), 2, "zombies to be buried")


@contextlib.contextmanager
def stack_of_a_module(config, memcached):
    folder = new_folder()
    with Stack(folder, config, memcached=memcached) as s:
        yield s
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def burst(memcached):
    """A pool that a test makes grow, and which shrinks while the others run."""
    with stack_of_a_module(pool(min=2, max=12, spare=2), memcached) as s:
        yield s


@pytest.fixture(scope="module")
def calm(memcached):
    """For tests that leave it as they found it."""
    with stack_of_a_module(pool(min=3, max=20), memcached) as s:
        yield s


def events(stack, name):
    return stack.pavise.log.find(lambda line: line["event"] == name)


def in_force(stack, check, timeout=SOON):
    """Waits until a change has been taken up; seconds that it took."""
    begin = time.monotonic()
    wait_until(check, timeout, "the change to be in force")
    return time.monotonic() - begin


# ── the size of the pool ──

def test_it_starts_with_min_workers(calm):
    assert len(calm.pavise.workers()) == 3
    assert [line["level"] for line in events(calm, "start")] == ["info"]
    assert "workers 3 to 20" in events(calm, "start")[0]["message"]


def test_it_grows_by_demand_and_keeps_some_spare(burst):
    held = [Held(burst) for _ in range(6)]
    wait_until(lambda: len(burst.pavise.workers()) >= 6 + 2)
    assert len({h.worker for h in held}) == 6
    assert {h.worker for h in held} < set(burst.pavise.workers())
    for h in held:
        h.finish()
    burst.grown_to = len(burst.pavise.workers())


def test_spare_workers_are_there_even_if_min_is_less(start):
    s = start(pool(min=1, max=10, spare=4))
    wait_until(lambda: len(s.pavise.workers()) == 4)


@pytest.fixture(scope="module")
def full(memcached):
    """A pool at workers.max, all but the reserve at the provider: (stack, held streams, a prompt that is cached)."""
    with stack_of_a_module(pool(min=1, max=4), memcached) as s:
        cached = unique()
        s.client.chat(cached)
        held = [Held(s) for _ in range(3)]
        wait_until(lambda: len(s.pavise.workers()) == 4)
        yield s, held, cached


def test_hit_lane_answers_what_needs_no_provider(full):
    s, _, cached = full
    begin = time.monotonic()
    for stream in (False, True):
        assert s.client.chat(cached, stream=stream).cache == "HIT"
    assert s.client.get("/healthz").status == 200
    assert s.client.get("/readyz").status == 200
    assert s.client.get("/v1/models").status == 200
    assert s.client.with_key("nobody").post(ask()).status == 401
    assert time.monotonic() - begin < 2


def test_hit_lane_refuses_a_miss(full):
    s, _, _ = full
    prompt = unique()
    answer = s.client.post(ask(prompt))
    assert answer.status == 503
    assert answer.error["code"] == "server_is_overloaded"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["x-should-retry"] == "true"
    assert s.log_of(answer)["error.type"] == "policy_overloaded"
    assert s.provider.calls(prompt) == 0


def test_hit_lane_is_not_used_up_by_a_crowd(full):
    s, _, cached = full
    with concurrent.futures.ThreadPoolExecutor(30) as crowd:
        misses = [crowd.submit(s.client.post, ask(unique())) for _ in range(60)]
        hits = [crowd.submit(s.client.chat, cached) for _ in range(30)]
        assert {miss.result().status for miss in misses} == {503}
        assert {hit.result().cache for hit in hits} == {"HIT"}
    assert len(s.pavise.workers()) == 4


def test_hit_lane_opens_when_a_call_ends(full):
    s, held, _ = full
    held.pop().finish()
    wait_until(lambda: s.client.post(ask(unique())).status == 200)
    for h in held:
        h.finish()


def test_without_a_reserve_who_comes_too_late_waits(start):
    s = start(pool(min=1, max=2, spare=1, reserve=0))
    held = [Held(s) for _ in range(2)]
    with s.client.stream(ask(unique())) as third:
        assert select.select([third.socket], [], [], 0.3) == ([], [], [])
        held.pop().finish()
        assert third.whole().status == 200
    held.pop().finish()


# ── deaths ──

def test_a_killed_worker_costs_its_request_and_nothing_else(calm):
    victim, *others = held = [Held(calm) for _ in range(3)]
    os.kill(victim.worker, signal.SIGKILL)
    assert "[DONE]" not in victim.cut()
    line = calm.pavise.wait_log(lambda line: line["event"] == "worker_died" and str(victim.worker) in line["message"])
    assert line["level"] == "error" and "signal 9" in line["message"]
    assert calm.client.chat(unique()).status == 200
    for h in others:
        assert alive(h.worker)
        h.finish()
    wait_until(lambda: len(calm.pavise.workers()) >= 3)
    assert victim.worker not in calm.pavise.workers()
    assert len([line for line in calm.pavise.log.read() if line["event"] == "worker_died"]) == 1
    assert calm.lines(held[0].stream.request_id) == []  # a killed process writes no line


def test_a_worker_killed_before_it_has_answered(calm):
    prompt = calm.provider.manual()
    with calm.client.stream(ask(prompt)) as stream:
        call = calm.provider.take(prompt)
        calm.provider.on(lambda call: call.plain(), prompt)  # a web server may give it to another worker
        os.kill(procs.owner_of(call.socket, calm.pavise.workers()), signal.SIGKILL)
        procs.let_go(call)
        assert stream.whole().status in (200, 500, 502, 503)
    assert calm.client.chat(unique()).status == 200


def test_all_workers_killed_at_once(calm):
    before = set(calm.pavise.workers())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    procs.gone(before)
    begin = time.monotonic()
    assert calm.client.chat(unique()).status == 200  # waits for a new one
    assert time.monotonic() - begin < 2
    wait_until(lambda: len(calm.pavise.workers()) >= 3)
    assert not before & set(calm.pavise.workers())


def test_a_worker_that_somebody_terminates_is_replaced(calm):
    pid = calm.pavise.workers()[0]
    os.kill(pid, signal.SIGTERM)
    said = f"worker {pid} left with status 0"
    calm.pavise.wait_log(lambda line: line["event"] == "worker_died" and said in line["message"])
    wait_until(lambda: len(calm.pavise.workers()) >= 3)
    assert calm.client.chat(unique()).status == 200


def killed_and_replaced(pavise, pid):
    """Kills a worker; seconds until there was another one, and its pid."""
    before = set(pavise.workers())
    os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    new = wait_until(lambda: set(pavise.workers()) - before, what="a new worker")
    return time.monotonic() - begin, new.pop()


def test_respawn_pauses_grow_and_a_healthy_run_resets_them(start):
    s = start(pool(min=2, max=3, spare=1, reserve=0))
    old, pid = s.pavise.workers()
    pauses = []
    for _ in range(4):
        pause, pid = killed_and_replaced(s.pavise, pid)
        pauses.append(pause)
    assert all(0.09 * 2 ** i < pause < 0.1 * 2 ** i + 0.4 for i, pause in enumerate(pauses)), pauses
    wait_until(lambda: procs.age(pid) > 5.1)
    # all are well for a while; then the pool grows, and the one that came dies young: not the fifth of a row
    held = [Held(s), Held(s)]
    young = wait_until(lambda: set(s.pavise.workers()) - {old, pid}, what="the pool to grow").pop()
    pause, _ = killed_and_replaced(s.pavise, young)
    assert 0.09 < pause < 0.5
    for h in held:
        h.finish()


# ── the end ──

@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_finishes_what_is_in_flight(start, how):
    s = start(pool(min=2, max=8))
    cached = unique()
    s.client.chat(cached)
    held = Held(s)
    workers = s.pavise.workers()
    s.pavise.process.signal(how)
    s.pavise.wait_event("drain")
    ready = s.client.get("/readyz")
    assert (ready.status, ready.json) == (503, {"status": "draining"})
    assert s.client.get("/healthz").status == 200
    for prompt in (unique(), cached):
        refused = s.client.post(ask(prompt))
        assert refused.status == 503
        assert refused.error["code"] == "server_is_overloaded"
        assert int(refused.headers["Retry-After"]) >= 1
    assert s.pavise.process.running()
    held.finish()
    assert s.pavise.process.wait() == 0
    assert [pid for pid in workers if alive(pid)] == []
    assert s.log_of(held.stream)["http.response.status_code"] == 200
    assert events(s, "worker_died") == []


def test_idle_it_stops_at_once(start):
    s = start(pool(min=4))
    workers = s.pavise.workers()
    begin = time.monotonic()
    s.pavise.term()
    assert s.pavise.process.wait() == 0
    assert time.monotonic() - begin < 2
    assert [pid for pid in workers if alive(pid)] == []


def test_a_second_term_does_not_wait(start):
    s = start(pool())
    held = Held(s)
    s.pavise.term()
    s.pavise.wait_event("drain")
    begin = time.monotonic()
    s.pavise.term()
    assert s.pavise.process.wait() == 0
    assert time.monotonic() - begin < 2
    assert not alive(held.worker)
    assert "[DONE]" not in held.cut()


def test_who_does_not_finish_within_the_grace_is_ended(start):
    s = start(pool(shutdown_grace="1s"))
    held = [Held(s), Held(s)]
    begin = time.monotonic()
    s.pavise.term()
    assert s.pavise.process.wait() == 0
    assert 0.9 < time.monotonic() - begin < 3
    assert events(s, "drain_over")[0]["message"].startswith("2 workers did not finish in time")
    for h in held:
        assert not alive(h.worker)
        assert "[DONE]" not in h.cut()


def test_a_full_pool_says_that_it_is_draining(start):
    """Nobody is idle when the word comes, so nobody is at the door by himself."""
    s = start(pool(min=1, max=2, spare=1, reserve=0))
    held = [Held(s), Held(s)]
    s.pavise.term()
    s.pavise.wait_event("drain")
    answer = []
    asking = threading.Thread(target=lambda: answer.append(s.client.get("/readyz").status), daemon=True)
    asking.start()
    asking.join(3)
    for h in held:
        h.finish()
    assert answer == [503]


def test_after_a_kill_of_the_supervisor_no_orphan_stays(start):
    s = start(pool(min=3))
    held = Held(s)
    workers = s.pavise.workers()
    os.kill(s.pavise.pid, signal.SIGKILL)
    procs.gone([pid for pid in workers if pid != held.worker], 3)
    assert alive(held.worker)
    held.finish()
    procs.gone(workers, 3)


# ── a new configuration ──

def test_a_changed_configuration_is_in_force_soon_and_cuts_no_stream(calm):
    supervisor, before, loaded = calm.pavise.pid, calm.pavise.workers(), len(events(calm, "config_loaded"))
    held, original = Held(calm), calm.pavise.config
    assert calm.client.post(ask(model="new")).error["code"] == "model_not_found"
    calm.pavise.change({"models": {"new": {"provider": "fake", "model": "fake-2"}}})
    in_force(calm, lambda: calm.client.post(ask(unique(), model="new")).status == 200)
    procs.gone([pid for pid in before if pid != held.worker], 3)
    assert alive(held.worker)
    assert len(events(calm, "config_loaded")) == loaded + 1
    assert "2 models" in events(calm, "config_loaded")[-1]["message"]
    held.finish()
    procs.gone([held.worker], 3)  # finished what it held, and left
    calm.pavise.write_config(original)
    in_force(calm, lambda: calm.client.post(ask(model="new")).status == 404)
    assert calm.pavise.pid == supervisor and calm.pavise.process.running()


def test_hup_loads_it_again_even_if_nothing_changed(calm):
    before, loaded = calm.pavise.workers(), len(events(calm, "config_loaded"))
    held = Held(calm)
    calm.pavise.hup()
    procs.gone([pid for pid in before if pid != held.worker], 3)
    held.finish()
    wait_until(lambda: len(calm.pavise.workers()) == 3)
    assert len(events(calm, "config_loaded")) == loaded + 1
    assert not set(before) & set(calm.pavise.workers())


def test_a_broken_file_changes_nothing_but_one_log_line(calm):
    original, before = calm.pavise.config, calm.pavise.workers()
    held = Held(calm)
    calm.pavise.change({"limits": [{"name": "rpm", "amount": "many", "window": "1m"}]})
    line = calm.pavise.wait_event("config_rejected")
    assert line["level"] == "error"
    for part in (str(calm.pavise.config_path), "limits[0].amount", 'found "many"', "expected more than 0",
                 "the configuration from before stays in force"):
        assert part in line["message"]
    begin = time.monotonic()
    while time.monotonic() - begin < 1:  # several looks of the supervisor's
        assert calm.client.chat(unique()).status == 200
    assert set(before) <= set(calm.pavise.workers())
    # the file is put right, with something new in it
    calm.pavise.write_config(original)
    calm.pavise.change({"models": {"fixed": {"provider": "fake"}}})
    in_force(calm, lambda: calm.client.post(ask(unique(), model="fixed")).status == 200)
    assert len(events(calm, "config_rejected")) == 1
    held.finish()
    calm.pavise.write_config(original)
    in_force(calm, lambda: calm.client.post(ask(model="fixed")).status == 404)


def test_hup_with_a_broken_file_says_so_once(start):
    s = start(pool())
    s.pavise.write_config("{ broken")
    s.pavise.hup()
    begin = time.monotonic()
    while time.monotonic() - begin < 1:  # several looks of the supervisor's
        assert s.client.chat(unique()).status == 200
    assert len(events(s, "config_rejected")) == 1


def test_a_file_that_is_missing_for_a_while(start):
    s = start(pool())
    aside = s.pavise.config_path.with_suffix(".aside")
    s.pavise.config_path.rename(aside)
    line = s.pavise.wait_event("config_rejected")
    assert "cannot be read: No such file or directory" in line["message"]
    assert s.client.chat(unique()).status == 200
    aside.rename(s.pavise.config_path)
    s.pavise.change({"models": {"new": {"provider": "fake"}}})
    in_force(s, lambda: s.client.post(ask(unique(), model="new")).status == 200)


def test_keys_are_added_disabled_and_taken_away(calm):
    new = calm.client.with_key("new")

    def now_says(keys):
        before = calm.pavise.workers()
        calm.pavise.write_keys(keys)
        procs.gone(before, SOON)  # until then either answer is right
        answer = new.post(ask(unique()))
        return answer.status, answer.status != 200 and answer.error["code"]

    assert new.post(ask()).error["code"] == "invalid_api_key"
    assert now_says({**KEYS, "new": {}}) == (200, False)
    assert now_says({**KEYS, "new": {"disabled": True}}) == (401, "api_key_disabled")
    assert now_says(KEYS) == (401, "invalid_api_key")


def test_a_broken_keys_file_changes_nothing(calm):
    rejected = len(events(calm, "config_rejected"))
    calm.pavise.write_keys('{"demo": {"sha256": ["feed"]}}')
    wait_until(lambda: len(events(calm, "config_rejected")) > rejected)
    message = events(calm, "config_rejected")[-1]["message"]
    assert f'{calm.pavise.keys_path}: demo.sha256: found "feed", expected 64 hexadecimal digits' in message
    assert calm.client.chat(unique()).status == 200
    calm.pavise.write_keys({**KEYS, "new": {}})
    in_force(calm, lambda: calm.client.with_key("new").post(ask(unique())).status == 200)
    calm.pavise.write_keys(KEYS)
    in_force(calm, lambda: calm.client.with_key("new").post(ask()).status == 401)
    assert len(events(calm, "config_rejected")) == rejected + 1


def test_a_configuration_that_names_a_file_which_comes_later(start):
    s = start(pool())
    s.pavise.change({"keys_file": "other-keys.json"})
    s.pavise.wait_event("config_rejected")
    other = s.pavise.folder / "other-keys.json"
    other.write_text(s.pavise.keys_path.read_text().replace('"demo"', '"renamed"'))
    in_force(s, lambda: "renamed" in [line.get("key_id") for line in s.lines(s.client.chat(unique()).request_id)])


def test_a_new_size_of_the_pool_is_in_force(start):
    s = start(pool(min=2, max=8))
    s.pavise.change(pool(min=6, max=8))
    wait_until(lambda: len(s.pavise.workers()) == 6, SOON)
    s.pavise.change(pool(min=1, max=2))
    wait_until(lambda: len(s.pavise.workers()) == 1, SOON)
    held = [Held(s)]
    answer = s.client.post(ask(unique()))
    assert (answer.status, answer.error["code"]) == (503, "server_is_overloaded")
    held.pop().finish()


def test_reloads_under_load_lose_no_request(calm):
    wrong, over = [], threading.Event()

    def ask_on():
        while not over.is_set():
            with contextlib.suppress(AssertionError):
                answer = calm.client.post(ask(unique()))
                if answer.status != 200:
                    wrong.append(answer)

    with concurrent.futures.ThreadPoolExecutor(4) as crowd:
        asking = [crowd.submit(ask_on) for _ in range(4)]
        for _ in range(8):
            loaded = len(events(calm, "config_loaded"))
            calm.pavise.hup()
            wait_until(lambda: len(events(calm, "config_loaded")) > loaded)
        over.set()
        for task in asking:
            task.result()
    assert wrong == []
    wait_until(lambda: len(calm.pavise.workers()) <= 8)  # nobody of the generations before is left behind


# ── and back to calm ──

def test_workers_that_are_not_needed_leave_again(burst):
    assert burst.grown_to >= 8
    wait_until(lambda: len(burst.pavise.workers()) == 2, 30)
    assert events(burst, "worker_died") == []
    assert burst.client.chat(unique()).status == 200
