#!/usr/bin/env bash
# Runs a study with profiles/slurm on a real Slurm of two virtual nodes on this machine: twelve short cells, one of
# which fails, and a node that is stopped on the way. For maintainers, as root, in a container or virtual machine of
# their own:
#
#   apt-get install --no-install-recommends slurmd slurmctld slurm-client munge
#   pip install -e '.[cluster]'
#   tests/slurm_loopback.sh
#
# It writes /etc/slurm/slurm.conf and ends everything it has started. Exit 0: eleven cells ran, one failed as it should.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
CONF=/etc/slurm/slurm.conf
MARK="# written by isonb's tests/slurm_loopback.sh"
PLACE=$(mktemp -d /tmp/isonb-slurm-XXXXXX)
STARTED=()

finish() {
  scancel --user "$(id -un)" 2>/dev/null || true
  sleep 2
  for pid in "${STARTED[@]}"; do kill "$pid" 2>/dev/null || true; done
}
trap finish EXIT

if [ -e "$CONF" ] && ! grep -q "$MARK" "$CONF"; then
  echo "$CONF is of another Slurm: run this where there is none." >&2; exit 1
fi
mkdir -p /etc/slurm /run/munge "$PLACE"/{state,n1,n2}
chown munge /run/munge
HOST=$(hostname -s)
cat > "$CONF" <<CONFIG
$MARK
ClusterName=loopback
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation=$PLACE/state
SlurmdSpoolDir=$PLACE/%n
SlurmctldPidFile=$PLACE/ctld.pid
SlurmdPidFile=$PLACE/%n.pid
SlurmctldLogFile=$PLACE/ctld.log
SlurmdLogFile=$PLACE/%n.log
MinJobAge=3600
SlurmdTimeout=20
ReturnToService=2
NodeName=n1 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=17001 CPUs=1 RealMemory=16000
NodeName=n2 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=17002 CPUs=1 RealMemory=16000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONFIG
pgrep -x munged >/dev/null || runuser -u munge -- munged
slurmctld -D & STARTED+=($!)
slurmd -D -N n1 & STARTED+=($!)
slurmd -D -N n2 & STARTED+=($!); SECOND=$!
for _ in $(seq 60); do [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] && break; sleep 1; done
sinfo

{
  echo 'study = "smoke"'
  for block in conv mixer transformer; do
    for encoding in continuous rff pix2vec; do
      printf '[[cell]]\nblock = "%s"\nencoding = "%s"\nwidth = 8\nimage_size = 8\nepochs = 2\n' $block $encoding
      printf 'data_fraction = 0.1\nevaluation_masks = 1\nprobe_epochs = 3\n'
    done
  done
  for seed in 1 2; do
    printf '[[cell]]\nwidth = 8\nimage_size = 8\nepochs = 2\nseed = %s\ndata_fraction = 0.1\nprobe_epochs = 3\n' $seed
  done
  printf '[[cell]]\ndata = "cifar10"\n' # of which there is none: this cell fails
} > "$PLACE/study.toml"
export ISONB_DATA=$PLACE/nothing ISONB_RESULTS=$PLACE/results ISONB_RUNS=$PLACE/runs
done_cells() { find "$PLACE/results" -name '*.ipynb' 2>/dev/null | wc -l; }

"$PYTHON" -m isonb sweep "study=$PLACE/study.toml" threads=1 book=no --workflow-profile profiles/slurm \
  --default-resources mem_mb=2000 runtime=30 --slurm-status-command squeue --slurm-init-seconds-before-status-checks 5 \
  --slurm-logdir "$PLACE/logs" & SWEEP=$!
while [ "$(done_cells)" -lt 4 ] && kill -0 $SWEEP; do sleep 1; done
squeue
echo "stopping node n2"
kill -9 $SECOND; pkill -9 -P "$(pgrep -f 'slurmstepd.*' -d, || echo 0)" 2>/dev/null || true
scontrol update nodename=n2 state=down reason=stopped
status=0; wait $SWEEP || status=$?

echo "sweep: exit $status, $(done_cells) cells"; sinfo
cat "$PLACE/runs/smoke/FAILURES.md"
[ $status -ne 0 ] && [ "$(done_cells)" = 11 ] && grep -q '^# 1 of 12 cells failed' "$PLACE/runs/smoke/FAILURES.md" \
  && grep -q "nothing" "$PLACE/runs/smoke/FAILURES.md"
