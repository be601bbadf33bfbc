# What a machine of a run executes at every boot. startup.py writes what differs from run to run above these lines: the
# variables in capital letters, and the functions read_secrets, mount_buckets and train.
set -uo pipefail
LADDER=/opt/ladder
LOG=/var/log/ladder.log
export HOME="${HOME:-/root}" PATH="$PATH:/snap/bin" # where some images have gcloud

metadata() {
  curl -sf --retry 5 --retry-connrefused -H 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# The index of this machine in the run: first come those of slice 0. JAX numbers its processes in the same way.
number=$(metadata agent-worker-number)
slice=$(metadata tpu-env | sed -n "s/^MEGASCALE_SLICE_ID: *'\{0,1\}\([0-9]*\)'\{0,1\}$/\1/p")
worker=$((${slice:-0} * MACHINES_OF_SLICE + ${number:-0}))

mkdir -p $LADDER
[ -e $LOG ] || gcloud storage cp --quiet "$RUN/log-$worker.txt" $LOG 2>/dev/null # of a machine that was preempted
exec >>$LOG 2>&1
echo "machine $worker starts: $(date -u '+%F %T') UTC"

keep_log() { gcloud storage cp --quiet $LOG "$RUN/log-$worker.txt" 2>/dev/null; }
while sleep 30; do keep_log; done &
keeper=$!

# Runs a command until it succeeds, for about five minutes.
again() {
  local seconds
  for seconds in 10 20 40 80 160 0; do
    "$@" && return
    [ $seconds = 0 ] && return 1
    echo "failed; again in $seconds seconds: $*"
    sleep $seconds
  done
}

# $1: why the run cannot go on; only the first machine that gives up is heard.
give_up() {
  echo "$1"
  local reason
  reason=$(printf '%s' "$1" | LC_ALL=C tr -cd '[:print:]' | tr -d '"\\' | cut -c 1-400)
  printf '{"schema_version": 1, "state": "failed", "step": null, "loss": null, "reason": "%s"}\n' "$reason" >$LADDER/stopped
  again gcloud storage cp --quiet --no-clobber $LADDER/stopped "$RUN/STOPPED.json"
  leave
}

# The run is over. One machine deletes the queued resource, and with it all machines: nobody needs to watch.
leave() {
  kill $keeper 2>/dev/null
  keep_log
  [ $worker = 0 ] || exit 0
  [ "$MACHINES" = 1 ] || sleep 60 # the others keep their logs
  until gcloud compute tpus queued-resources delete "$NODE" --project="$PROJECT" --zone="$ZONE" --force --async --quiet; do
    echo "this machine still costs money: it could not delete the queued resource $NODE (its account needs roles/tpu.admin)"
    keep_log
    sleep 300
  done
  exit 0
}

is_stopped() { gcloud storage ls "$RUN/STOPPED.json" >/dev/null 2>&1; }

# Whether the run may be tried once more: counted over reboots, from 0 after each new checkpoint. A manifest of a few
# bytes publishes no checkpoint.
may_try() {
  local newest before="" tries=0
  newest=$(gcloud storage ls --long "$RUN/checkpoints/*/MANIFEST.json" 2>/dev/null | awk '$1 + 0 > 7 {print $NF}' | sort -V | tail -n 1)
  [ -e $LADDER/tries ] && read -r tries before <$LADDER/tries
  [ "$newest" = "$before" ] || tries=0
  [ "$tries" -lt "$TRIES" ] && echo "$((tries + 1)) $newest" >$LADDER/tries
}

# Corpora on the data disk need no copy: links lead to them from where the copies would be.
link_data_disk() {
  mkdir -p /mnt/ladder-data "$LADDER_STAGE"
  mountpoint -q /mnt/ladder-data || mount -o ro LABEL=ladder /mnt/ladder-data || give_up "cannot mount the data disk $DATA_DISK"
  ln -sfn /mnt/ladder-data/* "$LADDER_STAGE"
}

has_hash() { echo "$1  $2" | sha256sum --check --quiet; }

download_code() { gcloud storage cp --quiet "$CODE" $LADDER/code.tar.gz; }

# Of the image's own Python only pip is used, to download uv. Some images have none.
bring_pip() {
  python3 -m pip --version >/dev/null 2>&1 && return
  apt-get -o DPkg::Lock::Timeout=300 -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qqy install --no-install-recommends python3-pip >/dev/null
}

download_uv() {
  rm -rf $LADDER/wheel
  python3 -m pip download --quiet --no-deps --only-binary :all: --dest $LADDER/wheel "uv==$UV"
}

# uv checks the hash of what it downloads.
install_python() {
  $LADDER/uv python install --no-bin "$PYTHON" >$LADDER/python.log 2>&1
  local code=$?
  cat $LADDER/python.log
  grep -qi 'hash mismatch' $LADDER/python.log && give_up "wrong hash of the download of Python $PYTHON"
  return $code
}

install_packages() {
  # --seed: ladder data olmes calls pip
  $LADDER/uv venv --quiet --clear --seed --python "$PYTHON" .venv \
    && $LADDER/uv pip install --quiet --python .venv -c constraints.txt '.[tpu,gcp]'
}

install_all() {
  again download_code || give_up 'the code archive could not be read'
  has_hash "$CODE_SHA256" $LADDER/code.tar.gz || give_up 'wrong hash of the code archive'
  rm -rf $LADDER/code && mkdir $LADDER/code
  tar -xzf $LADDER/code.tar.gz --no-same-owner -C $LADDER/code || give_up 'the code archive could not be unpacked'
  again bring_pip || give_up 'pip could not be installed'
  again download_uv || give_up "uv $UV could not be downloaded"
  has_hash "$UV_SHA256" $LADDER/wheel/uv-*.whl || give_up "wrong hash of uv $UV"
  (cd $LADDER/wheel && python3 -m zipfile -e uv-*.whl . && install -m 755 uv-*.data/scripts/uv $LADDER/uv) \
    || give_up "uv $UV could not be unpacked"
  export UV_CACHE_DIR=$LADDER/cache UV_PYTHON_INSTALL_DIR=$LADDER/python UV_PYTHON_PREFERENCE=only-managed
  if [ -n "${PIP_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"; fi
  cd $LADDER/code || give_up 'the code archive could not be unpacked'
  again install_python || give_up "Python $PYTHON could not be installed"
  again install_packages || give_up 'the packages could not be installed'
  again .venv/bin/ladder data olmes || give_up 'the OLMES requests could not be installed'
  touch "$LADDER/ready-$COMMIT"
}

is_stopped && leave
again read_secrets || give_up 'a secret could not be read: the account of the machines needs roles/secretmanager.secretAccessor'
mount_buckets
[ -z "$DATA_DISK" ] || link_data_disk
[ -e "$LADDER/ready-$COMMIT" ] || install_all
cd $LADDER/code || give_up 'the code is gone from this machine'
code=""
while may_try; do
  train
  code=$?
  keep_log
  [ $code = 0 ] || [ $code = 78 ] && leave # 78: diverged
  [[ " $TRY_AGAIN " == *" $code "* ]] || give_up "exit code $code: $(tail -n 1 $LOG)"
  sleep 90 # longer than the lease of the run's previous owner
  is_stopped && leave
done
give_up "$TRIES tries on one machine without a new checkpoint${code:+; exit code $code}"
