"""The section of the reference about runs on many machines."""

MANY_MACHINES = """
## Many machines

Machines that share a folder run one job together; the job file stays as it is, and so do the rows. Where parts are made is in no
fingerprint: a run may begin on one machine, continue on many, and end on one.

```bash
batchgen run job.yaml --shard 0/16    # on each machine with its own number, from 0 to 15
batchgen run job.yaml --shard any     # or on any number of machines: each claims the parts that nobody makes
batchgen run job.yaml --merge         # once: evaluates and publishes, or ends with 75 and names the missing parts
```

- A shard makes parts of `batching.part_rows` rows: `I/N` those whose number modulo N is I, `any` one after another. It publishes
  nothing and ends with 0 when its parts are sealed, with 75 when it was stopped: start it again to resume. Each part is sealed once,
  by a hard link that never overwrites.
- `any` balances the work. When nothing is left to claim, a worker waits for the others. Parts of a worker that was killed on the same
  machine are free at once, those of another machine after two minutes without a sign of life. If a worker that stood still wakes
  up, the part that is sealed first counts.
- Refused before a row is answered, by name: another job, model or input (6), other versions of batchgen, torch, transformers, tokenizers,
  llguidance, vLLM or OpenVINO than the first shard had (6), a number that is running already, another N or `any` at the same time, a
  run without `--shard` at the same time (75).
- `run.max_error_rate` and `run.max_error_count` stop a shard early by its own rows alone; `--merge` decides about the whole run.
- Of `run.max_total_tokens`, each part has the share that its rows are of all rows, so that shards together never exceed it. A shard
  that has used the shares of its parts ends with 75; `batchgen run` without `--shard` uses what others left. Tokens of answers that were lost with a
  machine are not counted.
- The first shard reads the whole input, to count its rows and check ids; the others wait for it, and only hash the files. Each
  shard hashes the model.
- The journal is on a local disk where the folder is on a network file system: in `$TMPDIR`, or `/tmp`. Another machine generates the
  unfinished parts of a lost one again. Hard links, symbolic links and `flock` must work between the machines, as on NFS 4; where locks are local to a
  machine (Lustre with `localflock`), two shards of one number on two machines are not noticed: parts are still sealed once.
- `batchgen status` lists the missing parts and the shards. `engine.machines` in the manifest lists the shards that made parts, and
  `engine.processors` their kinds of processors, which may round differently. `seconds` are those of the shard that worked longest.
- Models that an evaluation queries (metrics of likelihood, judges, `choice_probabilities`) are queried by the shards: each about its own
  parts, `any` about parts that it claims, once all parts are made. Each needs the models of the judges. Results are saved in blocks of
  256 answers; `--merge` builds all queries again, to find them, and sends those without a result, such as those of a lost shard.

With `output.upload_parts: true`, the machines share a bucket in place of a folder: each needs the input, the model and a folder of its
own, which may be lost with it. Parts, claims and members are objects, made by conditional puts, and `--merge` runs on any machine, which
copies all parts. Parts of a machine that vanished are free after two minutes without a sign of life. There, two shards of one
number, another N and a run without `--shard` at the same time are not noticed: they cost time, and each part is sealed once. Results
of the models of an evaluation are in the bucket too, and `--merge` uses them. After it has published, a shard on an empty disk begins a
new run: start no shard after it.

On a Ray cluster (`pip install 'batchgen-llm[ray]'` on all nodes), one command starts and watches the workers:

```bash
batchgen run job.yaml --ray auto                                   # a worker on each node, or for the GPUs of each engine
batchgen run job.yaml --ray 10.0.0.5:6379 --ray-workers 8          # HOST:PORT of the head node
batchgen run job.yaml --ray local --ray-workers 2                  # a cluster of this machine alone, to try it
```

- A worker is `run --shard any` in a process on its node: all nodes need the output folder, the input, the model and the working folder
  at the same paths. What is stated above of `any` holds. No row goes through Ray.
- With `output.upload_parts: true`, nodes need no shared output folder: the parts are in the bucket, and the output folder is one on
  each node's own disk. Workers find credentials in the environment of `ray start`. The command publishes.
- A worker or node that dies is replaced while the cluster has room; so is one that Ray takes for dead and that lives. Nodes that
  join during the run get the workers that wait. After three deaths per worker without a sealed part the run ends with 75.
- The command that is stopped or killed ends its workers; the same command resumes, with or without `--ray`.
- Ray lowers the priority of workers to leave a node to other work: set `RAY_worker_niceness=0` where `ray start` runs for all of it.
- Workers also query the models of the evaluation. Their logs are in `.batchgen/logs`.
- Of a new run, workers start while the input is read. If a cluster requires a token, set `RAY_AUTH_MODE=token`.

What bounds a very large run, such as one of a billion rows, and what to do:

| bound | what to do |
|---|---|
| a part has a file, a record and, with `any`, a claim | `batching.part_rows: 65536`: 15,259 parts in place of 488,282. A worker lists them twice, not once a part |
| one process (`--merge`, `run`) reads, scores and writes all rows, with about 1 kB of memory a part; with judges and model metrics, it tokenizes all queries | with judges and model metrics, score a sample of the rows in a run of its own |
| one published file | `output.layout: parts` publishes a folder, with one file a part; readers open it as one table |
| the manifest lists each file in 181 bytes. With 500,000 files it has 86 MiB: publishing takes 230 s of processor time and 1.3 GiB of memory, reading it 5 s and 0.6 GiB | larger parts, as above: the manifest has 3 MiB; it is not divided |
| the check of ids keeps 8 bytes a row in memory, in the first shard | a job for each block of input files |
| the input is read by one process before the first row (1.7 million short rows a second from Parquet) | files in Parquet; the other shards do not read it again |

Simulated on two cores: 10 million rows in 5,000 parts, 64 workers of which 98 were killed at random. A claim took 0.45 ms of
processor time, and the watching process 1 MiB more memory at the end than after a quarter.

`jobs/schedulers/` has scripts for a Slurm array (`slurm-shards.sh`, `slurm-merge.sh`) and a Kubernetes Indexed Job
(`kubernetes-shards.yaml`). Several GPUs of one machine share the rows of one process: `run.workers`.
"""
