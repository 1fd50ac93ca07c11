"""The recipes for clusters that cannot be started here are at least what their readers accept."""

import json
import shlex
import subprocess
import time
from pathlib import Path

import jsonschema
import yaml

from mddes.arguments import parse
from mddes.commands.resume import ResumeCommand
from mddes.commands.search import parse_search

RECIPES = Path(__file__).parent.parent / "docs" / "cluster"


def test_ray_up_accepts_the_cluster_by_its_own_schema() -> None:
    import mddes.tasks.ray_pool  # sets what must be set before ray is imported

    assert mddes.tasks.ray_pool
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    cluster = yaml.safe_load((RECIPES / "aws.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]


def test_the_ray_job_s_commands_are_ours() -> None:
    job = yaml.safe_load((RECIPES / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    shell, flag, script = shlex.split(job["spec"]["entrypoint"])
    assert (shell, flag) == ("sh", "-c")
    subprocess.run(["sh", "-n", "-c", script], check=True)
    words = shlex.split(script.replace(";", " ; "))
    search = words[words.index("search") + 1 :]
    config, _ = parse_search(search[: search.index(";")])
    assert config.ray_address == "auto"
    resume = words[words.index("resume") + 1 :]
    again = parse(ResumeCommand, "mddes resume", resume[: resume.index(";")])
    assert (again.ray_address, again.workers) == (config.ray_address, config.workers)
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    volumes = {volume["name"] for volume in head["volumes"]}
    assert {mount["name"] for mount in head["containers"][0]["volumeMounts"]} == volumes


def test_the_slurm_script_runs_the_driver_and_stops_it_with_the_allocation(tmp_path: Path) -> None:
    """With stand-ins for SLURM and mddes: the driver gets its arguments and the address, and SIGTERM reaches it."""
    stand_ins = {
        "scontrol": "echo node1; echo node2",
        "srun": "echo srun $@ >> $OUT/calls",
        "seq": "echo 1",
        "sleep": "exit 0",
        "mddes": 'echo mddes $@ >> $OUT/calls; trap "echo stopped >> $OUT/calls; exit 130" TERM; touch $OUT/there; '
        "while true; do /bin/sleep 0.05; done",
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "x", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "4"}
    process = subprocess.Popen(
        ["bash", str(RECIPES / "slurm.sh"), "search", "--pixels", "1"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "OUT": str(tmp_path), **slurm},
    )
    for _ in range(6000):
        if (tmp_path / "there").exists() and (tmp_path / "calls").read_text().count("\n") == 3:
            break
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=20) == 130
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "mddes search --pixels 1 --ray-address node1:20007" in calls
    assert any("ray start --head --port=20007 --num-cpus=4" in call for call in calls)
    assert any("--cpus-per-task=4 --exclude=node1 ray start --address=node1:20007" in call for call in calls)
    assert calls[-1] == "stopped"
