"""A class on one machine: each is a user of the system, with a server and files that no other can read."""

import os
from pathlib import Path

c = get_config()  # noqa: F821  # JupyterHub provides it
users = Path(os.environ.get("CLASS_USERS", "/run/secrets/users")).read_text(encoding="utf-8").splitlines()

# Passwords are those of the system, whose hashes `start` takes from the file; only its names may come in.
c.JupyterHub.authenticator_class = "pam"
c.Authenticator.allowed_users = {line.partition(":")[0] for line in users if line[:1] not in ("", "#")}
c.Authenticator.allow_existing_users = False

# The processes of a user run as that user. Nothing else keeps the files apart, and nothing else is needed.
c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
ip, port = os.environ.get("CLASS_IP", "127.0.0.1"), os.environ.get("CLASS_PORT", "8000")
c.JupyterHub.bind_url = f"http://{ip}:{port}"

c.Spawner.notebook_dir = "~/lla-course/nbs"  # from /etc/skel, a book of their own
c.Spawner.default_url = "/lab/tree/index.ipynb"
c.Spawner.environment = {"OMP_NUM_THREADS": "1"}
c.Spawner.args = [
    # a kernel tells what it runs and prints to every user who listens at its port, unless it has keys
    "--MappingKernelManager.transport_encryption=required",
    # who has gone home gives the memory back
    "--MappingKernelManager.cull_idle_timeout=3600",
    "--ServerApp.shutdown_no_activity_timeout=7200",
]
