#!/usr/bin/env bash
# What `make cluster` needs and does not install itself: Debian's packages, and environments that train and that have Ray.
#
#     sudo tests/cluster/setup.sh FOLDER       # 12 GB, some minutes; prints what to export
#
# The daemons are started and ended by the tests (slurm.py, two_hosts.py, switched_hosts.py, raylets.py).
set -euo pipefail
folder=$(realpath -m "${1:?name a folder for the environments}")
here=$(cd "$(dirname "$0")/../.." && pwd)
uv=$here/.venv/bin/uv

# numactl: DeepSpeed 0.15 asks for it on CPUs.
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge iproute2 iptables numactl > /dev/null

environment() { # NAME PACKAGE...
  local python=$folder/$1/bin/python
  shift
  [ -x "$python" ] || "$uv" venv -q --python 3.11 "${python%/bin/python}"
  "$uv" pip install -q --python "$python" "$@"
}
mkdir -p "$folder"
environment train llamafactory==0.9.1 torch==2.5.1 deepspeed==0.15.4 "pyarrow<24" "setuptools<81"
environment ray llamafactory==0.9.5 torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0 "ray[default,train]"
environment ray-other "ray[default]"

echo "export SKYT1_CLUSTER_ENV=$folder/train SKYT1_RAY_ENV=$folder/ray SKYT1_RAY_OTHER_ENV=$folder/ray-other"
