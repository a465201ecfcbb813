# shellcheck shell=bash
#
# setup.sh: what the test scripts share.  To be sourced, not run:
#
#	set -euo pipefail
#	. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
#	need_packages			# install or name what is missing
#	drop_root "$@"			# work directory; from here on never root
#	private_postgres		# $work/pg, exports PG_CONFIG and PATH
#	build all test/lpsim/lpsim	# make, make install
#	start_server			# exports PGHOST, PGPORT, PGUSER, PGDATABASE
#
# Afterwards $top is the copy of the source tree that everything is built in,
# and $work the directory above it.  The tree the script was called from is only
# read.  At exit the work directory goes away, and with it every process that
# was started in it.  LPUSERS_KEEP=1 keeps the files.
#
# A function that fails says why on stderr and leaves the script.

[ "${BASH_VERSINFO[0]}" -ge 5 ] || { echo "bash 5 or newer is needed" >&2; exit 1; }

min_version=15					# the oldest PostgreSQL we support
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
work=
work_child=						# process group of a command that is under way
with_bitcode=					# not empty: build bitcode for JIT, too

# The caller's settings must not reach the tests.
export LC_ALL=C
unset LANGUAGE MAKEFLAGS MFLAGS MAKELEVEL CDPATH
for name in ${!PG@}; do
	case $name in
		PG_CONFIG | PG_TEST_*) ;;
		*) unset "$name" ;;
	esac
done
unset name
umask 022

die()
{
	echo "$(basename "$0"): $*" >&2
	exit 1
}

# ---------------------------------------------------------------------------
# Packages
# ---------------------------------------------------------------------------

# Run a command as root: directly, or by sudo if that asks for no password.
can_be_root()
{
	[ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# apt-get, quiet unless it fails.
apt()
{
	local out

	out=$(as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -q -y -o DPkg::Lock::Timeout=120 "$@" </dev/null 2>&1) && return 0
	printf '%s\n' "$out" | tail -n 40 >&2
	return 1
}

is_installed()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

newest_offered()
{
	apt-cache search --names-only '^postgresql-server-dev-[0-9]+$' |
		sed -n 's/^postgresql-server-dev-\([0-9]*\) .*/\1/p' | sort -n | tail -n 1
}

# The major version to test with: that of PG_CONFIG, else the newest installed,
# else nothing.
pg_version()
{
	if [ -n "${PG_CONFIG:-}" ]; then
		"$PG_CONFIG" --version | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p'
	else
		printf '%s\n' /usr/lib/postgresql/*/bin/postgres |
			sed -n 's,^/usr/lib/postgresql/\([0-9]*\)/.*,\1,p' | sort -n | tail -n 1
	fi
}

# The pg_config of the oldest version we support that is installed, with its development files, and is not the one to test
# with; or nothing.
older_pg_config()
{
	local version this

	this=$(pg_version)
	for version in $(seq "$min_version" $((this - 1))); do
		[ -e "/usr/lib/postgresql/$version/lib/pgxs/src/makefiles/pgxs.mk" ] || continue
		[ -x "/usr/lib/postgresql/$version/bin/postgres" ] || continue
		echo "/usr/lib/postgresql/$version/bin/pg_config"
		return
	done
}

# Is the PostgreSQL to use (to be) one of Debian's packages?
pg_is_packaged()
{
	[ -z "${PG_CONFIG:-}" ] && return 0
	case $("$PG_CONFIG" --bindir) in
		/usr/lib/postgresql/*) return 0 ;;
		*) return 1 ;;
	esac
}

# need_packages [further packages]: all that building and testing needs is
# there, or is installed now, or the command that would install it is shown.
need_packages()
{
	if [ -n "${PG_CONFIG:-}" ]; then
		"$PG_CONFIG" --version >/dev/null || die "PG_CONFIG=$PG_CONFIG does not run"
	fi
	if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
		need_debian_packages "$@"
	else
		need_files
	fi

	local version
	version=$(pg_version)
	[ "${version:-0}" -ge "$min_version" ] ||
		die "PostgreSQL $min_version or newer is needed, found ${version:-none}"
	: "${PG_CONFIG:=/usr/lib/postgresql/$version/bin/pg_config}"
	export PG_CONFIG
}

need_debian_packages()
{
	local version updated='' package missing=() had_cluster=''
	local packages=(gcc libc6-dev make libcurl4-openssl-dev libjson-c-dev
		libmicrohttpd-dev libipc-run-perl libio-socket-ssl-perl openssl curl "$@")

	command -v pkg-config >/dev/null || packages+=(pkg-config)
	if pg_is_packaged; then
		version=$(pg_version)
		if [ -z "$version" ]; then
			version=$(newest_offered)
			if [ "${version:-0}" -lt "$min_version" ] && can_be_root; then
				apt update || die "apt-get update failed"
				updated=yes
				version=$(newest_offered)
			fi
			[ "${version:-0}" -ge "$min_version" ] || version=$min_version
		fi
		packages+=("postgresql-$version" "postgresql-server-dev-$version")
	fi
	for package in "${packages[@]}"; do
		is_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	if ! can_be_root; then
		echo "packages are missing; install them with:" >&2
		echo "sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
		exit 1
	fi
	[ -n "$updated" ] || apt update || die "apt-get update failed"

	# Installing the server makes a cluster "main" and starts it.  One that was
	# there before is none of our business; one that we caused goes again.
	[ ! -e "/etc/postgresql/${version:-}/main" ] || had_cluster=yes
	apt install --no-install-recommends "${missing[@]}" ||
		die "could not install ${missing[*]}"
	if [ -n "${version:-}" ] && [ -z "$had_cluster" ] && [ -e "/etc/postgresql/$version/main" ]; then
		as_root pg_dropcluster --stop "$version" main >/dev/null
	fi
}

# Not Debian: only look, and name what is not there.
need_files()
{
	local tool header missing=()

	: "${PG_CONFIG:=$(command -v pg_config || true)}"
	[ -n "$PG_CONFIG" ] || { unset PG_CONFIG; missing+=("pg_config (PostgreSQL server and its headers)"); }
	for tool in gcc make pkg-config openssl curl perl prove; do
		command -v "$tool" >/dev/null || missing+=("$tool")
	done
	for header in curl/curl.h json-c/json.h microhttpd.h; do
		echo "#include <$header>" | gcc -E -x c - >/dev/null 2>&1 || missing+=("<$header>")
	done
	perl -MIPC::Run -e 1 2>/dev/null || missing+=("perl module IPC::Run")
	[ ${#missing[@]} -eq 0 ] || die "missing: $(printf '%s; ' "${missing[@]}" | sed 's/; $//')"
}

# ---------------------------------------------------------------------------
# Work directory, unprivileged user, end of the script
# ---------------------------------------------------------------------------

# List the files of the source tree, each ended by a NUL: in a git checkout what
# is tracked or would be, elsewhere everything but build products.
source_files()
{
	local git=(git -c safe.directory='*' -c core.excludesFile=/dev/null -C "$top") file

	if [ "$("${git[@]}" rev-parse --show-toplevel 2>/dev/null)" = "$top" ]; then
		"${git[@]}" ls-files -z -co --exclude-standard | sort -zu |
			while IFS= read -r -d '' file; do
				if [ -e "$top/$file" ] || [ -L "$top/$file" ]; then printf '%s\0' "$file"; fi
			done
	else
		(cd "$top" && find . \( -path ./.git -o -path ./results -o -path ./tmp_check \
			-o -path ./log -o -path ./output_iso -o -path ./test/certs \) -prune -o \
			-type f ! -name '*.o' ! -name '*.so' ! -name '*.bc' ! -path './regression.*' \
			! -path ./test/lpsim/lpsim ! -path ./test/reader_diff ! -path ./test/bench/limit_reader -print0)
	fi
}

# Make $work with a copy of the source tree in it.  $1 = user who shall own it.
make_work()
{
	local base=${TMPDIR:-/tmp}

	# The names of Unix sockets below it must fit into 107 bytes.
	[ ${#base} -le 48 ] || base=/tmp
	work=$(mktemp -d "$base/lpusers.XXXXXX") || die "cannot make a directory in $base"
	work=$(cd "$work" && pwd -P)
	arm_trap
	mkdir "$work/src" "$work/log" "$work/tmp" "$work/s"
	source_files | tar -C "$top" --null -T - -cf - | tar -C "$work/src" --no-same-owner -xf - ||
		die "cannot copy $top"
	if [ -n "${1:-}" ]; then
		chown -R "$1:$(id -g "$1")" "$work"
	fi
}

# The user as whom root runs the tests.
unprivileged_user()
{
	if id postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi
}

# drop_root "$@": make the work directory and go on in it.  A PostgreSQL server
# never runs as root, so root starts the script once more as another user.
# Call it before anything else that leaves traces, with the script's arguments.
drop_root()
{
	local self user uid gid

	if [ -n "${LPUSERS_WORK:-}" ]; then
		adopt_work
		return 0
	fi
	if [ "$(id -u)" != 0 ]; then
		make_work
		enter_work
		return 0
	fi

	self=$(realpath "$0")
	case $self in
		"$top"/*) self=${self#"$top"/} ;;
		*) die "$self is not in $top" ;;
	esac
	user=$(unprivileged_user)
	uid=$(id -u "$user")
	gid=$(id -g "$user")

	make_work "$user"
	if ! as_user test -w "$work"; then		# a TMPDIR of root's own
		rm -rf "$work"
		TMPDIR=/tmp make_work "$user"
	fi
	export LPUSERS_WORK=$work
	cd "$work" || exit
	as_user true || die "cannot become user $user"
	trap - EXIT INT TERM HUP
	if command -v setpriv >/dev/null; then
		exec setpriv --reuid="$uid" --regid="$gid" --init-groups \
			env HOME="$work" USER="$user" LOGNAME="$user" bash "$work/src/$self" "$@"
	else
		exec runuser -u "$user" -- \
			env HOME="$work" USER="$user" LOGNAME="$user" bash "$work/src/$self" "$@"
	fi
}

# Run a command as $user, while we are still root.
as_user()
{
	if command -v setpriv >/dev/null; then
		setpriv --reuid="$uid" --regid="$gid" --init-groups "$@"
	else
		runuser -u "$user" -- "$@"
	fi
}

# Second start, as the unprivileged user: the work directory is the caller's.
adopt_work()
{
	work=$LPUSERS_WORK
	unset LPUSERS_WORK
	[ "$(id -u)" != 0 ] || die "still root"
	case $work in
		*/lpusers.??????) ;;
		*) die "LPUSERS_WORK is not a work directory: $work" ;;
	esac
	if [ "$top" != "$work/src" ] || [ ! -O "$work" ]; then
		die "LPUSERS_WORK is not ours: $work"
	fi
	arm_trap
	enter_work
}

enter_work()
{
	top=$work/src
	cd "$top" || exit
	# Tests put their sockets and clusters here, so that they go with the rest.
	export HOME=$work TMPDIR=$work/tmp
}

arm_trap()
{
	trap 'clean_up $?' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# Leave nothing behind.  The exit status stays what it was.  A script may define
# at_exit STATUS, which is called while the files are still there.
clean_up()
{
	set +e
	trap - EXIT
	trap '' HUP INT TERM
	[ -z "$work" ] || end_processes
	if [ -n "$work" ] && [ "${LPUSERS_KEEP:-0}" = 1 ]; then echo "kept: $work" >&2; fi
	if declare -F at_exit >/dev/null; then at_exit "$1"; fi
	cd /
	if [ -n "$work" ] && [ "${LPUSERS_KEEP:-0}" != 1 ]; then rm -rf "$work"; fi
	exit "$1"
}

# End what we started: the command under way, servers whose data directory is in
# $work, and programs whose file is in $work.
end_processes()
{
	local pidfile pid i

	[ -z "$work_child" ] || kill -TERM -- "-$work_child" 2>/dev/null
	find "$work" -name postmaster.pid -print 2>/dev/null | while IFS= read -r pidfile; do
		pg_ctl -s -D "$(dirname "$pidfile")" -m immediate -w -t 10 stop >/dev/null 2>&1
	done
	for i in 1 2 3 4 5 6 7 8 9 10; do
		pid=$(our_pids)
		[ -n "$pid" ] || return 0
		# shellcheck disable=SC2086	# a list of numbers
		if [ "$i" -lt 8 ]; then kill -TERM $pid; else kill -KILL $pid; fi 2>/dev/null
		sleep 0.2
	done
}

our_pids()
{
	local exe

	for exe in /proc/[0-9]*/exe; do
		case $(readlink "$exe" 2>/dev/null) in
			"$work"/*) exe=${exe#/proc/}; echo "${exe%/exe}" ;;
		esac
	done
}

# run_group COMMAND: run it in a process group of its own, so that the trap acts
# at once and can end all of it.
run_group()
{
	local status=0

	set -m
	"$@" </dev/null &
	work_child=$!
	set +m
	wait "$work_child" || status=$?
	work_child=
	return $status
}

# ---------------------------------------------------------------------------
# A PostgreSQL of our own
# ---------------------------------------------------------------------------

# mirror_dir DIR: make $work/pg/DIR a directory with a link to each entry of DIR,
# so that files can be added.  An installed lpusers stays outside.
mirror_dir()
{
	[ ! -L "$work/pg$1" ] || rm "$work/pg$1"
	mkdir -p "$work/pg$1"
	find "$1" -mindepth 1 -maxdepth 1 ! -name 'lpusers*' -exec ln -sfn -t "$work/pg$1" {} +
}

# mirror_link DIR: make $work/pg/DIR a link to DIR.  If something below it was laid out before, it is a directory, and gets
# links to what it does not have.
mirror_link()
{
	local entry

	[ -e "$1" ] || return 0
	if [ -d "$work/pg$1" ] && [ ! -L "$work/pg$1" ]; then
		for entry in "$1"/*; do
			[ -e "$work/pg$entry" ] || ln -s "$entry" "$work/pg$1/"
		done
	elif [ ! -e "$work/pg$1" ]; then
		mkdir -p "$(dirname "$work/pg$1")"
		ln -s "$1" "$work/pg$1"
	fi
}

# private_postgres: lay out $work/pg as the installation that PG_CONFIG names.
# PostgreSQL finds its directories relative to its executables, so copies of
# these are enough for an installation that we may write to.
private_postgres()
{
	local system bindir sharedir libdir dir

	bindir=$("$PG_CONFIG" --bindir)
	[ ! -x "$bindir/pg_config" ] || PG_CONFIG=$bindir/pg_config		# not Debian's wrapper
	system=$PG_CONFIG
	sharedir=$("$system" --sharedir)
	libdir=$("$system" --pkglibdir)
	[ -x "$bindir/postgres" ] || die "there is no PostgreSQL server in $bindir"
	[ -e "$("$system" --pgxs)" ] || die "the development files of $("$system" --version) are missing"

	mkdir -p "$work/pg$bindir"
	cp -p "$bindir"/* "$work/pg$bindir/"
	mirror_dir "$libdir"
	[ ! -d "$libdir/bitcode" ] || mirror_dir "$libdir/bitcode"
	mirror_dir "$sharedir"
	mirror_dir "$sharedir/extension"
	for dir in includedir pkgincludedir includedir-server libdir localedir; do
		mirror_link "$("$system" --$dir)"
	done

	export PG_CONFIG=$work/pg$bindir/pg_config
	export PATH=$work/pg$bindir:$PATH
	if [ "$("$PG_CONFIG" --pkglibdir)" != "$work/pg$libdir" ] ||
		[ "$("$PG_CONFIG" --sharedir)" != "$work/pg$sharedir" ]; then
		die "PostgreSQL in $bindir cannot be relocated"
	fi
}

# quiet LOG COMMAND: the output goes to $work/log/LOG and is shown on failure.
quiet()
{
	local log=$work/log/$1 status=0

	shift
	run_group "$@" >"$log" 2>&1 || status=$?
	[ "$status" = 0 ] || tail -n 200 "$log" >&2
	return $status
}

# in_make [make args]: the Makefile, as a developer runs it, with our PostgreSQL.
# Bitcode for JIT, which takes longer than the rest, is built only if with_bitcode is set and its
# compiler is there.
in_make()
{
	local args=(PG_CONFIG="$PG_CONFIG" COPT=-Werror DEVEL=1) clang

	clang=$(sed -n 's/^CLANG[[:space:]]*=[[:space:]]*//p' "$(dirname "$("$PG_CONFIG" --pgxs)")/../Makefile.global")
	if [ -z "$with_bitcode" ] || ! command -v "${clang:-none}" >/dev/null; then
		args+=(with_llvm=no)
	fi
	make -C "$top" -s --no-print-directory "${args[@]}" "$@"
}

# build [make args]: warnings are errors; then install into the private PostgreSQL.
build()
{
	quiet build.log in_make -j2 "$@" || die "the build failed"
	quiet install.log in_make install || die "the installation failed"
}

# ---------------------------------------------------------------------------
# A server
# ---------------------------------------------------------------------------

# start_server [name=value ...]: a fresh cluster on a Unix socket, with further
# settings if given.  It is fast, not safe: nothing is synced to disk.
start_server()
{
	local setting

	[ ${#work} -lt 90 ] || die "$work is too long for a socket"
	if [ ! -d "$work/data" ]; then
		quiet initdb.log initdb -D "$work/data" -U postgres -A trust -E UTF8 --no-sync \
			--locale="$(utf8_locale)" || die "initdb failed"
		cat >>"$work/data/postgresql.conf" <<-END
			listen_addresses = ''
			unix_socket_directories = '$work/s'
			fsync = off
			full_page_writes = off
			log_line_prefix = '%m [%p] %q%a '
		END
	fi
	for setting in "$@"; do
		echo "${setting%%=*} = '${setting#*=}'" >>"$work/data/postgresql.conf"
	done
	export PGHOST=$work/s PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
	# fd 3 is the terminal of the scripts; a server must not hold it open
	if ! pg_ctl -s -w -D "$work/data" -l "$work/log/server.log" start >/dev/null 2>&1 </dev/null 3>&-; then
		tail -n 50 "$work/log/server.log" >&2
		die "the server does not start"
	fi
}

stop_server()
{
	pg_ctl -s -w -D "$work/data" -m fast stop
}

utf8_locale()
{
	if locale -a 2>/dev/null | grep -qix 'c\.utf-\?8'; then echo C.UTF-8; else echo C; fi
}

# make_certs DIR: certificates for TLS tests, see certs.sh.
make_certs()
{
	bash "$top/test/certs.sh" "$1"
}
