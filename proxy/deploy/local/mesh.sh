#!/bin/sh
# Two services on this machine, each with a Pillion beside it, driven by the mock control plane, which also issues their
# identities. `shop` asks `stock` in plain HTTP; between the two proxies it is mutual TLS.
#
#   cargo build --release -p pillion -p control-plane-mock
#   proxy/deploy/local/mesh.sh [FOLDER OF THE PROGRAMS, else target/release]
#
# Ports of 127.0.0.1: 9180 control plane, 9181 the service, 9182 its proxy, 9183 shop's proxy, 9184 and 9185 admin.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:-$here/../../../target/release}" && pwd)
work=$(mktemp -d)
started=
end() {
  for pid in $started; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap end EXIT
trap 'exit 1' INT TERM

echo "42 pieces" >"$work/index.html"

"$bin/control-plane-mock" --listen 127.0.0.1:9180 --resources "$here/resources" >"$work/control-plane.log" 2>&1 &
started="$started $!"
"$bin/pillion" run -c "$here/stock.yaml" -l warning --concurrency 1 --drain-time-s 2 --file-flush-interval-msec 100 -- \
  python3 -m http.server 9181 --bind 127.0.0.1 --directory "$work" >"$work/stock.log" 2>&1 &
started="$started $!"

echo "shop asks in plain HTTP and gets:"
"$bin/pillion" run -c "$here/shop.yaml" -l warning --concurrency 1 --drain-time-s 2 -- \
  curl --silent --show-error --fail --retry 30 --retry-all-errors --retry-delay 1 http://127.0.0.1:9183/

echo "stock's proxy knows who asked:"
tries=0
until grep '^stock: GET / 200 from spiffe://' "$work/stock.log"; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || { cat "$work/stock.log"; exit 1; }
  sleep 0.1
done

echo "somebody without an identity gets:"
if curl --silent --insecure --max-time 5 https://127.0.0.1:9182/; then
  echo "an answer, which must not be" >&2
  exit 1
fi
echo "nothing"
