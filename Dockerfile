# The image that the chart installs: static binaries, and the certificates that an S3 service or a Prometheus over TLS is known by.
# Built from what "make image-files" writes, so that building it needs no network:
#
#   make image-files && docker build -t REGISTRY/siskin:0.1.0 . && docker push REGISTRY/siskin:0.1.0
FROM scratch
COPY bin/image/ /
USER 65532:65532
