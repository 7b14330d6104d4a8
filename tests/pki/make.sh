#!/bin/sh
# Makes the certificates of the differential cases: they are fixed, because what Envoy did with them is recorded beside the
# cases. Their keys protect nothing. Run it to add one; those that are there stay as they are.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

key() { [ -f "$1.key" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null; }

# sign NAME CA SUBJECT EXTENSIONS [END]: CA may be NAME itself
sign() {
  name=$1 ca=$2 subject=$3 extensions=$4 end=${5:-21200101000000Z}
  key "$name"
  if ! [ -f "$name.pem" ]; then
    : > "$work/index.txt"
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s\nrand_serial=yes\ndefault_md=sha256\npreserve=yes\npolicy=p\nnew_certs_dir=%s\n' \
      "$work/index.txt" "$work" > "$work/conf"
    printf '[p]\norganizationName=optional\norganizationalUnitName=optional\ncommonName=optional\n' >> "$work/conf"
    printf '%b' "$extensions" > "$work/extensions"
    openssl req -new -key "$name.key" -subj "$subject" -utf8 -out "$work/request"
    if [ "$ca" = "$name" ]; then issuer=-selfsign; else issuer="-cert $ca.pem"; fi
    # shellcheck disable=SC2086
    openssl ca -batch -notext -utf8 -config "$work/conf" $issuer -keyfile "$ca.key" -in "$work/request" -out "$name.pem" \
      -extfile "$work/extensions" -startdate 20200101000000Z -enddate "$end" 2>"$work/log" || { cat "$work/log"; exit 1; }
  fi
  openssl x509 -in "$name.pem" -outform DER | openssl dgst -sha256 -r | cut -c1-64 | tr -d '\n' > "$name.hash"
  openssl x509 -in "$name.pem" -noout -pubkey | openssl pkey -pubin -outform DER |
    openssl dgst -sha256 -binary | openssl enc -base64 -A > "$name.spki"
}

of_ca='basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash'
usage='basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid'
sign ca ca /O=Tests/CN=ca "$of_ca"
sign other_ca other_ca /O=Tests/CN=other_ca "$of_ca"
sign middle ca /O=Tests/CN=middle "$of_ca"
sign server ca /O=Tests/CN=server "$usage\nsubjectAltName=DNS:server.test,DNS:*.wild.test,URI:spiffe://td.test/ns/default/sa/server,IP:127.0.0.1"
sign second ca /O=Tests/CN=second "$usage\nsubjectAltName=DNS:second.test"
[ -f rsa.key ] || openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key 2>/dev/null
sign rsa ca /O=Tests/CN=rsa "$usage\nsubjectAltName=DNS:server.test"
sign client ca '/O=Acme, Inc./OU=Müller "& Co"/CN=client' "$usage\nsubjectAltName=URI:spiffe://td.test/ns/default/sa/client,DNS:client.test,DNS:client2.test,IP:10.0.0.1,email:client@td.test"
sign nameless ca /CN=nameless "$usage"
sign no_usage ca /CN=no_usage 'basicConstraints=critical,CA:FALSE\nsubjectAltName=URI:spiffe://td.test/ns/default/sa/no_usage'
sign two_ids ca /CN=two_ids "$usage\nsubjectAltName=URI:spiffe://td.test/one,URI:spiffe://td.test/two"
sign server_only ca /CN=server_only "$usage\nextendedKeyUsage=serverAuth\nsubjectAltName=URI:spiffe://td.test/server_only"
sign signer ca /CN=signer 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,cRLSign\nsubjectAltName=URI:spiffe://td.test/signer'
sign stranger other_ca /CN=stranger "$usage\nsubjectAltName=URI:spiffe://other.test/stranger,DNS:client.test,DNS:server.test"
sign liar other_ca /CN=liar "$usage\nsubjectAltName=URI:spiffe://td.test/ns/default/sa/client"
sign revoked ca /CN=revoked "$usage\nsubjectAltName=URI:spiffe://td.test/revoked"
sign expired ca /CN=expired "$usage\nsubjectAltName=URI:spiffe://td.test/expired,DNS:server.test" 20210101000000Z
sign under_middle middle /CN=under_middle "$usage\nsubjectAltName=URI:spiffe://td.test/under_middle"
[ -f chain.pem ] || cat under_middle.pem middle.pem > chain.pem
[ -f chain.key ] || cp under_middle.key chain.key

if ! [ -f ca.crl ]; then
  : > "$work/index.txt"
  echo 01 > "$work/crlnumber"
  printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s\ncrlnumber=%s\ndefault_md=sha256\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n' \
    "$work/index.txt" "$work/crlnumber" > "$work/conf"
  openssl ca -config "$work/conf" -cert ca.pem -keyfile ca.key -revoke revoked.pem 2>/dev/null
  openssl ca -config "$work/conf" -cert ca.pem -keyfile ca.key -gencrl -crl_lastupdate 20200101000000Z \
    -crl_nextupdate 21200101000000Z -out ca.crl 2>/dev/null
fi
