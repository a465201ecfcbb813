# shellcheck shell=bash
#
# pg_source.sh: PostgreSQL's sources, from Debian's package of them. To be sourced after setup.sh,
# not run.
#
# An installation of Debian usually lists binary packages only. apt runs with lists and a cache in
# the work directory, which name the same repositories with their sources; the system's own are
# only read. None of this needs root.

# An apt with lists of its own.
own_apt()
{
	"$1" -q -o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=- \
		-o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" \
		-o Acquire::Languages=none "${@:2}" </dev/null
}

# list_sources MAJOR: print the versions of PostgreSQL's source package that Debian's repositories
# list, newest first. Print nothing if there are none or no repository can be reached.
list_sources()
{
	mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
	# shellcheck disable=SC2016	# apt's variables
	apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' | sort -u >"$work/apt/sources.list"
	[ -s "$work/apt/sources.list" ] || return 0
	own_apt apt-get update >"$work/log/sources.log" 2>&1 || return 0
	own_apt apt-cache showsrc "postgresql-$1" 2>>"$work/log/sources.log" |
		sed -n 's/^Version: //p' | sort -ruV
}

# get_source MAJOR VERSION DIR [option of dpkg-source]: download a version that list_sources printed
# and unpack it as the directory DIR, with Debian's patches unless the option is --skip-patches.
# Return false if that fails: a mirror may list a version that it no longer has.
get_source()
{
	local download=$work/apt/source

	rm -rf "$download" "$3"
	mkdir "$download"
	(cd "$download" && own_apt apt-get source --download-only "postgresql-$1=$2") \
		>>"$work/log/sources.log" 2>&1 || return 1
	if command -v dpkg-source >/dev/null; then
		dpkg-source --no-check "${@:4}" -x "$download"/*.dsc "$3" >>"$work/log/sources.log" 2>&1
	else
		mkdir "$3" && tar -C "$3" --strip-components=1 -xf "$download"/*.orig.tar.*
	fi
}
