#!/usr/bin/env bash
# A real Slurm on this machine, for tests: two nodes, two partitions, no systemd. `tools/slurm.sh start|stop`
# Installs Debian's packages where they are missing (needs root); its files are in .cache/slurm.
set -euo pipefail
cd "$(dirname "$0")/.."
where=$PWD/.cache/slurm
export SLURM_CONF=$where/slurm.conf PATH=$PATH:/usr/sbin

up() { [ -f "$SLURM_CONF" ] && sinfo --noheader --format=%T 2>/dev/null | grep -qE '^(idle|mixed|allocated)'; }

stop() {
  for pid in "$where"/*.pid; do
    [ -f "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true
  done
}

install() {
  local missing=
  for program in slurmctld slurmd sbatch munged; do command -v "$program" >/dev/null || missing=$program; done
  [ -z "$missing" ] && return
  [ "$(id -u)" = 0 ] || { echo "$missing is not installed and only root can: apt-get install slurmctld slurmd slurm-client munge"; exit 1; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
}

configure() {
  mkdir -p "$where/state"
  # A group of ports for every checkout, so that several can have their Slurm at once.
  local port=$((20000 + $(cksum <<<"$PWD" | cut -d' ' -f1) % 4000 * 4))
  cat >"$SLURM_CONF" <<END
ClusterName=ladder
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$(id -un)
AuthType=auth/munge
StateSaveLocation=$where/state
SlurmdSpoolDir=$where/%n
SlurmctldPidFile=$where/slurmctld.pid
SlurmdPidFile=$where/%n.pid
SlurmctldLogFile=$where/slurmctld.log
SlurmdLogFile=$where/%n.log
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
JobCompLoc=$where/finished.txt
NodeName=n[1-2] NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=4
PartitionName=spot Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=prod Nodes=ALL PriorityTier=10 PreemptMode=OFF
END
}

start() {
  up && { echo "Slurm is up: export SLURM_CONF=$SLURM_CONF"; return; }
  install
  stop
  rm -rf "$where"
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
  echo "Slurm did not come up; see $where/*.log"
  exit 1
}

case ${1:-start} in start) start ;; stop) stop ;; *) echo "usage: tools/slurm.sh start|stop"; exit 2 ;; esac
