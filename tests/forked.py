"""Programs in forks of a process that has imported what is slow to import, but nothing of ours.

Each runs as by `python -m`, from its first line on, with the code of its own folder. Half of the
time of a dry run, and most of that of a command, goes into importing Snakemake or PyTorch.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache

# The child leaves the loop, and ends as any program does.
SERVER = """
import gc, importlib, json, os, runpy, sys, warnings

for name in sys.argv[1:]:
    importlib.import_module(name)
assert not any(name.partition(".")[0] == "twophase" for name in sys.modules)
gc.freeze()  # else each child would copy all that its collector looks at
for line in sys.stdin:
    asked = json.loads(line)
    with warnings.catch_warnings():
        # Python warns of other threads: those of libraries of linear algebra, which know forks.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

for number, file in enumerate(["/dev/null", *asked["streams"]]):
    os.dup2(os.open(file, os.O_WRONLY if number else os.O_RDONLY), number)
os.chdir(asked["folder"])
os.environ.clear()
os.environ.update(asked["environment"])
sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
sys.argv = asked["arguments"]
if sys.argv[0] == "-c":
    exec(sys.argv.pop(1), {"__name__": "__main__"})
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
# What Snakemake and the records of studies import; and what stages do.
LIGHT = ("snakemake.cli", "snakemake.api", "snakemake.dag", "pandas", "pydantic", "yaml")
HEAVY = ("matplotlib.figure", "pyarrow.parquet", "scipy.stats", "sklearn.datasets", "torch.func")


@cache
def _server(*modules):
    words = [sys.executable, "-c", SERVER, *modules]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return server


def run(modules, folder, environment, *arguments):
    """What `python -m *arguments` does in a folder, or `python *arguments` where the first is `-c`,
    by a process that has imported `modules`.
    """
    server, words = _server(*modules), [*map(str, arguments)]
    streams = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115
    asked = {
        "arguments": words,
        "environment": environment,
        "folder": os.path.abspath(folder),  # the server may work in another one
        "streams": [stream.name for stream in streams],
    }
    print(json.dumps(asked), file=server.stdin, flush=True)
    status = int(server.stdout.readline())
    said = [stream.read() for stream in streams]
    for stream in streams:
        stream.close()
    return subprocess.CompletedProcess(words, status, *said)
