#!/usr/bin/env bash
#
# assert.sh [regress|tap [name ...]]: the tests on a PostgreSQL that checks its assertions.
# assert.sh build: only that PostgreSQL.
#
# PostgreSQL is built from Debian's package of its sources with --enable-cassert. Such a build
# also overwrites freed memory (CLOBBER_FREED_MEMORY), checks that no palloc'ed chunk was written
# past its end (MEMORY_CONTEXT_CHECKING), and compiles lpusers with the assertions in PostgreSQL's
# headers. Then run.sh runs all tests except the TAP tests that set up a second server. A failed
# assertion, in PostgreSQL or in lpusers, ends its process and leaves a line with TRAP: in the
# server's log, which run.sh counts as a failure.
#
# The build takes minutes and is kept, one directory for each version, in LPUSERS_ASSERT_DIR, else
# in /var/cache/lpusers-assert (root) or lpusers-assert in $XDG_CACHE_HOME or ~/.cache. Without
# sources and without an earlier build the script is skipped: status 77.
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# shellcheck source=test/pg_source.sh
. "$(dirname "${BASH_SOURCE[0]}")/pg_source.sh"

skipped=77

# skip WHY
skip()
{
	echo "assert: skipped: $*"
	exit $skipped
}

# make_cache: LPUSERS_ASSERT_DIR is a directory that belongs to the user who runs the tests.
make_cache()
{
	if [ "$(id -u)" = 0 ]; then
		: "${LPUSERS_ASSERT_DIR:=/var/cache/lpusers-assert}"
		[ -d "$LPUSERS_ASSERT_DIR" ] || install -d -o "$(unprivileged_user)" "$LPUSERS_ASSERT_DIR"
	else
		: "${LPUSERS_ASSERT_DIR:=${XDG_CACHE_HOME:-$HOME/.cache}/lpusers-assert}"
		mkdir -p "$LPUSERS_ASSERT_DIR"
	fi
	LPUSERS_ASSERT_DIR=$(realpath "$LPUSERS_ASSERT_DIR")
	export LPUSERS_ASSERT_DIR
}

# need_postgres: set PG_CONFIG to that of a build with assertions of the same major version, if
# possible of the same version. Of two scripts that need a build one makes it and the other waits.
need_postgres()
{
	local cache=$LPUSERS_ASSERT_DIR major version installed lock

	major=$(pg_version)
	# shellcheck disable=SC2016	# a field of dpkg
	installed=$(dpkg-query -W -f '${source:Version}' "postgresql-$major" 2>/dev/null) ||
		installed=unknown
	exec {lock}>"$cache/lock" || die "cannot write to $cache"
	flock "$lock"
	built=$cache/$installed
	[ -d "$built" ] || find_or_build "$major"
	exec {lock}>&-
	export PG_CONFIG=$built/bin/pg_config
}

# find_or_build MAJOR: set $built to the newest version whose sources can be downloaded, else to
# the newest that was built before.
find_or_build()
{
	local version

	for version in $(list_sources "$1"); do
		built=$LPUSERS_ASSERT_DIR/$version
		[ ! -d "$built" ] || return 0
		# one of Debian's patches installs libraries in /usr/lib whatever the prefix is
		get_source "$1" "$version" "$work/postgresql" --skip-patches || continue
		build_postgres
		return 0
	done
	built=$(printf '%s\n' "$LPUSERS_ASSERT_DIR/$1".* | sort -V | tail -n 1)
	[ -d "$built" ] || skip "the sources of PostgreSQL $1 cannot be downloaded"
}

# build_postgres: build $work/postgresql and install it as $built. The directory gets that name in
# the last step, so that an interrupted build is not taken for a complete one.
build_postgres()
{
	local new=$LPUSERS_ASSERT_DIR/new

	echo "building PostgreSQL $(basename "$built") with assertions"
	rm -rf "$new"
	cd "$work/postgresql"
	quiet configure.log ./configure CFLAGS=-O1 --prefix="$built" --enable-cassert --enable-debug \
		--enable-tap-tests --with-ssl=openssl --with-libxml --without-icu --without-readline ||
		die "PostgreSQL cannot be configured"
	quiet make.log make -s -j "$(nproc)" world-bin || die "PostgreSQL cannot be built"
	quiet install.log make -s install-world-bin DESTDIR="$new" ||
		die "PostgreSQL cannot be installed"
	cd "$top"
	case $("$new$built/bin/pg_config" --pkglibdir) in
		"$new$built"/*) ;;
		*) die "PostgreSQL is not below its prefix" ;;
	esac
	mv "$new$built" "$built"
	rm -rf "$new" "$work/postgresql"
	echo "built in $SECONDS s"
}

main()
{
	case ${1:-regress} in
		build | regress | tap) ;;
		*) die "usage: assert.sh [build | regress|tap [name ...]]" ;;
	esac
	if [ -z "${LPUSERS_WORK:-}" ]; then
		command -v apt-get >/dev/null || skip "there is no apt-get"
		need_packages bison flex dpkg-dev libssl-dev libxml2-dev zlib1g-dev
		make_cache
	fi
	drop_root "$@"
	need_postgres
	[ "${1:-}" != build ] || exit 0
	# the TAP tests that make one server; what the arguments name goes before
	PROVE_TESTS=$(grep -cE 'Cluster->new|LpUsers::server\(' test/t/*.pl | sed -n 's/:[01]$//p' |
		paste -sd ' ')
	# run.sh goes on in this work directory
	export PROVE_TESTS LPUSERS_WORK=$work
	exec bash test/run.sh "$@"
}

main "$@"
