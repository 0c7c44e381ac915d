#!/bin/sh
# A run on a Ray cluster that outlives the client; the same job again goes on from the run's folder.
#
#     HEAD=head.example.org sh examples/cluster/ray-job.sh
#     ray job logs evaluation --address "http://$HEAD:8265" --follow
set -eu
ray job submit --address "http://$HEAD:8265" --submission-id evaluation --no-wait -- \
    robust-snn evaluate --checkpoint model.safetensors --data cifar10 --data-root data \
    --suite adaptive-medium --ray auto --workers 8 --threads 4 --quiet \
    --out s3://bucket/runs/evaluation
