#!/bin/sh
# What the image does:
#   node                       run the node of the home directory $SECURENET_HOME (the default)
#   network DIR HOMES HOST...  make a test network in DIR and move each miner's home to HOMES/nodeN
#   anything else              that command, as: securenet query status --rpc http://...
set -eu
umask 077
# Asserts are part of the protocol's safety.
unset PYTHONOPTIMIZE

# A home with a config.toml is whole: it is put there last. What a kill interrupts goes on at the
# next call, with the same keys and genesis.
network() {
  directory=$1 homes=$2
  shift 2
  if [ ! -f "$directory/testnet.json" ]; then
    miners=$#
    for host in "$@"; do
      set -- "$@" --host "$host"
      shift
    done
    securenet testnet init --dir "$directory" --miners "$miners" "$@" >/dev/null
    echo "made a test network of $miners miners; its registrar: $directory/registrar.json"
  fi
  for home in "$directory"/node*/; do
    home=${home%/}
    [ -d "$home" ] || continue
    target=$homes/${home##*/}
    if [ ! -f "$target/config.toml" ]; then
      cp -a "$home/genesis.json" "$home/keys" "$home/data" "$target/"
      cp -a "$home/config.toml" "$target/config.toml.new"
      sync
      mv "$target/config.toml.new" "$target/config.toml"
    fi
    # Keys in two places are keys that two nodes may use.
    rm -r "$home"
  done
}

case "${1:-node}" in
  node) exec python -P -m node run --home "$SECURENET_HOME" ;;
  network) shift; network "$@" ;;
  *) exec "$@" ;;
esac
