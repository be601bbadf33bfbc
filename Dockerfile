# `ladder` for TPU VMs and GKE: docker build --build-arg COMMIT=$(git rev-parse HEAD) -t IMAGE .
# For GPUs: --build-arg EXTRA=cuda. The image is of one commit; the runs in it say which packages they used.
FROM python:3.12-slim
ARG EXTRA=tpu
ARG COMMIT=unknown
LABEL org.opencontainers.image.revision=$COMMIT
WORKDIR /opt/ladder
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY ladder ladder
COPY fitting fitting
COPY configs configs
COPY launch launch
RUN pip install --no-cache-dir --constraint constraints.txt ".[$EXTRA,gke]" && useradd --create-home runner
# The OLMES requests, which are data and not a dependency (its own pins conflict).
RUN ladder data olmes
ENV LADDER_OLMES=/opt/ladder/.cache/olmes PYTHONUNBUFFERED=1
# Not exec'd through a shell: SIGTERM must reach Python, which saves and ends with exit code 75.
USER runner
ENTRYPOINT ["ladder"]
