#!/bin/sh
# Spreads the interrupts of network cards over chosen cores, and packets over cores where a card has too few queues.
# Says what it would do; does it only with --apply. Lasts until the next boot.
#
#   irq.sh                           every card, all cores
#   irq.sh --cpus 6-7 --apply eth0   eth0 on cores 6 and 7, away from shards on 0-5
#   irq.sh --rps --apply eth0        besides, hand packets of its queues on to all cores (a card with one queue)
#
# Away from shards or onto them? Onto: with as many queues as shards, each shard's packets are handled on its own core, with warm
# caches, and take turns with it. Away: a core or two of many take all interrupts, and no turn of a shard is interrupted. Measure
# both; as a rule many small messages want onto, and low latency on a machine with cores to spare wants away.
#
# Check: ringcast doctor; watch -d grep eth0 /proc/interrupts (whose columns are cores).
# irqbalance moves interrupts again: stop it first (systemctl disable --now irqbalance).
set -eu

# Where proc and sys are: another place only in tests.
root=${IRQ_ROOT:-}
apply=no rps=no cpus= cards=
while [ $# -gt 0 ]; do
    case $1 in
        --apply) apply=yes ;;
        --rps) rps=yes ;;
        --cpus) cpus=${2:?"--cpus wants a list such as 0-3,8"}; shift ;;
        -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
        -*) echo "irq.sh: unknown option $1" >&2; exit 1 ;;
        *) cards="$cards $1" ;;
    esac
    shift
done

# 0-3,8 -> 0 1 2 3 8
spell_out() {
    echo "$1" | tr ',' '\n' | while IFS=- read -r first last; do seq "$first" "${last:-$first}"; done
}

# 0 1 2 3 8 -> 10f; words of 32 cores are parted by commas, as the kernel wants them.
mask() {
    words=
    top=0
    for cpu in "$@"; do [ "$cpu" -le "$top" ] || top=$cpu; done
    word=$((top / 32))
    while [ "$word" -ge 0 ]; do
        bits=0
        for cpu in "$@"; do [ $((cpu / 32)) -ne "$word" ] || bits=$((bits | 1 << cpu % 32)); done
        if [ -z "$words" ]; then words=$(printf %x "$bits"); else words=$words,$(printf %08x "$bits"); fi
        word=$((word - 1))
    done
    echo "$words"
}

put() {
    if [ "$apply" = yes ]; then echo "$1" >"$root$2" && echo "$2 = $1"; else echo "would write $1 to $2"; fi
}

[ -n "$cpus" ] || cpus=$(cat "$root/sys/devices/system/cpu/online")
all=$(spell_out "$cpus")
if [ -z "$cards" ]; then
    for device in "$root"/sys/class/net/*/device; do
        [ ! -e "$device" ] || cards="$cards $(basename "$(dirname "$device")")"
    done
fi

for card in $cards; do
    folder=$root/sys/class/net/$card
    [ -e "$folder" ] || { echo "irq.sh: no network card $card" >&2; exit 1; }
    irqs=$(ls "$folder/device/msi_irqs" 2>/dev/null || ls "$folder/device/../msi_irqs" 2>/dev/null || true)
    [ -n "$irqs" ] || echo "$card has no interrupts of its own to move"
    # One core after another, so that queues share none as long as there are enough.
    # shellcheck disable=SC2086 # The words of a list.
    set -- $all
    for irq in $irqs; do
        put "$1" "/proc/irq/$irq/smp_affinity_list"
        set -- "$@" "$1"
        shift
    done
    # XPS: a core sends through a queue of its own, so that cores do not wait for each other's locks.
    # shellcheck disable=SC2086
    set -- $all
    for queue in "$folder"/queues/tx-*; do
        [ -e "$queue/xps_cpus" ] || continue
        put "$(mask "$1")" "${queue#"$root"}/xps_cpus"
        set -- "$@" "$1"
        shift
    done
    [ "$rps" = yes ] || continue
    # RPS spreads packets over cores by their addresses; RFS (the two counts) sends them to the core that reads the socket,
    # which is the shard's.
    queues=$(find "$folder/queues" -name 'rx-*' | wc -l)
    put 32768 /proc/sys/net/core/rps_sock_flow_entries
    for queue in "$folder"/queues/rx-*; do
        # shellcheck disable=SC2086
        put "$(mask $all)" "${queue#"$root"}/rps_cpus"
        put $((32768 / queues)) "${queue#"$root"}/rps_flow_cnt"
    done
done
[ "$apply" = yes ] || echo "nothing was changed; --apply does it"
