"""`internvideo serve` as a Ray Serve deployment: the same routes and answers, in replicas on a cluster.

    pip install 'ray[serve]' 'internvideo-hf[serve]'
    python examples/serve_ray.py

Each replica has a model and decoders of its own. The bundled toy model knows drawn shapes only; put your own folder in
its place, on a disk of all machines. From a shell, `serve run examples.serve_ray:deployment` stays until Ctrl-C.
"""

import httpx
from ray import serve

from internvideo_hf.serving.examples import VIDEO
from internvideo_hf.serving.limits import Limits

MODEL = "demo-mm"
REPLICAS = 1


def build():
    """Return the application; this runs in each replica."""
    from internvideo_hf.serving.app import create_app
    from internvideo_hf.serving.models import ServedModel

    # Addresses in requests may be public only, and there is no key: see `Access` and `key`.
    return create_app(ServedModel.load(MODEL), limits=Limits(max_seconds=600), decoders=1)


# 1. On GPUs: ray_actor_options={"num_gpus": 1}. Decoders need CPUs beside the model's: count them in num_cpus.
replicas = serve.deployment(
    num_replicas=REPLICAS, max_ongoing_requests=128, ray_actor_options={"num_cpus": 1}, graceful_shutdown_timeout_s=120
)
deployment = replicas(serve.ingress(build)()).bind()

# 2. Run it, ask it, end it. On a cluster that runs already: `ray.init("auto")` first.
if __name__ == "__main__":
    serve.run(deployment)
    request = {"input": VIDEO, "labels": ["a red square", "a blue circle"], "template": "{}"}
    answer = httpx.post("http://localhost:8000/v1/classify", json=request, timeout=60).json()
    for label in answer["data"][0]["labels"]:
        print(f"{label['score']:6.1%}  {label['label']}")
    serve.shutdown()
