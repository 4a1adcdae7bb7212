"""The engine `vllm`: rows are answered by vLLM, which the user installs, in a process of its own.

    requests ──ReplicatedEngine──> VllmEngine ──add_request, step──> vLLM's engine core and workers
               (this process)      (one process per group of GPUs)    (processes of vLLM)

Text and end of an answer are decided from its token ids, as by every other engine.
"""
