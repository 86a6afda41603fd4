# One image for dispatcher, worker-host and the command line; `make image` builds the programs into bin/linux and then this.
# The base needs Python 3.11 or newer and glibc; programs are static.
ARG BASE=python:3.13-slim-bookworm
FROM ${BASE}

RUN groupadd --gid 10001 dspex && useradd --uid 10001 --gid dspex --no-create-home --home-dir /var/cache/dspex dspex \
 && install -d -o dspex -g dspex /var/cache/dspex/dspex/dspy /srv/dspex \
 && chown -R dspex:dspex /var/cache/dspex
COPY bin/linux/ /usr/local/bin/

USER dspex
WORKDIR /srv/dspex
ENV XDG_CACHE_HOME=/var/cache/dspex

# The Python packages of the workers, each checked against its hash: a host that starts needs no package registry.
ARG ENGINE=dspy
RUN worker-host prepare --engine ${ENGINE}

CMD ["dspex", "help"]
