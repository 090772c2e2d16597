#!/bin/sh
# Runs the tasks that are named, goes on when one fails, and counts the tests of all: `full.sh TASK_PROGRAM TASK...`.
# It ends with 0 if every task did.
set -eu

task=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT

for name in "$@"; do
    { "$task" "$name" 2>&1 || echo "full: $name failed"; } | tee -a "$log"
done

# cargo says `test result: ok. 3 passed; 0 failed; 1 ignored; …`, tests/clients/run.sh `…: 3 passed, 0 failed, 1 skipped`.
awk '
    /^test result: / || /^clients: .* passed, / {
        for (i = 1; i < NF; i++) {
            if ($(i + 1) ~ /^passed/) passed += $i
            if ($(i + 1) ~ /^failed/) failed += $i
            if ($(i + 1) ~ /^(ignored|skipped)/) skipped += $i
        }
    }
    # What a test that cannot run here says of itself.
    /skipped: / { reasons[$0] }
    END {
        for (reason in reasons) print "full: " reason
        printf "full: %d tests passed, %d failed, %d were skipped\n", passed, failed, skipped
    }
' "$log"
! grep '^full: .* failed$' "$log"
