# kefud in a container: built in one stage, run in another that has its libraries and nothing else.
#
#   docker build -t kefu .
#   docker run --rm -e KEFU_NATS=nats://nats:4222 -p 8080:8080 kefu
#
# Debian's nats.c is 3.4.1; a base with a newer one may be given with --build-arg BASE=….
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        gcc libc6-dev cmake ninja-build pkg-config \
        libutf8proc-dev libpcre2-dev libjansson-dev libdnnl-dev \
        libnats-dev libprotobuf-c-dev protobuf-c-compiler libmicrohttpd-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cmake --preset release -DKF_TESTS=OFF && cmake --build --preset release \
    && cmake --install build/release --prefix /opt/kefu --strip

FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends \
        libutf8proc2 libpcre2-8-0 libjansson4 libdnnl2 libgomp1 libnats3.4 libprotobuf-c1 libmicrohttpd12 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 kefu
COPY --from=build /opt/kefu /opt/kefu
USER 10001
ENV PATH=/opt/kefu/bin:$PATH KEFU_MODELS=/opt/kefu/share/kefu/models KEFU_HTTP=0.0.0.0:8080
EXPOSE 8080
ENTRYPOINT ["kefud"]
