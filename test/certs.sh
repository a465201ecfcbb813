#!/bin/bash
#
# certs.sh DIR: make certificates for TLS tests in DIR.
#
#	ca.pem			the authority that tests trust			(ca.key)
#	server.pem		localhost and 127.0.0.1, good			(server.key)
#	expired.pem		the same names, ended years ago			(expired.key)
#	wrongname.pem	elsewhere.example only					(wrongname.key)
#	otherca.pem		an untrusted authority			(otherca.key)
#	unknown.pem		localhost and 127.0.0.1, signed by it	(unknown.key)
#
# Keys are P-256 and readable by their owner only.  Prints nothing on success.

set -euo pipefail
umask 022

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
tmp=$(mktemp -d "$dir/tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
here='DNS:localhost,IP:127.0.0.1'

# Run openssl, which is silent only if it is made to be.
ssl()
{
	openssl "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; exit 1; }
}

# key NAME
key()
{
	(umask 077 && ssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$tmp/$1.key")
}

# authority NAME TITLE
authority()
{
	key "$1"
	ssl req -x509 -new -key "$tmp/$1.key" -sha256 -days 3650 -config "$tmp/conf" \
		-subj "/CN=$2" -extensions authority -out "$tmp/$1.pem"
}

# server NAME AUTHORITY ALTNAMES START END.  "openssl ca" is the one command that
# takes a start and an end in every version of OpenSSL.
server()
{
	key "$1"
	ssl req -new -key "$tmp/$1.key" -config "$tmp/conf" -subj "/CN=lpusers test $1" -out "$tmp/$1.csr"
	printf '%s\n' 'basicConstraints=CA:false' 'extendedKeyUsage=serverAuth' "subjectAltName=$3" >"$tmp/ext"
	: >"$tmp/index"
	ssl ca -batch -notext -rand_serial -config "$tmp/conf" -in "$tmp/$1.csr" -extfile "$tmp/ext" \
		-cert "$tmp/$2.pem" -keyfile "$tmp/$2.key" -startdate "$4" -enddate "$5" -out "$tmp/$1.pem"
}

cat >"$tmp/conf" <<END
[req]
distinguished_name = name
prompt = no
[name]
CN = lpusers test
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[ca]
default_ca = test
[test]
database = $tmp/index
serial = $tmp/serial
new_certs_dir = $tmp
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
END

authority ca 'lpusers test CA'
authority otherca 'lpusers other CA'
server server		ca		"$here"					20240101000000Z 20490101000000Z
server expired		ca		"$here"					20200101000000Z 20200201000000Z
server wrongname	ca		DNS:elsewhere.example	20240101000000Z 20490101000000Z
server unknown		otherca	"$here"					20240101000000Z 20490101000000Z

for name in ca server expired wrongname otherca unknown; do
	mv -f "$tmp/$name.key" "$tmp/$name.pem" "$dir/"
done
