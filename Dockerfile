# syntax=docker/dockerfile:1
# Two images from one file: `docker build --target gateway .` and `docker build --target worker .` (docs/deployment.md).
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS source
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service ./service
COPY worker ./worker
COPY model ./model

# An environment without pip and compiled files: those are made in /tmp when they are wanted.
FROM source AS gateway-environment
RUN python -m venv --without-pip /opt/wanserve \
 && pip --python /opt/wanserve/bin/python install --no-cache-dir --no-compile -c constraints.txt ".[gateway]"

FROM source AS worker-environment
# PyTorch's default wheels bring CUDA; https://download.pytorch.org/whl/cpu makes an image for CPUs.
ARG TORCH_INDEX_URL=""
RUN python -m venv --without-pip /opt/wanserve \
 && if [ -n "$TORCH_INDEX_URL" ]; then \
      pip --python /opt/wanserve/bin/python install --no-cache-dir --no-compile -c constraints.txt \
        --index-url "$TORCH_INDEX_URL" torch; \
    fi \
 && pip --python /opt/wanserve/bin/python install --no-cache-dir --no-compile -c constraints.txt ".[worker]"

FROM python:${PYTHON} AS base
# A number, so that Kubernetes can tell that it is not root.
RUN groupadd --gid 10001 wanserve && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home wanserve \
 && install --directory --owner 10001 --group 10001 /data
ENV PATH=/opt/wanserve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPYCACHEPREFIX=/tmp/pycache \
    HF_HUB_OFFLINE=1 \
    WANSERVE_DATA_DIR=/data \
    WANSERVE_HOST=0.0.0.0 \
    WANSERVE_LOG_FORMAT=json
# The root may be read-only: all that is written lies in these two.
VOLUME ["/data", "/tmp"]
WORKDIR /data
USER 10001:10001
LABEL org.opencontainers.image.title="wanserve" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM base AS gateway
COPY --from=gateway-environment /opt/wanserve /opt/wanserve
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
CMD ["wanserve", "gateway", "--port", "8000"]

FROM base AS worker
COPY --from=worker-environment /opt/wanserve /opt/wanserve
ENV WANSERVE_WORKER_METRICS_PORT=9100
EXPOSE 9100
# Warm means that its model is loaded: of A14B from a cold disk that takes minutes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20m \
  CMD ["python", "-c", "import urllib.request as u; assert b'wanserve_worker_ready 1' in u.urlopen('http://127.0.0.1:9100/metrics', timeout=4).read()"]
STOPSIGNAL SIGTERM
CMD ["wanserve", "worker"]
