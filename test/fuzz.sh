#!/usr/bin/env bash
#
# fuzz.sh [seconds]: libFuzzer looks for documents that the reader of lists reads otherwise than json-c.
#
# The same comparison as test/reader_diff, with the compiler's help in finding documents, and with its checks of memory
# and arithmetic. It begins with test/corpus/reader and ends after the time given (60 s), with status 0 if it found
# nothing. What it finds goes into that corpus, so that it stays found: mend the reader, or add a rule to
# reader_compare.c if json-c is the one who is wrong.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
corpus=test/corpus/reader
pg_config=${PG_CONFIG:-pg_config}
flags=(-g -O1 "-fsanitize=fuzzer,address,undefined" -fno-sanitize-recover=undefined)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die()
{
	echo "fuzz.sh: skipped: $*" >&2
	exit 2
}

command -v clang >/dev/null || die "clang is needed: apt-get install clang libclang-rt-dev"
command -v "$pg_config" >/dev/null || die "pg_config is needed: apt-get install postgresql-server-dev-all"
pkg-config --exists json-c || die "json-c is needed: apt-get install libjson-c-dev pkg-config"
echo 'int LLVMFuzzerTestOneInput(const char *d, long n); int LLVMFuzzerTestOneInput(const char *d, long n) { return 0; }' |
	clang "${flags[@]}" -x c - -o "$work/probe" 2>/dev/null || die "libFuzzer is needed: apt-get install libclang-rt-dev"

# shellcheck disable=SC2046	# several words
clang "${flags[@]}" -Wno-ignored-attributes -D_GNU_SOURCE -Isrc -I"$("$pg_config" --includedir-server)" \
	$(pkg-config --cflags json-c) -o "$work/reader_fuzz" \
	test/reader_fuzz.c test/reader_compare.c test/standalone.c src/json/array_reader.c src/json/object_scanner.c src/json/lexer.c \
	-L"$("$pg_config" --pkglibdir)" -L"$("$pg_config" --libdir)" -lpgcommon -lpgport $(pkg-config --libs json-c)

cat >"$work/words" <<'WORDS'
"\"id\":"
"\"loginName\":"
"\"a\":"
"true"
"false"
"null"
"\\u0000"
"\\ud83d\\ude00"
"\\udc00"
"1e-5"
"NaN"
"-Infinity"
"\xf0\x9f\x98\x80"
"\xed\xa0\x80"
"\xc0\x80"
WORDS

mkdir "$work/corpus" "$work/found"
cp "$corpus"/* "$work/corpus/"
status=0
"$work/reader_fuzz" -max_total_time="$seconds" -max_len=2000 -timeout=10 -dict="$work/words" -print_final_stats=1 \
	-artifact_prefix="$work/found/" "$work/corpus" >"$work/log" 2>&1 || status=$?
tail -n 20 "$work/log"
for file in "$work"/found/*; do
	[ -e "$file" ] || continue
	cp "$file" "$corpus/found-$(sha256sum "$file" | cut -c 1-12)"
	grep -A 1 -E 'the reader:|ERROR: AddressSanitizer|runtime error' "$work/log" | head -n 20 || true
	status=1
done
[ "$status" = 0 ] && echo "fuzz.sh: nothing found in $seconds s" || echo "fuzz.sh: found something, see $corpus"
exit "$status"
