#!/usr/bin/env bash
# Runs a real Slurm on this machine, for tests: two nodes, two partitions, no systemd. Usage: tools/slurm.sh start|stop
# Installs the Debian packages if they are missing (needs root); its files are in .cache/slurm.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/.cache/slurm
export SLURM_CONF=$folder/slurm.conf PATH=$PATH:/usr/sbin

up() { [ -f "$SLURM_CONF" ] && sinfo --noheader --format=%T 2>/dev/null | grep -qE '^(idle|mixed|allocated)'; }

stop() {
  for pid in "$folder"/*.pid; do
    [ -f "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true
  done
}

install() {
  local missing=
  for program in slurmctld slurmd sbatch munged; do command -v "$program" >/dev/null || missing=$program; done
  [ -z "$missing" ] && return
  [ "$(id -u)" = 0 ] || { echo "$missing is not installed; as root: apt-get install slurmctld slurmd slurm-client munge"; exit 1; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
}

configure() {
  mkdir -p "$folder/state"
  # Each checkout has its own ports, so that several can run Slurm at the same time.
  local port=$((20000 + $(cksum <<<"$PWD" | cut -d' ' -f1) % 4000 * 4))
  cat >"$SLURM_CONF" <<END
ClusterName=ladder
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$(id -un)
AuthType=auth/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/finished.txt
NodeName=n[1-2] NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=4
PartitionName=spot Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=prod Nodes=ALL PriorityTier=10 PreemptMode=OFF
END
}

start() {
  up && { echo "Slurm is up: export SLURM_CONF=$SLURM_CONF"; return; }
  install
  stop
  rm -rf "$folder"
  configure
  if ! munge -n >/dev/null 2>&1; then
    mkdir -p /run/munge && chown munge:munge /run/munge && runuser -u munge -- munged
  fi
  slurmctld -c
  slurmd -N n1
  slurmd -N n2
  for _ in $(seq 60); do
    up && { echo "Slurm is up: export SLURM_CONF=$SLURM_CONF"; return; }
    sleep 0.5
  done
  echo "Slurm did not come up; see $folder/*.log"
  exit 1
}

case ${1:-start} in start) start ;; stop) stop ;; *) echo "usage: tools/slurm.sh start|stop"; exit 2 ;; esac
