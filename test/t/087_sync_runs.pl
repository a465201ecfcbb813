# Runs of lp_sync: what joiners are sent, and what happens to the account while it is listed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpSync;
use LpUsers;
use Test::More;

LpSync::start();

sub q1 { my ($sql) = @_; return $admin->query($sql); }
sub user { my ($login) = @_; return grep { $_->{loginName} eq $login && !$_->{deleted} } @{ $sim->get('users') }; }

# What the last plan has, but for the users who are as the source says.
sub planned { return q1(q{SELECT coalesce(string_agg(DISTINCT action || ' ' || source_key, ', '), '') FROM _lp_sync_item WHERE plan = (SELECT max(id) FROM _lp_sync_plan)}); }

# A run while whose list of the account what was queued is delivered.
sub run_beside_delivery
{
	my $run = LpUsers::session($node);

	$sim->remove('log');
	$sim->post('faults', { method => 'GET', path => '/le-users/users', action => 'stall', seconds => 5, times => 1 });
	$run->send(q{CALL lp_sync('staff')});
	unanswered(1, 'GET');
	q1('CALL lp_deliver()');
	is(q1(q{SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'done')}), '0', 'what was queued is delivered');
	is($sim->count(status => 0, method => 'GET', path => '/le-users/users'), 1, '... before the list has ended');
	$run->take;
	$run->quit;
	return;
}

subtest 'add_only: a joiner gets what is only added to' => sub {
	linked();
	q1(q{
		CREATE VIEW hr.skilled AS SELECT p.*, '{3001}'::bigint[] AS skill_ids FROM hr.people p;
		SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.skilled', 'key', add_only => '{skill_ids}', limits => '{"recreate": null, "update": null}');
		INSERT INTO hr.staff VALUES ('a', 'a@x.example', 3)});
	run_sync('a joiner');
	q1('CALL lp_deliver()');
	is_deeply((user('a@x.example'))[0]{skillIds}, [3001], 'it is sent with the create');
	is(q1(q{SELECT base -> 'skillIds' FROM _lp_sync_link WHERE source_key = 'a'}), '[3001]', 'and counted as added by the sync');
	run_sync('again');
	is(planned(), '', 'nothing differs then');

	$sim->post('change', { user => 'a@x.example', set => { deleted => JSON::PP::true } });
	run_sync('deleted by an admin');
	is(planned(), 'recreate a', 'the user is created again');
	q1('CALL lp_deliver()');
	is_deeply((user('a@x.example'))[0]{skillIds}, [3001], '... with what is only added to');
	run_sync('after that');
	is(planned(), '', '... and nothing differs then');

	q1(q{CREATE OR REPLACE VIEW hr.skilled AS SELECT p.*, '{}'::bigint[] AS skill_ids FROM hr.people p});
	run_sync('taken away');
	q1('CALL lp_deliver()');
	is(scalar(@{ (user('a@x.example'))[0]{skillIds} // [] }), 0, 'what the sync added with the create it takes away again');
	q1(q{SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key', limits => '{"create": null, "enable": null, "disable": null, "adopt": null, "reopen": null, "recreate": null}');
		DROP VIEW hr.skilled});
};

subtest 'what is settled while the account is listed' => sub {
	linked('p1', 'p2', 'p3');
	q1(q{UPDATE hr.staff SET enabled = false WHERE key = 'p1'; CALL lp_sync('staff')});
	q1('CALL lp_deliver()');
	# a joiner; one who is back; one who leaves, and is back before that is delivered
	q1(q{INSERT INTO hr.staff VALUES ('new', 'new@x.example', 3); UPDATE hr.staff SET enabled = true WHERE key = 'p1'; UPDATE hr.staff SET enabled = false WHERE key = 'p2'; CALL lp_sync('staff')});
	is(planned(), 'create new, disable p2, enable p1', 'planned');
	q1(q{UPDATE hr.staff SET enabled = true WHERE key = 'p2'});
	run_beside_delivery();
	is(planned(), 'wait new, wait p1, wait p2', 'a run whose list is from before that leaves them');
	to_rest('and the next one');
	all_is_right('at rest');
	is(q1('SELECT state FROM lp_sync_links WHERE source_key = $$p2$$'), 'active', 'who was back is enabled');
};

done_testing;
