#!/bin/bash
#
# package.sh: make Debian packages of this source tree, and try them.
#
#	bash test/package.sh build DIR		build them as they are built for Debian; they are put into DIR
#	bash test/package.sh try DIR		install those in DIR, use them, and remove them
#
# Run by matrix.sh, as root, in trees of its own: it installs and removes packages
# and starts a cluster.  The last line is "N passed, N failed".

set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

action=${1:-}
directory=${2:-}
passed=0
failed=0

# check TEXT COMMAND: one thing that must work; what it said is shown if it does not.
check()
{
	if "${@:2}" >"$work/log/check.log" 2>&1; then
		echo "ok     $1"
		passed=$((passed + 1))
	else
		echo "FAILED $1"
		tail -n 60 "$work/log/check.log"
		failed=$((failed + 1))
	fi
}

as_builder()
{
	(cd "$top" && setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME="$work" "$@")
}

# Which packages there are depends on what the release has.
build_dependencies()
{
	(cd "$top" && apt update && apt install --no-install-recommends debhelper postgresql-server-dev-all lintian &&
		pg_buildext updatecontrol && apt build-dep --no-install-recommends ./)
}

lint()
{
	# an older release's lintian does not know the version of the policy
	as_builder lintian --fail-on error,warning --suppress-tags newer-standards-version --info "$work"/*.changes
}

build_packages()
{
	check "build dependencies" build_dependencies
	chown -R nobody:nogroup "$work"
	check "build, with its tests" as_builder dpkg-buildpackage -us -uc
	check "lintian" lint
	mkdir -p "$directory"
	cp "$work"/*.deb "$directory"
}

postgres()
{
	setpriv --reuid=postgres --regid=postgres --init-groups "$@"
}

# What the package $1 must have besides the extension.  Links of the documents lead to files that are there.
has_files()
{
	local doc=/usr/share/doc/postgresql-$1-lpusers file link links=0

	for file in README.md SECURITY.md CONTRIBUTING.md docs/tutorial.md docs/cookbook.md docs/reference.md \
		monitoring/grants.sql monitoring/postgres_exporter.yaml monitoring/alerts.yaml monitoring/grafana.json \
		examples/demo.sql copyright changelog.gz; do
		[ -s "$doc/$file" ] || { echo "$doc/$file is missing"; return 1; }
	done
	while read -r file link; do
		links=$((links + 1))
		case $link in *LICENSE | *CHANGELOG.md) continue ;; esac	# copyright and changelog.gz
		[ -e "$(dirname "$file")/$link" ] || { echo "$file: link to $link"; return 1; }
	done < <(grep -oHE '\]\([A-Za-z./_-]+\.md[)#]|\]\(LICENSE\)' "$doc"/*.md "$doc"/docs/*.md | sed 's/:](/ /; s/[)#]$//')
	[ "$links" -gt 20 ]
}

# The stand-in account that the package has, from beginning to end.
play_account()
{
	"/usr/lib/postgresql/$1/bin/lpsim" --port 8080 --max-age 120 -- \
		setpriv --reuid=postgres --regid=postgres --init-groups psql -XAt -v ON_ERROR_STOP=1 -d postgres <<-'END' | tee "$work/log/answers"
		CREATE EXTENSION lpusers;
		CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url 'http://127.0.0.1:8080');
		CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
		SELECT step, ok FROM lp_check('12345678');
		DROP EXTENSION lpusers CASCADE;
	END
	grep -q '^read|t' "$work/log/answers"
}

play_sql()
{
	postgres psql -XAt -v ON_ERROR_STOP=1 -d postgres <<-'END'
		CREATE EXTENSION lpusers;
		CREATE SERVER nobody FOREIGN DATA WRAPPER lpusers OPTIONS (account 'acme', base_url 'http://127.0.0.1:9');
		CREATE USER MAPPING FOR CURRENT_USER SERVER nobody OPTIONS (token 'x');
		SELECT 'required: ' || string_agg(attribute, ' ') FROM lp_validate_users('[{}]');
		SELECT step, detail FROM lp_check('acme') WHERE NOT ok;
		DROP EXTENSION lpusers CASCADE;
	END
}

uses_them()
{
	play_sql | tee "$work/log/answers"
	grep -q '^required: .*loginName' "$work/log/answers" && grep -q '^read|.*connect' "$work/log/answers"
}

nothing_left()
{
	! find /usr/lib/postgresql /usr/share/postgresql /usr/share/doc -name '*lpusers*' -o -name 'lpsim*' | grep .
}

try_packages()
{
	local package version

	for package in "$directory"/postgresql-*-lpusers_*.deb; do
		version=$(basename "$package" | sed 's/^postgresql-\([0-9]*\)-.*/\1/')
		apt update
		check "$version: install" apt install --no-install-recommends "$package"
		check "$version: start" pg_ctlcluster "$version" main start
		check "$version: CREATE EXTENSION, use, DROP EXTENSION" uses_them
		check "$version: documents, monitoring, examples" has_files "$version"
		check "$version: the stand-in account" play_account "$version"
		check "$version: stop" pg_ctlcluster "$version" main stop
		check "$version: remove" apt purge "postgresql-$version-lpusers"
		check "$version: nothing left" nothing_left
	done
}

[ "$(id -u)" = 0 ] || die "needs root"
[ -n "$directory" ] || die "usage: package.sh build|try DIR"
make_work
enter_work
chmod 755 "$work"
case $action in
	build) build_packages ;;
	try) try_packages ;;
	*) die "usage: package.sh build|try DIR" ;;
esac
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
