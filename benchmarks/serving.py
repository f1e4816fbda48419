"""Seconds from POST /generate to the finished job, first and warm, on a server that this script starts.

python benchmarks/serving.py [--resolution 128] [--count 10]
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PROMPTS = ("a blue potion bottle", "a red mushroom", "a tall green chair", "a small orange mug", "a wide red barrel")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def post(base: str, prompt: str, resolution: int) -> float:
    """Seconds of one generation, its GLB downloaded as well."""
    began = time.perf_counter()
    body = json.dumps({"prompt": prompt, "resolution": resolution, "formats": ["glb"]}).encode()
    with urllib.request.urlopen(f"{base}/generate", data=body) as answer:
        job = json.load(answer)
    with urllib.request.urlopen(job["files"][0]["url"]) as answer:
        answer.read()
    return time.perf_counter() - began


def main() -> None:
    """Start, wait until ready, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--count", type=int, default=10)
    options = parser.parse_args()
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    code = "from scaledreamer.cli import main; main()"
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "SCALEDREAMER_DATA": data}
        server = subprocess.Popen([sys.executable, "-c", code, "serve", "--port", str(port)], env=environment)
        try:
            while True:
                try:
                    urllib.request.urlopen(f"{base}/health/ready")
                    break
                except (urllib.error.URLError, ConnectionError):
                    if server.poll() is not None:
                        raise SystemExit("the server did not start") from None
                    time.sleep(0.2)
            seconds = [post(base, PROMPTS[i % len(PROMPTS)], options.resolution) for i in range(options.count)]
        finally:
            server.terminate()
            server.wait()
    warm = seconds[1:]
    print(json.dumps({"first": seconds[0], "warm_median": statistics.median(warm), "warm_max": max(warm)}))


if __name__ == "__main__":
    main()
