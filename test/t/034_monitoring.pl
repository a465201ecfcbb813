# monitoring/: the exporter's queries run with the least rights and give the columns that are declared; what the alerts and
# the dashboard ask for is among the metrics. With the exporter itself, and the alerts in Prometheus' own test, where they
# are installed (Debian: prometheus-postgres-exporter, prometheus).
use strict;
use warnings;
use CPAN::Meta::YAML;
use FindBin;
use HTTP::Tiny;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir  = "$LpUsers::top/monitoring";
my $sim  = LpUsers::account();
my $node = LpUsers::server();
LpUsers::connect_account($node, $sim);
LpUsers::connect_account($node, $sim, server => 'other', options => "delivery 'paused'");
$node->safe_psql('postgres', "ALTER SERVER other OPTIONS (SET account '87654321')");

# Two created, one failed, and one that waits because its account is paused.
sub enqueue
{
	my ($account, @names) = @_;
	my $users = '[' . join(',', map { LpUsers::user($_) } @names) . ']';

	return $node->safe_psql('postgres', "SELECT count(*) FROM lp_enqueue_users('$account', '$users')");
}
sub in_state { return $node->safe_psql('postgres', "SELECT count(*) FROM lp_requests WHERE state = '$_[0]'"); }
$sim->post('users', JSON::PP::decode_json('[' . LpUsers::user('taken', email => 'somebody@example.com') . ']'));
enqueue('12345678', 'ann', 'bob', 'taken');
LpUsers::wait_for(sub { in_state('created') == 2 && in_state('failed') == 1 }, 'the queue to be delivered');
enqueue('87654321', 'cyd');

$node->safe_psql('postgres', slurp_file("$dir/grants.sql"));
my %metrics;
my $queries = CPAN::Meta::YAML->read("$dir/postgres_exporter.yaml")->[0];
my $session = LpUsers::session($node, role => 'lp_monitor');

subtest 'the queries have the declared columns' => sub {
	foreach my $name (sort keys %$queries)
	{
		my @declared = map { [%$_] } @{ $queries->{$name}{metrics} };
		my $psql = sub { my ($sql, @options) = @_; return $node->safe_psql('postgres', "SET ROLE lp_monitor; $sql", extra_params => \@options); };
		my $columns = $psql->("CREATE TEMPORARY VIEW v AS $queries->{$name}{query}; SELECT string_agg(attname || CASE WHEN attname IN ("
			  . join(',', map { "'$_->[0]'" } grep { $_->[1]{usage} eq 'LABEL' } @declared)
			  . ") = (atttypid IN ('text'::regtype, 'name'::regtype)) THEN '' ELSE ' of a wrong type' END, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'v'::regclass");

		is($columns, join(' ', map { $_->[0] } @declared), "$name: columns as declared, labels as text, values as numbers");
		is(join(' ', grep { !$_->[1]{description} || $_->[1]{usage} !~ /^(?:LABEL|GAUGE)$/ } @declared), '', '... each with usage and description');
		$metrics{"${name}_$_->[0]"} = 1 foreach grep { $_->[1]{usage} eq 'GAUGE' } @declared;
	}
};

subtest 'the metrics are those of the queue' => sub {
	# What they say.
	my $ask = sub { my ($columns, $name) = @_; return $session->query("SELECT $columns FROM (" . ($queries->{$name}{query} =~ s/\n$//r) . ') q ORDER BY 1, 2'); };
	is($ask->('account, pending, sending, uncertain, held, paused, (oldest_seconds > 0)::int, (overdue_seconds > 0)::int', 'lpusers_queue'),
		"12345678|0|0|0|0|0|0|0\n87654321|1|0|0|0|1|1|1", 'the queue of each account, also of one with nothing to do');
	is($ask->('account, state, path, last_hour, (median_seconds <= p95_seconds)::int', 'lpusers_results'),
		"12345678|created|queue|2|1\n12345678|failed|queue|1|1", 'the results');
	is($ask->('datname, running, allowed', 'lpusers_worker'), 'postgres|1|1', 'the worker is there while something waits');
	# A sync with users to create, one over a limit and one blocked, and one that is quarantined.
	$node->safe_psql('postgres', q{
		CREATE TABLE people (key text, login_name text, email text, full_name text, employee_id text, nickname text, is_enabled boolean, max_chats int, profile_ids bigint[]);
		INSERT INTO people SELECT n, n || '@x.example', n || '@x.example', n, n, n, true, 3, '{1001}' FROM unnest('{p1,p2}'::text[]) n;
		INSERT INTO people SELECT 'ann', 'ann@example.com', 'ann@example.com', 'Ann', 'ann', 'ann', true, 3, '{1001}';
		INSERT INTO people SELECT 'blocked', NULL, 'x@x.example', 'x', 'x', 'x', true, 3, '{1001}';
		ALTER SERVER acme OPTIONS (ADD require_password 'off');
		SELECT lp_sync_define('staff', '12345678', 'people', 'key', limits => '{"create": 5, "adopt": 0}');
		SELECT lp_sync_define('old', '12345678', 'people', 'key')});
	$node->safe_psql('postgres', q{CALL lp_sync('staff')});
	$node->safe_psql('postgres', q{UPDATE _lp_sync SET state = 'quarantined', failures = 3 WHERE name = 'old'});
	is($ask->('sync, account, active, quarantined, failures, (last_run_seconds BETWEEN 0 AND 100)::int, differing, waiting, blocked, unverifiable, to_confirm', 'lpusers_sync'),
		"old|12345678|0|1|3|1|0|0|0|0|0\nstaff|12345678|1|0|0|1|3|0|1|0|1", 'the syncs');
	is($ask->('relation, (bytes > 8192)::int', 'lpusers_table'), "lp_payloads|1\nlp_requests|1", 'the tables');

	$node->safe_psql('postgres', "LOAD 'lpusers'; ALTER SYSTEM SET lpusers.worker = off; SELECT pg_reload_conf()");
	LpUsers::wait_for(sub { LpUsers::session($node, role => 'lp_monitor')->query($queries->{lpusers_worker}{query}) eq 'postgres|0|0' }, 'the worker to leave');
	pass('a worker that may not be there');
};

subtest 'the monitoring role reads numbers only' => sub {
	# The role sees numbers only.
	foreach my $sql ('SELECT login_name FROM lp_requests', 'SELECT error FROM lp_requests', 'SELECT body FROM lp_payloads', 'SELECT source_key FROM _lp_sync_item', 'SELECT login_name FROM _lp_sync_link', 'SELECT why FROM _lp_sync',
		"SELECT lp_release('12345678')")
	{
		my ($out, $err) = $session->run($sql);
		like($err, qr/ERROR:  42501/, "refused: $sql");
	}
	is($session->query('SELECT count(*) FROM lp_results'), '0', 'no request of others is shown');
};

subtest 'the exporter serves all metrics' => sub {
	# The exporter itself, as docs/operations.md starts it. One that does not know PostgreSQL this new still has our queries.
	SKIP:
	{
		my $exporter = installed('prometheus-postgres-exporter') or skip('prometheus-postgres-exporter is not installed', 2);
		my $url = '127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port();
		my $pid = fork() // die "fork: $!";
		my $page;

		if ($pid == 0)
		{
			my $log = $node->logfile =~ s/\.log$/_exporter.log/r;

			$ENV{DATA_SOURCE_NAME} = 'host=' . $node->host . ' port=' . $node->port . ' user=lp_monitor dbname=postgres sslmode=disable';
			open(STDIN,  '<', '/dev/null');
			open(STDOUT, '>', $log);
			open(STDERR, '>&', \*STDOUT);
			exec($exporter, "--web.listen-address=$url", "--extend.query-path=$dir/postgres_exporter.yaml") or POSIX::_exit(127);
		}
		LpUsers::remember_child($pid);
		LpUsers::wait_for(sub { $page = HTTP::Tiny->new(timeout => 10)->get("http://$url/metrics"); $page->{success} }, 'the exporter to answer');
		is(join(' ', grep { $page->{content} !~ /^$_\{/m } sort keys %metrics), '', 'the exporter has all metrics');
		like($page->{content}, qr/^lpusers_queue_pending\{account="87654321",datname="postgres",[^}]*\} 1$/m, '... and what they say');
		kill('TERM', $pid);
		waitpid($pid, 0);
	}
};

# ---------------------------------------------------------------------- alerts use existing metrics

my $board;

subtest 'alerts use existing metrics' => sub {
	# Alerts and dashboard.
	my $alerts = CPAN::Meta::YAML->read("$dir/alerts.yaml")->[0];
	my @rules  = @{ $alerts->{groups}[0]{rules} };
	$board = JSON::PP->new->utf8->decode(slurp_file("$dir/grafana.json"));
	my @asked  = ((map { $_->{expr} } @rules), (map { $_->{expr} } map { @{ $_->{targets} } } @{ $board->{panels} }),
		(map { $_->{query}{query} } grep { ref $_->{query} } @{ $board->{templating}{list} }));

	cmp_ok(scalar(@asked), '>=', 20, 'alerts and dashboard ask for something');
	is(join(' ', grep { !$metrics{$_} } map { /\b(lpusers_\w+)/g } @asked), '', '... and only for metrics that are there');
	is(join(' ', grep { my $m = $_; !grep { /\b$m\b/ } @asked } sort keys %metrics), 'lpusers_table_live_rows', '... and for all but the number of rows');
	is(join(' ', grep { !$_->{annotations}{summary} || !$_->{for} } @rules), '', 'each alert says what it is');
	SKIP:
	{
		my $promtool = installed('promtool') or skip('promtool is not installed', 2);

		command_ok([ $promtool, 'check', 'rules', "$dir/alerts.yaml" ], 'the alerts are rules for Prometheus');
		command_ok([ $promtool, 'test', 'rules', "$LpUsers::top/test/alerts.yaml" ], '... that fire when they should, and not else');
	}
};

# ---------------------------------------------------------------------- the dashboard is valid

# Where a program is, if it is.
sub installed
{
	my ($program) = @_;
	my ($path) = grep { -x } map { "$_/$program" } split(/:/, "$ENV{PATH}:/usr/sbin");

	return $path;
}

subtest 'the dashboard is valid' => sub {
	# The dashboard, as Grafana's JSON model has it: a name of 8 to 40 characters, panels side by side on 24 columns, queries
	# with a letter each, the data source that is chosen above, and a unit for what is no number of users.
	like($board->{uid}, qr/^[a-zA-Z0-9_-]{8,40}$/, 'the dashboard has a uid');
	my %seen;
	my @panels = @{ $board->{panels} };
	is(join(' ', grep { $seen{$_->{id}}++ } @panels), '', '... panels with an id each');
	is(join(' ', map { $_->{title} } grep { $_->{type} !~ /^(?:stat|timeseries)$/ || !$_->{title} } @panels), '', '... of known types, with a title');
	my %cells;
	foreach my $panel (@panels)
	{
		my $pos = $panel->{gridPos};
		my %letters;

		foreach my $x ($pos->{x} .. $pos->{x} + $pos->{w} - 1)
		{
			$cells{"$x/$_"}++ foreach $pos->{y} .. $pos->{y} + $pos->{h} - 1;
		}
		$letters{ $_->{refId} }++ foreach @{ $panel->{targets} };
		is(join(' ', grep { $letters{$_} > 1 } keys %letters), '', "$panel->{title}: queries with a letter each");
		is(join(' ', grep { $_->{datasource}{uid} ne '${datasource}' } $panel, @{ $panel->{targets} }), '', '... to the data source that is chosen');
		my ($kind) = map { /_(seconds|bytes)\{/ } map { $_->{expr} } @{ $panel->{targets} };
		is($panel->{fieldConfig}{defaults}{unit} // 'none', { seconds => 's', bytes => 'bytes' }->{ $kind // '' } // 'none', '... its unit');
	}
	is(join(' ', grep { $cells{$_} > 1 || /^(?:2[4-9]|[3-9]\d)/ } sort keys %cells), '', 'no panel is upon another, or beyond the right edge');
	is(join(' ', map { $_->{name} } grep { $_->{type} ne 'datasource' && $_->{datasource}{uid} ne '${datasource}' } @{ $board->{templating}{list} }), '', 'variables ask it, too');
};

done_testing();
