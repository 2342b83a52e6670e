# Leeway in a container: `docker build -t leeway .`  (deploy/README.md says how to run it)
#
#   --build-arg ENGINE=openvino    what runs beside the kernels of the engine native; with ipex there are both, and many times the size
#   --build-arg NATIVE=skip        leave out the kernels of the engine native, and the compiler that a build fetches for them
#   --build-arg TORCH_INDEX=URL    where ENGINE=ipex finds the CPU build of torch; empty: pip's index, and CUDA with it
#   --target loadtest              the load generator in place of the server
#   --secret id=pip,src=pip.conf   settings of pip, for an index of one's own; they do not stay in the image

ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
# Numbers, so that Kubernetes can see that this is not root.
RUN groupadd --gid 10001 leeway && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent leeway
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml deploy/constraints.txt ./
# An environment without a pip of its own.  The lists of packages come first, so that a change of code installs only code.
RUN python3 -m venv --without-pip /opt/leeway && python3 -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
open('serve.txt', 'w').write('\n'.join(project['dependencies'])); \
[open(f'{extra}.txt', 'w').write('\n'.join(project['optional-dependencies'][extra])) for extra in ('loadtest', 'ipex')]"

# The kernels, in a stage of their own: the compiler, 400 MB, stays here, and other code can change without it.
FROM build AS kernels
ARG NATIVE=zig
ENV LEEWAY_NATIVE=${NATIVE}
COPY scripts/build_native.py scripts/
COPY server/engine/kernels server/engine/kernels
RUN --mount=type=secret,id=pip,target=/run/secrets/pip.conf \
    python3 -m venv --without-pip /opt/compiler \
    && python3 scripts/build_native.py --requirements > compiler.txt \
    && PIP_CONFIG_FILE=/run/secrets/pip.conf python3 -m pip --python /opt/compiler/bin/python install --quiet \
      --requirement compiler.txt \
    && /opt/compiler/bin/python scripts/build_native.py

FROM build AS packages
ARG ENGINE=openvino
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN case "$ENGINE" in \
      openvino|ipex) ;; \
      *) echo "ENGINE=$ENGINE: no such engine; there are openvino and ipex" >&2; exit 1 ;; \
    esac
RUN --mount=type=secret,id=pip,target=/run/secrets/pip.conf \
    PIP_CONFIG_FILE=/run/secrets/pip.conf python3 -m pip --python /opt/leeway/bin/python install --quiet \
      --constraint constraints.txt --requirement serve.txt
RUN --mount=type=secret,id=pip,target=/run/secrets/pip.conf \
    if [ "$ENGINE" = ipex ]; then \
      PIP_CONFIG_FILE=/run/secrets/pip.conf python3 -m pip --python /opt/leeway/bin/python install --quiet \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --constraint constraints.txt --requirement ipex.txt; \
    fi
# OpenVINO's other devices and the readers of other formats: a third of it, and never used here.
RUN cd /opt/leeway/lib/python3*/site-packages/openvino && rm -rf include \
      libs/libopenvino_intel_gpu_plugin.so libs/cache.json libs/libopenvino_intel_npu_*.so \
      libs/libopenvino_onnx_frontend.so* libs/libopenvino_tensorflow_*frontend.so* libs/libopenvino_pytorch_frontend.so* \
      libs/libopenvino_paddle_frontend.so* libs/libopenvino_jax_frontend.so* libs/libopenvino_gguf_frontend.so*
COPY README.md LICENSE hatch_build.py ./
COPY scripts/build_native.py scripts/
COPY model_store model_store
COPY reading reading
COPY server server
# What comes from there is up to date and not compiled again.
COPY --from=kernels /src/server/engine/kernels server/engine/kernels
ARG NATIVE=zig
ENV LEEWAY_NATIVE=${NATIVE}
RUN --mount=type=secret,id=pip,target=/run/secrets/pip.conf \
    PIP_CONFIG_FILE=/run/secrets/pip.conf python3 -m pip --python /opt/leeway/bin/python install --quiet --no-deps . \
    && /opt/leeway/bin/leeway models verify default

FROM packages AS loadtest-packages
RUN --mount=type=secret,id=pip,target=/run/secrets/pip.conf \
    PIP_CONFIG_FILE=/run/secrets/pip.conf python3 -m pip --python /opt/leeway/bin/python install --quiet \
      --constraint constraints.txt --requirement loadtest.txt

# The load generator: what `docker compose --profile load` adds.
FROM base AS loadtest
COPY --from=loadtest-packages /opt/leeway /opt/leeway
WORKDIR /app
COPY benchmarks benchmarks
COPY loadtest loadtest
COPY tests/data/squad-dev-excerpt.json.gz tests/data/
RUN mkdir /reports && chown 10001:10001 /reports
ENV PATH=/opt/leeway/bin:$PATH PYTHONPATH=/app GEVENT_BACKEND=select LOADTEST_REPORT_DIR=/reports
USER 10001:10001
EXPOSE 8089
ENTRYPOINT ["locust"]
CMD ["-f", "loadtest/locustfile.py"]

# The server; last, so that it is what a plain `docker build` makes.
FROM base AS server
COPY --from=packages /opt/leeway /opt/leeway
COPY deploy/healthcheck.py /opt/healthcheck.py
# A place for latency profiles: mount a volume here to keep those of `leeway calibrate`.  Nothing else is ever written.
RUN mkdir /profiles && chown 10001:10001 /profiles
# Draining fits into the 10 seconds that `docker stop` waits.
ENV PATH=/opt/leeway/bin:$PATH LEEWAY_HOST=0.0.0.0 LEEWAY_PORT=8000 \
    LEEWAY_PROFILE_DIR=/profiles LEEWAY_LOG_FORMAT=json LEEWAY_DRAIN_SECONDS=8
USER 10001:10001
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python3", "-I", "-S", "/opt/healthcheck.py"]
ENTRYPOINT ["leeway"]
CMD ["serve"]
