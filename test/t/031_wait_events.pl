# What PostgreSQL shows of us from 17 or 18 on: named wait events, and the loaded module.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "shared_preload_libraries = 'lpusers'\nlpusers.databases = 'postgres'\n");
my $version = $node->safe_psql('postgres', 'SHOW server_version_num');
my $named   = $version >= 170000;
my $watch   = LpUsers::session($node);

LpUsers::connect_account($node, $sim);

# A session that this condition finds comes to wait for that; it may have waited for something else of ours before.
sub event_is
{
	my ($condition, $name) = @_;
	my $expected = $named ? $name : 'Extension';

	ok(LpUsers::wait_for(sub {
				$watch->query("SELECT wait_event = '$expected' FROM pg_stat_activity WHERE $condition AND wait_event_type = 'Extension'") eq 't';
			}, "wait event $name"), "wait event $name");
	return;
}

subtest 'wait events have names' => sub {
	# A worker that has nothing to do, or not yet.
	$watch->query(q{SELECT lp_enqueue_users('12345678', '[} . LpUsers::user('queued') . q{]')});
	LpUsers::wait_for(sub { $sim->users_with('queued@example.com') }, 'the worker to deliver');
	event_is("backend_type = 'lpusers worker'", 'LpusersWorker');

	# A call that waits for its answer, and one that waits until it may try again.
	$sim->post('faults', { method => 'POST', path => '/users', action => 'silence', seconds => 200 });
	my $caller = LpUsers::session($node);
	my $pid    = $caller->query('SELECT pg_backend_pid()');

	$caller->send(LpUsers::create_sql('silent'));
	event_is("pid = $pid", 'LpusersNetwork');
	$watch->query("SELECT pg_cancel_backend($pid)");
	like(($caller->take)[1], qr/57014/, 'cancelled');

	$sim->post('faults', { method => 'POST', path => '/users', action => 'retry_after', value => '30' });
	$caller->send(LpUsers::create_sql('paused'));
	event_is("pid = $pid", 'LpusersPause');
	$watch->query("SELECT pg_cancel_backend($pid)");
	like(($caller->take)[1], qr/57014/, 'cancelled');

	# Another process finds the event by its name: it is registered once.
	is($watch->query("SELECT string_agg(name, ' ' ORDER BY name) FROM pg_wait_events WHERE name LIKE 'Lpusers%'"),
		'LpusersNetwork LpusersPause LpusersWorker', 'each event is registered once')
	  if $named;
};

subtest 'the module shows its version' => sub {
	SKIP:
	{
		skip 'PostgreSQL 18 has pg_get_loaded_modules()', 1 if $version < 180000;
		my ($control) = $watch->query("SELECT default_version FROM pg_available_extensions WHERE name = 'lpusers'");

		is($watch->query("SELECT module_name, version FROM pg_get_loaded_modules() WHERE file_name ~ 'lpusers'"),
			"lpusers|$control", 'the module tells its name and version');
	}
};

done_testing();
