#!/bin/bash
# Stands in for gcloud on a machine of tests: the folder @BUCKETS@/NAME plays gs://NAME. Any call but these is an error,
# and every call is written to @BUCKETS@/calls. A file @BUCKETS@/refused holds a pattern of calls that fail once each.
echo "gcloud $*" >>@BUCKETS@/calls
in_folder() { echo "${1/#gs:\/\//@BUCKETS@/}"; }
if [ -s @BUCKETS@/refused ] && [[ "$*" == $(head -n 1 @BUCKETS@/refused) ]]; then
  sed -i 1d @BUCKETS@/refused
  exit 1
fi
case "$*" in
  "storage cp --quiet --no-clobber "*) [ -e "$(in_folder "$6")" ] || cp "$(in_folder "$5")" "$(in_folder "$6")" ;;
  "storage cp --quiet "*) cp "$(in_folder "$4")" "$(in_folder "$5")" ;;
  "storage ls --long "*) stat --format '%s  2026-01-01T00:00:00Z  %n' $(in_folder "$4") && echo 'TOTAL: 9 objects, 999 bytes (999B)' ;;
  "storage ls "*) ls "$(in_folder "$3")" ;;
  "secrets versions access 3 --secret=hugging-face") echo hf_secret ;;
  "compute tpus queued-resources delete "*" --project="*" --zone="*" --force --async --quiet") touch "@BUCKETS@/deleted-$5" ;;
  *) exit 2 ;;
esac
