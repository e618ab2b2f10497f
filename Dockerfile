# One image for every service; the command chooses: waiter, cook, manager, board, or python scripts/….
# Any Debian-like image with Python 3.11 or newer and its venv module will do as the base.
ARG BASE_IMAGE=python:3.11.15-slim-bookworm

FROM ${BASE_IMAGE} AS build
COPY requirements/runtime.txt requirements/build.txt /requirements/
# pip and the build backend have an environment of their own, so that neither is in the one that is shipped.
RUN python3 -m venv /opt/build \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --requirement /requirements/build.txt \
    && /opt/build/bin/pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes --requirement /requirements/runtime.txt
COPY . /source
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels /source \
    && /opt/build/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-deps /wheels/*.whl

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="restaurant" org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.description="Pizza orders on Kafka, contract first: waiter, cook, manager and board"
# Lines appear when they are printed, and nothing is compiled at run time: the root file system is read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data
COPY --from=build /opt/venv /opt/venv
COPY scripts /app/scripts
# A volume that is mounted there takes this owner over.
RUN install --directory --owner=10001 --group=10001 /data
WORKDIR /app
# By number, so that an orchestrator can tell that it is not root.
USER 10001:10001
CMD ["cook"]
