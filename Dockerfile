# Serving images: docker build --target cpu|cuda -t scaledreamer:cpu .
# The same steps as `make setup`, without the extras: a venv, torch first, then this package. The cuda image needs no CUDA
# base: torch's own wheel brings the runtime, and the NVIDIA container toolkit lends the driver (docker run --gpus all).

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 \
    VIRTUAL_ENV=/opt/scaledreamer PATH=/opt/scaledreamer/bin:$PATH
RUN python -m venv /opt/scaledreamer \
 && useradd --create-home --uid 10001 dreamer \
 && install -d -o dreamer -g dreamer /var/lib/scaledreamer
WORKDIR /src

FROM base AS build-cpu
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m pip install --no-deps --index-url "$TORCH_INDEX" "$TORCH"
COPY pyproject.toml README.md* LICENSE ./
COPY scaledreamer scaledreamer
RUN python -m pip install .

FROM base AS build-cuda
ARG TORCH=torch==2.13.0
RUN python -m pip install --no-deps "$TORCH"
COPY pyproject.toml README.md* LICENSE ./
COPY scaledreamer scaledreamer
RUN python -m pip install .

# The package is installed: neither the sources nor pip's leftovers go into what is served.
FROM base AS serve
USER dreamer
WORKDIR /var/lib/scaledreamer
VOLUME /var/lib/scaledreamer
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=4 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
CMD ["scaledreamer", "serve", "--host", "0.0.0.0"]

FROM serve AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/scaledreamer /opt/scaledreamer

# The last target is what a plain `docker build .` makes.
FROM serve AS cpu
COPY --from=build-cpu /opt/scaledreamer /opt/scaledreamer
