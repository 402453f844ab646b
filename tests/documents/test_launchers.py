"""What starts a training on a cluster parses, and calls a command whose flags there are."""

import re
import shlex
import shutil
import subprocess

import pytest

from tests.documents.commands import ROOT
from tests.documents.flags import check_that_it_can_be_typed

FOLDER = ROOT / "launch" / "cluster"


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_the_slurm_script_runs_one_training_with_a_process_for_each_gpu():
    path = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text(encoding="utf-8")
    (line,) = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    before, verb, *arguments = re.split(r"cascade-jax (\w+) ", line)
    assert before.split()[0] == "srun"
    arguments = shlex.split(arguments[0])
    assert "--distributed" in arguments
    check_that_it_can_be_typed(verb, arguments)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", text, re.MULTILINE))
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]


def test_the_kubernetes_job_gives_each_pod_its_number():
    yaml = pytest.importorskip("yaml")
    path = FOLDER / "kubernetes.yaml"
    service, job = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["cascade-jax"]
    verb, *arguments = container["args"]
    check_that_it_can_be_typed(verb, arguments)
    given = dict(argument.split("=", 1) for argument in arguments)
    count = job["spec"]["completions"]
    assert job["spec"]["completionMode"] == "Indexed" and given["--num_processes"] == str(count)
    assert job["spec"]["parallelism"] == count, "all have to run at once"
    name, subdomain = job["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]
    assert given["--coordinator"].split(":")[0] == f"{name}-0.{subdomain}", "the first pod's own name"
    assert service["metadata"]["name"] == subdomain and service["spec"]["selector"] == {"job-name": name}
    assert given["--process_id"] == f"$({container['env'][0]['name']})"
