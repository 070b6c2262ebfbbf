FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /nexus ./cmd/nexus && mkdir /data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /nexus /nexus
COPY --from=build --chown=65532:65532 /data /data
ENV NEXUS_ADDR=0.0.0.0:8080 NEXUS_DATA_DIR=/data
VOLUME /data
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["/nexus"]
CMD ["serve"]
