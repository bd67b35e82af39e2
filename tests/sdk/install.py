"""
The clients, installed when they are first needed, into $PAVISE_BUILD/sdk/: one folder for each state of a lock file, so
that a changed version makes a new one and nothing is fetched twice.
"""

import fcntl
import hashlib
import pathlib
import re
import secrets
import shutil
import subprocess
import sys

from process import BUILD

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = 600


class Unreachable(Exception):
    """A registry cannot be reached: that is no failure of ours."""


def run(command, **options):
    """(whether it worked, what it said)"""
    try:
        done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=PATIENCE, check=False, text=True, **options)
    except subprocess.TimeoutExpired as e:
        return False, f"not within {e.timeout} s"
    return done.returncode == 0, done.stdout


def installed(name, lock, install):
    """The folder for this lock file, made by install(folder) unless it is there already."""
    folder = BUILD / "sdk" / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f"{name}.lock", "w", encoding="ascii") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            install(folder)
            (folder / "complete").touch()
    return folder


def must(command, probe, registry, **options):
    """Runs command; where it fails and the probe cannot reach the registry either, it is Unreachable."""
    good, said = run(command, **options)
    if not good:
        if not run(probe, **options)[0]:
            raise Unreachable(f"{registry} cannot be reached")
        raise AssertionError(f"{command}:\n{said[-3000:]}")


def install_npm(folder):
    for name in "package.json", "package-lock.json":
        shutil.copy(HERE / "node" / name, folder)
    quick = ["--fetch-retries=1", "--fetch-retry-mintimeout=2000"]
    must(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *quick],
         ["npm", "view", "openai", "version", "--loglevel=error", *quick], "npm registry", cwd=folder)


def npm():
    """The folder with node_modules, and our scripts beside it: an import is looked for from where a script stands."""
    folder = installed("npm", HERE / "node" / "package-lock.json", install_npm)
    for script in (HERE / "node").glob("*.mjs"):
        fresh = folder / f"{script.name}.{secrets.token_hex(8)}"  # others may run it at this moment
        shutil.copy(script, fresh)
        fresh.replace(folder / script.name)
    return folder


def install_pypi(folder):
    requirements = HERE / "python" / "requirements.txt"
    good, said = run([sys.executable, "-m", "venv", folder])
    assert good, said
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    wanted = re.search(r"^openai==\S+", requirements.read_text(), re.M)[0]
    must([*pip, "install", "--quiet", "--require-hashes", "-r", requirements],
         [*pip, "download", "--quiet", "--no-deps", "--no-cache-dir", "--dest", folder / "probe", wanted], "PyPI")


def pypi():
    """The Python that has the client."""
    return installed("pypi", HERE / "python" / "requirements.txt", install_pypi) / "bin" / "python"
