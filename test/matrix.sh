#!/bin/bash
#
# matrix.sh: build and test with the versions that other releases of Debian and Ubuntu carry.
#
#	bash test/matrix.sh [--build|--regress|--package|--upgrade|--trees] [--fresh] [release ...] [-- argument ...]
#
#	--build		only compile, with warnings as errors, and run a few tests of pg_regress
#	--regress	compile and run all of pg_regress, but no TAP tests
#	--package	make Debian packages and try them in a tree that has nothing else
#	--upgrade	test pg_upgrade from the oldest PostgreSQL, that of bookworm, to the release's
#	--trees		only make the trees that are missing
#	--fresh		make the trees anew
#	release		bookworm, trixie, forky or sid of Debian, noble (24.04) of Ubuntu.
#				Without any: all but sid and that of this machine, which run.sh tests
#	argument	of run.sh, e.g. tap 001_create_and_check
#
# Each release has a tree of its own (debootstrap).  It is made once and kept in
# LPUSERS_MATRIX_DIR, else in $XDG_CACHE_HOME/lpusers-matrix or
# /var/cache/lpusers-matrix.  Packages of Debian come from LPUSERS_MATRIX_MIRROR, else
# from where this machine's own apt gets them; those of Ubuntu from
# LPUSERS_MATRIX_UBUNTU_MIRROR, else from debootstrap's default.  To be run as root.
#
# One line for each release says what was tested, and its tally.  A release that
# could not be tested is "skipped", with the reason.  The exit status is 0 if all
# passed, 1 if something failed, 77 if nothing failed but something was skipped.

set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

releases=(bookworm trixie noble forky)
oldest=bookworm					# its PostgreSQL is the oldest that we support, min_version
# of each layer: set-up, account, calls, trigger, queue
few_tests=(create_extension settings server_options server_lookup one_call_one_request
	trigger_arguments enqueue_users deliver_users drop_extension)
skipped=77

usage()
{
	sed -n '5,15s/^#[[:space:]]\{0,1\}//p' "${BASH_SOURCE[0]}"
	exit "$1"
}

mode=full
fresh=
names=()
while [ $# -gt 0 ]; do
	case $1 in
		--) shift; break ;;
		--build | --regress | --package | --upgrade | --trees) mode=${1#--} ;;
		--fresh) fresh=yes ;;
		-h | --help) usage 0 ;;
		bookworm | trixie | noble | forky | sid) names+=("$1") ;;
		*) usage 2 >&2 ;;
	esac
	shift
done
run=("$@")						# for run.sh
cache=${LPUSERS_MATRIX_DIR:-${XDG_CACHE_HOME:-/var/cache}/lpusers-matrix}

exec 3>&1						# the terminal, wherever stdout goes
failed=0
lines=()						# the closing line of each release

# finish RELEASE FAILED|skipped|"" TEXT: a release is done.
finish()
{
	case $2 in
		'') lines+=("$1: $3") ;;
		*) lines+=("$1: $2: $3") ;;
	esac
	echo "${lines[-1]}" >&3
}

# Called at the end, when what was under way has been told to end: wait for it, but not for ever.
at_exit()
{
	local i

	[ -n "$work_child" ] || return 0
	for ((i = 0; i < 100; i++)); do
		kill -0 -- "-$work_child" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL -- "-$work_child" 2>/dev/null
}

# ---------------------------------------------------------------------------
# Trees
# ---------------------------------------------------------------------------

# Debian need not know the keys of Ubuntu's archive: they are taken from its package of them, which is known by its sum.
ubuntu_keyring=pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb
ubuntu_keyring_sum=SHA256:36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8

need_ubuntu_keyring()
{
	[ ! -e "$cache/ubuntu-archive-keyring.gpg" ] || return 0
	/usr/lib/apt/apt-helper download-file "$(mirror noble)/$ubuntu_keyring" "$work/tmp/keyring.deb" "$ubuntu_keyring_sum" \
		>/dev/null 2>&1 || return
	dpkg-deb -x "$work/tmp/keyring.deb" "$work/tmp/keyring"
	cp "$work/tmp/keyring/usr/share/keyrings/ubuntu-archive-keyring.gpg" "$cache/"
}

is_ubuntu()
{
	[ "$1" = noble ]
}

# mirror RELEASE: where its packages come from.
mirror()
{
	if is_ubuntu "$1"; then
		echo "${LPUSERS_MATRIX_UBUNTU_MIRROR:-$(bash -c 'ARCH=amd64 SUITE=$1
			default_mirror() { echo "$1"; exit; }
			. /usr/share/debootstrap/scripts/gutsy' mirror "$1" 2>/dev/null)}"
	elif [ -n "${LPUSERS_MATRIX_MIRROR:-}" ]; then
		echo "$LPUSERS_MATRIX_MIRROR"
	else
		# shellcheck disable=SC2016	# apt's variables
		apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
			sed -n 1p
	fi
}

# mirror_answers RELEASE MIRROR: can its packages be had now?  Asked with apt's own client, which knows of proxies.
mirror_answers()
{
	/usr/lib/apt/apt-helper download-file "${2%/}/dists/$1/InRelease" "$work/tmp/InRelease" >/dev/null 2>&1
}

# in_tree TREE [NAME=VALUE ...] COMMAND: as root in a tree, with processes and mounts of its own: whatever happens,
# none is left when it ends.  It sees the source in /mnt and the work directory's tmp as /tmp.
in_tree()
{
	# shellcheck disable=SC2016	# the inner shell's variables
	unshare --mount --pid --ipc --fork --kill-child --propagation private -- bash -c '
		set -e
		tree=$1 work=$2
		shift 2
		mount -t proc proc "$tree/proc"
		mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$tree/dev/shm"
		mount --bind "$work/tmp" "$tree/tmp"
		mount --bind "$work/src" "$tree/mnt"
		cd /
		status=0
		chroot "$tree" /usr/bin/env -i HOME=/root LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			DEBIAN_FRONTEND=noninteractive "$@" || status=$?
		exit $status' in_tree "$1" "$work" "${@:2}"
}

# What the tree's apt has to know of this machine's: how to reach the mirror, and what to think of its dates.
configure_tree()
{
	apt-config dump | grep -E '^Acquire::(Check-(Valid-Until|Date)|Retries|[a-z]+::Proxy.*) "' \
		>"$1/etc/apt/apt.conf.d/10machine" || true
	echo 'Acquire::Languages "none";' >"$1/etc/apt/apt.conf.d/10languages"
	printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >"$1/etc/hosts"
	printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"	# no package starts a service
	chmod +x "$1/usr/sbin/policy-rc.d"
}

# Ubuntu puts minor releases of PostgreSQL into an archive of their own.
add_updates()
{
	echo "deb $(mirror "$1") $1-updates main universe" >>"$2/etc/apt/sources.list"
	in_tree "$2" apt-get -q -y update && in_tree "$2" apt-get -q -y dist-upgrade
}

# make_tree RELEASE: a tree under its final name is complete.  Beside it is one without any further package.
make_tree()
{
	local tree=$cache/$1 script=/usr/share/debootstrap/scripts/$1 like=sid options=()

	rm -rf --one-file-system "$tree" "$tree.clean" "$tree.upgrade" "$tree.new"
	if is_ubuntu "$1"; then
		like=gutsy
		options=(--components=main,universe --keyring="$cache/ubuntu-archive-keyring.gpg")
	fi
	[ -e "$script" ] || script=/usr/share/debootstrap/scripts/$like	# newer than this debootstrap
	debootstrap --variant=minbase ${options[0]+"${options[@]}"} "$1" "$tree.new" "$(mirror "$1")" "$script" || return
	configure_tree "$tree.new"
	! is_ubuntu "$1" || add_updates "$1" "$tree.new"
	cp -a "$tree.new" "$tree.clean"
	need_tree_packages "$tree.new" || return
	in_tree "$tree.new" apt-get clean
	mv "$tree.new" "$tree"
}

# make_upgrade_tree RELEASE: a copy of its tree that has the oldest PostgreSQL, too.
make_upgrade_tree()
{
	local tree=$cache/$1.upgrade

	rm -rf --one-file-system "$tree" "$tree.new"
	cp -a "$cache/$1" "$tree.new"
	echo "deb $(mirror "$oldest") $oldest main" >"$tree.new/etc/apt/sources.list.d/$oldest.list"
	need_tree_packages "$tree.new" "postgresql-$min_version" "postgresql-server-dev-$min_version" || return
	in_tree "$tree.new" apt-get clean
	mv "$tree.new" "$tree"
}

# need_tree_packages TREE [PACKAGE ...]: what run.sh needs is there, and more; usually it is.
need_tree_packages()
{
	in_tree "$1" bash -c '. /mnt/test/setup.sh; need_packages "$@"' need_packages "${@:2}"
}

# need_upgrade_tree RELEASE: there is one with two versions, or $why says why not.
need_upgrade_tree()
{
	local log=$work/log/upgrade-tree-$1.log

	[ -z "$fresh" ] && [ -d "$cache/$1.upgrade" ] && return 0
	if [ "$1" = "$oldest" ]; then
		why="it has no newer PostgreSQL than $oldest"
	elif is_ubuntu "$1"; then
		why="the PostgreSQL of $oldest is not made for it"
	elif [ -z "$(mirror "$oldest")" ] || ! mirror_answers "$oldest" "$(mirror "$oldest")"; then
		why="no mirror can be reached for the PostgreSQL of $oldest"
	elif ! run_group make_upgrade_tree "$1" >"$log" 2>&1; then
		why="a tree with two versions cannot be made"
		tail -n 40 "$log" >&2
	else
		return 0
	fi
	return 1
}

# need_tree RELEASE: there is a tree, or $why says why not.
need_tree()
{
	local log=$work/log/tree-$1.log

	if [ -z "$fresh" ] && [ -d "$cache/$1" ] && [ -d "$cache/$1.clean" ]; then
		quiet "tree-$1.log" need_tree_packages "$cache/$1" && return 0
		why="its packages cannot be completed"
		return 1
	fi
	if [ -z "$(mirror "$1")" ]; then
		why="no mirror of Debian is known here; name one in LPUSERS_MATRIX_MIRROR"
	elif ! mirror_answers "$1" "$(mirror "$1")"; then
		why="no mirror can be reached for it"
	elif is_ubuntu "$1" && ! need_ubuntu_keyring; then
		why="the keys of its archive cannot be had"
	elif ! run_group make_tree "$1" >"$log" 2>&1; then
		why="its tree cannot be made"
		tail -n 40 "$log" >&2
	else
		return 0
	fi
	return 1
}

# ---------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------

# What a tree has: "postgresql 17.6, libcurl 8.14.1, json-c 0.18".
versions()
{
	# shellcheck disable=SC2016	# the inner shell's variables
	in_tree "$1" bash -c '
		. /mnt/test/setup.sh
		need_packages
		printf "postgresql %s, libcurl %s, json-c %s\n" \
			"$("$PG_CONFIG" --version | sed "s/^PostgreSQL \([0-9.]*[a-z0-9]*\).*/\1/")" \
			"$(pkg-config --modversion libcurl)" "$(pkg-config --modversion json-c)"'
}

# run_row RELEASE: its tests.
run_row()
{
	local tree=$cache/$1

	case $mode in
		build) in_tree "$tree" bash /mnt/test/run.sh regress "${few_tests[@]}" ;;
		regress) in_tree "$tree" bash /mnt/test/run.sh regress ;;
		package) package "$1" ;;
		upgrade)
			in_tree "$tree.upgrade" LPUSERS_OLD_PG_CONFIG="/usr/lib/postgresql/$min_version/bin/pg_config" \
				bash /mnt/test/run.sh tap 045_pg_upgrade
			;;
		full) in_tree "$tree" bash /mnt/test/run.sh ${run[0]+"${run[@]}"} ;;
	esac
}

# The package is made where what it needs to be built is, and tried where nothing is.
package()
{
	rm -rf "$work/tmp/packages" "$work/clean"
	in_tree "$cache/$1" bash /mnt/test/package.sh build /tmp/packages || return
	cp -a "$cache/$1.clean" "$work/clean"
	in_tree "$work/clean" bash /mnt/test/package.sh try /tmp/packages
}

# test_release RELEASE: one row.
test_release()
{
	local tree=$cache/$1 log=$work/log/$1.log status=0 tally with lock shown show

	exec {lock}>"$cache/$1.lock"
	flock "$lock"
	if ! need_tree "$1" || { [ "$mode" = upgrade ] && ! need_upgrade_tree "$1"; }; then
		exec {lock}>&-
		finish "$1" skipped "$why"
		return
	fi
	# From here on others may use it too, but not make it anew. A package's build dependencies are installed into it.
	[ "$mode" = package ] || flock -s "$lock"
	with=$(versions "$tree")
	if [ "$mode" = trees ]; then
		exec {lock}>&-
		finish "$1" '' "$with"
		return
	fi
	[ "$mode" != upgrade ] || with="from postgresql $min_version to $with"

	echo "$1: $with"
	exec {shown}> >(sed -u 's/^/    /' | tee "$log")	# no pipeline: a signal must act at once
	show=$!
	run_group run_row "$1" >&"$shown" 2>&1 || status=$?
	exec {shown}>&- {lock}>&-
	wait "$show"

	tally=$(awk '/^    [0-9]+ passed, [0-9]+ failed$/ {n++; p += $1; f += $3} END {if (n) print p + 0 " passed, " f + 0 " failed"}' "$log")
	if [ "$status" = 0 ] && [ -n "$tally" ]; then
		finish "$1" '' "$with: $tally"
	else
		failed=$((failed + 1))
		finish "$1" FAILED "$with: ${tally:-ended early, status $status}"
	fi
}

# What making and entering trees needs; ends the script if it cannot be had.
need_tools()
{
	local tool

	if [ "$(id -u)" != 0 ]; then
		echo "matrix.sh: making and entering the trees needs root; nothing was tested. Try: sudo bash test/matrix.sh"
		exit $skipped
	fi
	if ! command -v debootstrap >/dev/null; then
		if apt update; then apt install --no-install-recommends debootstrap || true; fi
	fi
	for tool in debootstrap unshare chroot flock apt-get apt-config; do
		command -v "$tool" >/dev/null && continue
		echo "matrix.sh: $tool is missing and cannot be installed; nothing was tested"
		exit $skipped
	done
	if ! unshare --mount --pid --ipc --fork --kill-child --propagation private true; then
		echo "matrix.sh: this machine does not allow mounts and processes apart (unshare); nothing was tested"
		exit $skipped
	fi
}

own_release()
{
	sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

main()
{
	local release own

	need_tools
	if [ ${#names[@]} = 0 ]; then
		own=$(own_release)
		for release in "${releases[@]}"; do
			[ "$release" = "$own" ] || names+=("$release")
		done
	fi
	make_work
	chmod 1777 "$work/tmp"
	mkdir -p "$cache"

	for release in "${names[@]}"; do
		test_release "$release"
	done
	printf '\n'
	printf '%s\n' "${lines[@]}"
	[ "$failed" = 0 ] || exit 1
	case ${lines[*]} in *": skipped: "*) exit $skipped ;; esac
}

main
