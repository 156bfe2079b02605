"""Stand-ins for a scheduler's commands: they run every job at once, in the background, on this machine."""

import os
import stat
import sys
from pathlib import Path

_COMMANDS = {
    "sbatch": """
import argparse, os, subprocess, sys
parser = argparse.ArgumentParser()
for option in ("--wrap", "-D", "--output"):
    parser.add_argument(option)
job, _ = parser.parse_known_args()
number = submit(sys.argv[1:], ["sh", "-c", job.wrap], job.D, job.output)
print(number)
""",
    "srun": """
import subprocess, sys
log("srun", sys.argv[1:])
command = sys.argv[1:]
while command[0].startswith("-"):
    command.pop(0)
sys.exit(subprocess.run(command).returncode)
""",
    "sacct": """
import sys
if "-nu" in sys.argv:
    print("vision")  # the account that the user's jobs ran under
else:
    for path in sorted(STATE.glob("*.job")):
        print(f"{path.stem}|{path.read_text()}")
""",
    "sacctmgr": "print('vision')",
    "sinfo": "print('PARTITION batch* gpu')",
    "squeue": "pass",
    "scontrol": "print('MinJobAge = 300 sec\\nMaxArraySize = 1001')",
    "scancel": "pass",
    "qsub": """
import sys
print(submit(sys.argv[1:-1], ["sh", sys.argv[-1]], ".", None))
""",
    "qdel": "pass",
}

_SHARED = """\
import json, os, subprocess, sys
from pathlib import Path
STATE = Path({state!r})

def log(command, arguments):
    with (STATE / "calls.jsonl").open("a") as file:
        file.write(json.dumps([command, *arguments]) + "\\n")

def submit(arguments, command, folder, output):
    log(Path(sys.argv[0]).name, arguments)
    number = 100 + len(list(STATE.glob("*.job")))
    job = STATE / f"{{number}}.job"
    job.write_text("RUNNING")
    out = Path(output.replace("%j", str(number))) if output else STATE / f"{{number}}.out"
    with out.open("w") as file:
        subprocess.Popen(
            [sys.executable, str(STATE / "node.py"), str(job), *command],
            cwd=folder, env=os.environ | {{"SLURM_JOB_ID": str(number)}}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )
    return number
"""

_NODE = """\
import subprocess, sys
from pathlib import Path
job, command = Path(sys.argv[1]), sys.argv[2:]
done = job.with_suffix(".done")
done.write_text("FAILED" if subprocess.run(command).returncode else "COMPLETED")
done.replace(job)
"""


def install(folder: Path) -> Path:
    """Write the commands into `folder`/bin; returns the folder where they leave their notes."""
    state = folder / "state"
    state.mkdir(parents=True)
    (state / "node.py").write_text(_NODE)
    (folder / "bin").mkdir()
    for name, body in _COMMANDS.items():
        path = folder / "bin" / name
        path.write_text(f"#!{sys.executable}\n{_SHARED.format(state=str(state))}\n{body}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return state


def on_path(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment of a machine that has the commands."""
    return environment | {"PATH": f"{folder / 'bin'}{os.pathsep}{environment['PATH']}", "USER": "reader"}
