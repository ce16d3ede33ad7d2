"""Somebody else's project: the built wheel, PyTorch and pytest alone, and 32 ports by hand."""

import resource
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import small_ports
import wheels

TESTS = """import importlib

import pytest

PORTS = {ports}


@pytest.mark.parametrize("name", PORTS)
def test_port(parity, name):
    parity(f"{{PORTS[name]}}.keras", importlib.import_module(name).Port().eval())
"""

MOST = 60
"""Seconds of processor time for the whole run."""

needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="packages are linked, which Windows does not allow everyone"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the files of Keras models and the ports, and an environment for them."""
    folder = tmp_path_factory.mktemp("second")
    wheel = wheels.built_wheel(tmp_path_factory.mktemp("wheel"))
    scripts, packages = wheels.installed(wheel, folder / "venv")
    wheels.link(packages, ["numpy", "safetensors", "PyYAML", "rich", "torch", "pytest"])
    tests, arrays = folder / "tests", {}
    tests.mkdir()
    for name, model in small_ports.keras_models().items():
        model.save(tests / f"{name}.keras")
        arrays[name] = model.get_weights()
    np.savez(
        tests / "arrays.npz", **{f"{m}_{n}": a for m, w in arrays.items() for n, a in enumerate(w)}
    )
    for name, port in small_ports.PORTS.items():
        (tests / f"{name}.py").write_text(port.text(len(arrays[port.model])))
    names = {name: port.model for name, port in small_ports.PORTS.items()}
    (tests / "test_ports.py").write_text(TESTS.format(ports=names))
    return scripts / "python", tests


@pytest.fixture(scope="module")
def failures(project):
    """Test -> the text of its failure, "" for a test that passes; and the time of the processor."""
    python, tests = project
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [python, "-m", "pytest", "-q", "--junitxml=found.xml", "--xlstm-report=found.html"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=tests,
        env=wheels.environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 1, done.stdout + done.stderr
    found = {}
    for case in ET.parse(tests / "found.xml").iter("testcase"):
        wrong = case.find("failure")
        name = case.get("name").removeprefix("test_port[").removesuffix("]")
        found[name] = "" if wrong is None else wrong.get("message")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found, used, (tests / "found.html").read_text("utf-8")


@needs_linux
def test_the_project_has_pytorch_alone(project):
    python, tests = project
    code = "import importlib.util as u, xlstm; print(xlstm.__file__)\n"
    code += (
        "print([n for n in ('torch','keras','tensorflow','jax','flax','h5py') if u.find_spec(n)])"
    )
    place, found = wheels.ran(python, "-c", code, folder=tests).splitlines()
    assert "venv" in place
    assert found == "['torch']"


@needs_linux
def test_right_ports_pass_and_wrong_ones_fail_with_their_cause(failures):
    found, used, _ = failures
    assert len(found) == len(small_ports.PORTS) >= 30
    said = {}
    for name, port in small_ports.PORTS.items():
        right = not port.cause and not found[name]
        named = port.cause and f"[{port.cause}]" in found[name]
        if not right and not named:
            said[name] = (port.cause, found[name])
    assert not said
    assert used < MOST


@needs_linux
def test_the_page_has_every_port(failures):
    page = failures[2]
    right = sum(not port.cause for port in small_ports.PORTS.values())
    assert page.count('<td class="equal">') == right
    assert page.count("<tr><td>") == len(small_ports.PORTS)
    assert all(port.cause in page for port in small_ports.PORTS.values())
