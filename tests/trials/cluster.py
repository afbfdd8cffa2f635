"""A SLURM cluster of one node, this machine: started and stopped for a test.

    python tests/trials/cluster.py start FOLDER
    export SLURM_CONF=FOLDER/slurm.conf PATH=FOLDER/bin:$PATH
    python tests/trials/cluster.py stop FOLDER

Needs the Debian packages slurm-wlm and munge (with accounting: also slurmdbd and mariadb-server),
but none of their services: the daemons run with keys, ports and state of their own, all in FOLDER,
and leave the system's as they are.
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTANTS = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacctmgr")
# Where Debian keeps daemons; not on every user's path.
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"

# One node of two cores, whatever this machine has: a job must not ask for more than it uses. The
# node claims more memory than a laptop may have. Its GPU is /dev/null, enough to be asked for.
# Memory is measured every second and a job that takes more than it asked for is killed, as on a
# cluster; no control groups are needed. slurmctld remembers a job for five minutes, and lists in a
# file those that ended.
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=15
KillWait=2
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP
PartitionName=gpu Nodes={host} State=UP
"""

# For clusters with accounting: `sacct` asks slurmdbd, which keeps jobs in a database.
ACCOUNTED = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
"""
DBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
DbdHost=localhost
DbdPort={dbd_port}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StorageLoc=slurm
"""

# Snakemake's plugin takes SLURM_CONF out of the environment in which a job calls srun.
SRUN = """\
#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""


def missing(*, accounting: bool = False) -> list[str]:
    """The programs that are not installed here."""
    needed = PROGRAMS + ACCOUNTANTS if accounting else PROGRAMS
    return [name for name in needed if not shutil.which(name, path=PATH)]


def environment(folder: Path) -> dict[str, str]:
    """Environment in which SLURM's commands speak to this cluster."""
    return os.environ | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{folder / 'bin'}{os.pathsep}{PATH}",
    }


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _run(folder: Path, name: str, *arguments: str) -> None:
    """Run a program of the cluster; a daemon goes to the background by itself once it is up."""
    command = [shutil.which(name, path=PATH), *arguments]
    run = subprocess.run(command, env=environment(folder), capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{name} fails: {run.stderr}{run.stdout}")


def start_slurmd(folder: Path) -> None:
    """Start the daemon that runs the node's jobs."""
    _run(folder, "slurmd", "-f", str(folder / "slurm.conf"), "-N", socket.gethostname())


def start_slurmctld(folder: Path) -> None:
    """Start the daemon that queues jobs and keeps what is known of them."""
    _run(folder, "slurmctld", "-f", str(folder / "slurm.conf"))


def _start_accounting(folder: Path, dbd_port: int, port: int) -> None:
    """Start a database of our own, and slurmdbd, which keeps what `sacct` answers from."""
    options = ["--no-defaults", f"--datadir={folder / 'database'}", f"--user={getpass.getuser()}"]
    _run(folder, "mariadb-install-db", *options, "--skip-test-db")
    # Without tables of rights, whoever may reach the port of this machine may write to it.
    serve = ["--skip-grant-tables", "--bind-address=127.0.0.1", f"--port={port}"]
    files = [f"--socket={folder / 'database.socket'}", f"--pid-file={folder / 'mariadbd.pid'}"]
    with (folder / "mariadbd.log").open("wb") as log:
        command = [shutil.which("mariadbd", path=PATH), *options, *serve, *files]
        subprocess.run(["setsid", "--fork", *command], stdout=log, stderr=log, check=True)
    _wait_for_port(port)
    _run(folder, "slurmdbd")
    _wait_for_port(dbd_port)
    _run(folder, "sacctmgr", "--immediate", "add", "cluster", "test")


def _wait_for_port(port: int) -> None:
    for _ in range(120):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise RuntimeError(f"nobody listens at port {port}")


def start(folder: Path, *, accounting: bool = False) -> None:
    """Start all daemons and wait until the node takes jobs; `RuntimeError` if it does not."""
    folder = folder.absolute()
    ctld, slurmd, *accountants = _free_ports(4)
    _configure(folder, accounting, ctld, slurmd, *accountants)
    try:
        _start(folder, accountants if accounting else [])
    except BaseException:
        stop(folder)
        raise


def _configure(
    folder: Path, accounting: bool, ctld: int, slurmd: int, dbd: int, database: int
) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    values = {
        "folder": folder,
        "host": socket.gethostname(),
        "user": getpass.getuser(),
        "ctld_port": ctld,
        "slurmd_port": slurmd,
        "dbd_port": dbd,
        "database_port": database,
    }
    conf = CONF + ACCOUNTED if accounting else CONF
    (folder / "slurm.conf").write_text(conf.format(**values))
    (folder / "slurmdbd.conf").touch(mode=0o600)  # or slurmdbd refuses it
    (folder / "slurmdbd.conf").write_text(DBD_CONF.format(**values))
    (folder / "bin").mkdir()
    srun = folder / "bin" / "srun"
    srun.write_text(SRUN.format(folder=folder, srun=shutil.which("srun", path=PATH)))
    srun.chmod(0o755)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")


def _start(folder: Path, accountants: list[int]) -> None:
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    # --force: else it refuses folders that others may write above, such as /tmp.
    files = {
        "key-file": key,
        "socket": folder / "munge.socket",
        "pid-file": folder / "munged.pid",
        "log-file": folder / "munged.log",
        "seed-file": folder / "munge.seed",
    }
    _run(folder, "munged", "--force", *(f"--{k}={file}" for k, file in files.items()))
    if accountants:
        _start_accounting(folder, *accountants)
    start_slurmctld(folder)
    start_slurmd(folder)
    state = ""
    for _ in range(60):
        command = ["sinfo", "--noheader", "--partition=main", "--format=%T"]
        run = subprocess.run(command, env=environment(folder), capture_output=True, text=True)
        state = run.stdout.strip() or run.stderr.strip()
        if state == "idle":
            return
        time.sleep(0.5)
    logs = "".join((folder / f"{n}.log").read_text()[-2000:] for n in ("slurmctld", "slurmd"))
    raise RuntimeError(f"the node takes no jobs; it is: {state}\n{logs}")


def end(folder: Path, name: str, how: int = signal.SIGTERM) -> None:
    """End a daemon of the cluster and wait until it is gone, a minute at most."""
    deadline = time.monotonic() + 60
    try:
        pid = int((folder / f"{name}.pid").read_text())
        while time.monotonic() < deadline:
            os.kill(pid, how)
            time.sleep(0.1)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return


def stop(folder: Path) -> None:
    """Cancel all jobs and end all daemons."""
    cancel = ["scancel", f"--user={getpass.getuser()}"]
    subprocess.run(cancel, env=environment(folder), capture_output=True)
    for name in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
        end(folder, name)


if __name__ == "__main__":
    what, where = sys.argv[1:]
    {"start": start, "stop": stop}[what](Path(where))
