# obleth as an image: docker build -t obleth .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin obleth && cp target/release/obleth /obleth

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 obleth \
    && useradd --uid 10001 --gid 10001 --shell /usr/sbin/nologin --home-dir /var/lib/obleth --create-home obleth
COPY --from=build /obleth /usr/local/bin/obleth
USER 10001:10001
# The journal, and the database file unless OBLETH_DATABASE_URL says otherwise.
WORKDIR /var/lib/obleth
VOLUME /var/lib/obleth
EXPOSE 8080 9090 9091
STOPSIGNAL SIGTERM
# Whether it lives; whether it should get requests is what a load balancer asks at /ready. The image has no HTTP client.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /health HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["obleth"]
CMD ["serve"]
