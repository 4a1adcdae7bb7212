"""A Ray cluster of two nodes on this machine, in a process of its own: Ray forks, and a fork of the process of all tests is too large.

Prints the address; `lose a raylet` on stdin kills that of the second node and adds a third one, `add a node` adds one, `lose the head`
kills the processes of the first node, and each is answered with `done`; it ends with stdin.
"""

import os
import signal
import sys
from typing import Any

STORE_BYTES = 80_000_000


def main() -> None:
    from ray.cluster_utils import Cluster

    os.environ["RAY_DISABLE_MEMORY_MONITOR"] = "1"  # other tests fill the memory of the machine
    options = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    add_node(cluster)
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    for command in sys.stdin:
        COMMANDS[command.strip()](cluster)
        sys.stdout.write("done\n")
        sys.stdout.flush()
    cluster.shutdown()  # type: ignore[no-untyped-call]


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)


def lose_raylet(cluster: Any) -> None:
    node = add_node(cluster)
    old = next(one for one in cluster.worker_nodes if one is not node)
    os.kill(old.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    cluster.worker_nodes.discard(old)


def lose_head(cluster: Any) -> None:
    for name in ("raylet", "gcs_server"):
        os.kill(cluster.head_node.all_processes[name][0].process.pid, signal.SIGKILL)


COMMANDS = {"add a node": add_node, "lose a raylet": lose_raylet, "lose the head": lose_head}


if __name__ == "__main__":
    main()
