"""Programs in forks of a process that has imported what is slow to import, but nothing of ours.

Each runs as by `python -m`, from its first line on, with the code of its own folder. Half of the
time of a dry run, and most of that of a command, goes into importing Snakemake or PyTorch.

`run` starts one. `python()` is a program that stands in for Python and does the same: it gives on
what the fork says, its status, and signals; if it is killed, so is the fork. For what `run` starts
it is `sys.executable`, so that the jobs of Snakemake are forks, too. Beside it lie `snakemake` and
`twophase`, for a PATH. A command with the text in it that the variable `FROM_NOTHING` holds starts
as ever, and so does what it starts.

Processes that share the tests share the servers of the one that started them (`serve`).
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

# The programs are its children: it gives on signals, and tells how they end.
SERVER = """
import atexit, gc, importlib, json, os, runpy, select, socket, sys, threading, warnings, weakref

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
print("ready", flush=True)  # who asks from now on is answered after the imports
for name in sys.argv[2:]:
    importlib.import_module(name)
assert not any(name.partition(".")[0] == "twophase" for name in sys.modules)
gc.freeze()  # else each child would copy all that its collector looks at
# What libraries do at the end of each program, which touches half of what they hold.
for each in weakref.finalize._registry:
    each.atexit = False
if "torch._dynamo" in sys.modules:
    atexit.unregister(sys.modules["torch._dynamo"].utils.dump_compile_times)
# Python warns of other threads: those of libraries of linear algebra, which know forks.
shown = warnings.filters[:]
warnings.simplefilter("ignore", DeprecationWarning)


def request(connection):
    said, streams = b"", []
    while not said.endswith(b"\\n"):
        more, handed, _, _ = socket.recv_fds(connection, 1 << 16, 3)
        if not more:
            return None, streams  # who asked is gone
        said, streams = said + more, streams + handed
    return json.loads(said), streams


def end(connection, kill=False):
    child, pipe = at_work.pop(connection)
    if kill:
        os.kill(child, 9)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        connection.sendall(str(status).encode())
    except OSError:
        pass
    connection.close()
    os.close(pipe)


at_work = {}  # for each connection the child, and a pipe that ends with it
while True:
    ending = {pipe: connection for connection, (_, pipe) in at_work.items()}
    readable = select.select([listener, sys.stdin, *at_work, *ending], [], [])[0]
    if sys.stdin in readable:
        os._exit(0)
    for pipe in ending.keys() & {*readable}:
        end(ending[pipe])
    for connection in at_work.keys() & {*readable}:
        if number := connection.recv(1):
            os.kill(at_work[connection][0], number[0])
        else:
            end(connection, kill=True)
    if listener not in readable:
        continue
    connection = listener.accept()[0]
    asked, streams = request(connection)
    ended, alive = os.pipe()
    if asked and not (child := os.fork()):
        break
    for each in (alive, *streams):
        os.close(each)
    if asked:
        at_work[connection] = child, ended
    else:
        os.close(ended)
        connection.close()

for each in (listener, connection, *at_work):
    each.close()
for pipe in (ended, *(pipe for _, pipe in at_work.values())):
    os.close(pipe)
warnings.filters[:] = shown
for number, stream in enumerate(streams):
    os.dup2(stream, number)
    os.close(stream)
os.chdir(asked["folder"])
os.environ.clear()
os.environ.update(asked["environment"])
sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
sys.argv = asked["arguments"]
sys.executable = asked["executable"]
status = 0
try:
    if sys.argv[0] == "-c":
        exec(sys.argv.pop(1), {"__name__": "__main__"})
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    status = end.code or 0
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
except Exception:
    sys.excepthook(*sys.exc_info())
    status = 1
# As any program ends, but for what was imported before: to take that apart takes half a second.
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(status & 255)
"""
# What Snakemake and the records of studies import; and what stages do.
LIGHT = ("snakemake.cli", "snakemake.api", "snakemake.dag", "pandas", "pydantic", "yaml")
LIGHT += ("ruamel.yaml", "smart_open", "snakemake.report.html_reporter")
HEAVY = ("matplotlib.backends.backend_pdf", "pyarrow.parquet", "pydantic", "scipy.stats")
HEAVY += ("ruamel.yaml", "seaborn", "sklearn.datasets", "torch.func", "torch._dynamo")
# What reads images by a function of the user's, which is called with other hash seeds, too.
DATA = ("pandas", "pydantic", "ruamel.yaml", "torch")
HASH_SEEDS = ("1", "2")
PYTHON = """\
#!{executable} -IS
import os, sys

sys.path.insert(0, {tests!r})
import forked

servers = {servers}
apart = os.environ.get("FROM_NOTHING", "\\n") in " ".join(sys.argv)
if sys.argv[1:2] == ["-m"] and not apart:
    name = sys.argv[2].partition(".")[0] + os.environ.get("PYTHONHASHSEED", "")
    if name in servers:
        request = servers[name], __file__, os.getcwd(), dict(os.environ), sys.argv[2:], [0, 1, 2]
        status = forked.asked(*request, signals=("SIGINT", "SIGTERM"))
        sys.exit(status if status >= 0 else 128 - status)
os.execv({executable!r}, [{executable!r}, *sys.argv[1:]])
"""


@cache
def _server(*modules, hash_seed=""):
    """The address of a server that has imported `modules`, or does so just now."""
    shared = json.loads(os.environ.get("SERVERS", "{}"))
    if given := shared.get(" ".join([*modules, hash_seed])):
        return given
    folder = tempfile.TemporaryDirectory()  # a socket's name must be short
    address = str(Path(folder.name) / "socket")
    words = [sys.executable, "-c", SERVER, address, *modules]
    environment = os.environ | ({"PYTHONHASHSEED": hash_seed} if hash_seed else {})
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen(words, env=environment, **pipes)
    atexit.register(folder.cleanup)
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    assert server.stdout.readline() == "ready\n"
    return address


def serve():
    """Start the servers, which live as long as this process, for it and for those that it starts
    from here on.
    """
    given = {" ".join([*modules, ""]): _server(*modules) for modules in (LIGHT, HEAVY)}
    given |= {" ".join([*DATA, seed]): _server(*DATA, hash_seed=seed) for seed in HASH_SEEDS}
    os.environ["SERVERS"] = json.dumps(given)


def asked(address, executable, folder, environment, words, streams, signals=(), limit=None):
    """Have a server run a program; its status. Signals that come meanwhile are for the program.

    Raises `TimeoutError` if it takes more seconds than `limit`.
    """
    request = {"arguments": words, "environment": environment, "folder": folder}
    request["executable"] = executable
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(limit)
        server.connect(address)
        said = f"{json.dumps(request)}\n".encode()
        sent = socket.send_fds(server, [said], streams)
        server.sendall(said[sent:])
        for each in signals:
            signal.signal(signal.Signals[each], lambda number, _: server.send(bytes([number])))
        return int(server.recv(16))


@cache
def python(*hash_seeds):
    """The file of a program that stands in for Python, and for one with these hash seeds, too."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    words = {"executable": sys.executable, "tests": str(Path(__file__).parent)}
    program = Path(folder.name) / "python"
    servers = {"snakemake": _server(*LIGHT), "twophase": _server(*HEAVY)}
    seeded = {f"twophase{seed}": _server(*DATA, hash_seed=seed) for seed in hash_seeds}
    program.write_text(PYTHON.format(**words, servers=servers | seeded))
    for name in servers:
        (program.parent / name).write_text(f'#!/bin/sh\nexec {program} -m {name} "$@"\n')
    for file in program.parent.iterdir():
        file.chmod(0o755)
    return str(program)


def run(modules, folder, environment, *arguments, limit=None):
    """What `python -m *arguments` does in a folder, or `python *arguments` where the first is `-c`,
    by a process that has imported `modules`. It is killed after `limit` seconds (`TimeoutError`).
    """
    words = [*map(str, arguments)]
    with (
        open(os.devnull) as nothing,
        tempfile.TemporaryFile("w+") as said,
        tempfile.TemporaryFile("w+") as errors,
    ):
        streams = [stream.fileno() for stream in (nothing, said, errors)]
        place = os.path.abspath(folder)  # the server may work in another one
        request = [python(), place, dict(environment), words, streams]
        status = asked(_server(*modules), *request, limit=limit)
        said.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, status, said.read(), errors.read())
