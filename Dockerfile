# The builder compiles librdkafka from source; everything it needs, OpenSSL too, is in the Rust image.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --package rivulet && strip target/release/rivulet

FROM debian:bookworm-slim
# OpenSSL, for Kafka, the roots by which whatever is spoken to over TLS is trusted, and the rules of time zones,
# which are newer here than in the program whenever the image is built anew.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libssl3 tzdata \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --no-create-home rivulet
COPY --from=build /src/target/release/rivulet /usr/local/bin/rivulet
USER 10001
ENV RIVULET_LISTEN=0.0.0.0:8080 \
    RIVULET_API_LISTEN=0.0.0.0:8081 \
    RIVULET_OPERATIONS_LISTEN=0.0.0.0:9100 \
    RIVULET_AGGREGATE_LISTEN=0.0.0.0:9101 \
    RIVULET_SINK_LISTEN=0.0.0.0:9102 \
    RIVULET_VERIFY_LISTEN=0.0.0.0:9103 \
    RIVULET_CANARY_LISTEN=0.0.0.0:9104 \
    RIVULET_LOG_FORMAT=json
STOPSIGNAL SIGTERM
ENTRYPOINT ["rivulet"]
CMD ["all"]
