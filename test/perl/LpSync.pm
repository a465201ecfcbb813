# LpSync.pm: a sync of a few people with an account, and the checks of its final state.
#
#	LpSync::start(options => "batch_size '1'");	# $sim, $node, $admin, and the sync "staff" over hr.staff, without limits
#	linked('p1', 'p2');							# both in the source, in the account, and linked; the queue is empty
#	$admin->query('UPDATE hr.staff ...'); $admin->query(q{CALL lp_sync('staff')}); ...
#	to_rest('the title of the tests');			# runs and deliveries until nothing differs
#	all_is_right('the title of the tests');		# the account, the links, and what was written
package LpSync;

use strict;
use warnings;
use Exporter 'import';
use JSON::PP;
use LpUsers;
use Test::More;

our @EXPORT  = qw($sim $node $admin linked person run_sync to_rest all_is_right account_is_quiet unanswered writes);
our $account = '12345678';
our $first   = 4_000_000_000;
our ($sim, $node, $admin);
my $json = JSON::PP->new->canonical->allow_nonref;
my $stranger;

# A user of the account that has the attributes of this key in the source.
sub person
{
	my ($key, %more) = @_;

	return { loginName => "$key\@x.example", email => "$key\@x.example", fullName => "Full $key", employeeId => $key, nickname => $key,
		isEnabled => JSON::PP::true, maxChats => 3, profileIds => [1001], %more };
}

# Server, account and sync. Options: conf => more lines, options => of the server, limits => of the sync, as JSON.
sub start
{
	my (%options) = @_;

	$sim  = LpUsers::account();
	$node = LpUsers::server(conf => "lpusers.worker = off\nlpusers.idle_timeout = '200ms'\nautovacuum = off\nlog_min_messages = error\n" . ($options{conf} // ''));
	LpUsers::connect_account($node, $sim, options => $options{options});
	$admin = LpUsers::session($node);
	$admin->query(q{
		CREATE SCHEMA hr;
		CREATE TABLE hr.staff (key text PRIMARY KEY, login text, chats int, enabled boolean DEFAULT true);
		CREATE VIEW hr.people AS SELECT key, login AS login_name, login AS email, 'Full ' || key AS full_name, key AS employee_id, key AS nickname,
			enabled AS is_enabled, chats AS max_chats, '{1001}'::bigint[] AS profile_ids, 'Start-' || md5(key) AS password_sh FROM hr.staff});
	$admin->query(qq{SELECT count(*) FROM lp_sync_define('staff', '$account', 'hr.people', 'key', delete_after => '1 day', limits =>
		'{"create": null, "update": null, "rename": null, "enable": null, "disable": null, "delete": null, "adopt": null, "reopen": null, "recreate": null, "relink": null}')});
	return;
}

# These people are in the source, in the account and linked; a stranger is in the account alone. Nothing else is left of what was before.
sub linked
{
	my (@keys) = @_;
	my $id = $first;

	$sim->reset;
	$admin->query('TRUNCATE lp_payloads, lp_requests, hr.staff, _lp_sync_link, _lp_sync_plan, _lp_sync_item, _lp_sync_mark');
	$sim->post('users', [ { %{ person('stranger', description => 'left alone') }, id => ++$id }, map { { %{ person($_) }, id => ++$id } } @keys ]);
	$stranger = $json->encode((grep { $_->{loginName} eq 'stranger@x.example' } @{ $sim->get('users') })[0]);
	$admin->query("INSERT INTO hr.staff SELECT k, k || '\@x.example', 3 FROM unnest('{" . join(',', @keys) . "}'::text[]) k");
	if (@keys)
	{
		$admin->query(q{UPDATE _lp_sync SET state = 'active', failures = 0, why = NULL, base_rows = NULL, base_listed = NULL; CALL lp_sync('staff')});
		$admin->query('CALL lp_deliver()');
		is($admin->query(q{SELECT (SELECT count(*) FROM lp_requests WHERE state = 'done'), (SELECT count(*) FROM lp_sync_links WHERE state = 'active')}), @keys . '|' . @keys,
			'all are adopted');
		is(scalar(writes()), 0, '... and nothing was written');
		$admin->query('TRUNCATE lp_payloads, lp_requests, _lp_sync_plan, _lp_sync_item');
	}
	$sim->remove('log');
	return;
}

sub run_sync
{
	my ($what) = @_;
	my (undef, $err) = $admin->run(q{CALL lp_sync('staff')});

	unlike($err, qr/ERROR|WARNING/, "$what: CALL lp_sync()");
	return;
}

# Wait until this number of requests have arrived and have no response.
sub unanswered
{
	my ($n, $method) = @_;

	LpUsers::wait_for(sub { $sim->count(status => 0, method => $method, path => '/le-users/users') == $n }, "$n unanswered requests");
	return;
}

# Nothing that the account is still at, but what it never answers.
sub account_is_quiet
{
	LpUsers::wait_for(sub { !grep { $_->{status} == 0 && ($_->{fault} // '') !~ /^(silence|reset|close)$/ } @{ $sim->get('log') } },
		'the account to have done what it is at');
	return;
}

sub writes { return grep { $_->{method} ne 'GET' && $_->{path} =~ m{/le-users/users} } @{ $sim->get('log') }; }

# Deliveries and runs, until nothing is unfinished and nothing differs. What waits is due at once. Returns how many runs it took.
sub to_rest
{
	my ($what) = @_;
	my $unfinished = q{SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')};
	my ($runs, $differs) = (0, '');

	account_is_quiet();
	foreach (1 .. 12)
	{
		$admin->due_now;
		$admin->run('CALL lp_deliver()');
		next if $admin->query($unfinished) ne '0';
		$differs = $admin->query(q{SELECT coalesce(string_agg(DISTINCT action || ' ' || source_key || coalesce(': ' || reason, ''), ', '), '') FROM lp_sync_diff('staff')});
		last if $differs eq '';
		$runs++;
		$admin->run(q{CALL lp_sync('staff')});
	}
	is($differs, '', "$what: nothing differs at rest")
	  or diag($admin->query('SELECT id, operation, action, login_name, state, hold, attempts, status, error, reason FROM lp_requests ORDER BY id'));
	is($admin->query($unfinished), '0', "$what: nothing is unfinished");
	return $runs;
}

# Return the problems of the people in the source: their links, and the users of these.
sub wrong_people
{
	my ($user, $link) = @_;
	my @wrong;

	foreach (split(/\n/, $admin->query('SELECT key, login, chats, enabled FROM hr.staff ORDER BY key')))
	{
		my ($key, $login, $chats, $enabled) = split(/\|/);
		my $l = $link->{$key};
		my $u = $l ? $user->{ $l->{id} } : undef;

		push(@wrong, "$key has no link"), next unless $l;
		push(@wrong, "$key: user $l->{id} is not there"), next if !$u || $u->{deleted};
		push @wrong, "$key: the link is $l->{state}" if $l->{state} ne ($enabled eq 't' ? 'active' : 'disabled');
		push @wrong, "$key: $_->[0] is $_->[1], not $_->[2]" foreach grep { $_->[1] ne $_->[2] } [ 'loginName', $u->{loginName}, $login ], [ 'maxChats', $u->{maxChats}, $chats ],
			[ 'fullName', $u->{fullName}, "Full $key" ], [ 'employeeId', $u->{employeeId}, $key ], [ 'nickname', $u->{nickname}, $key ],
			[ 'isEnabled', $u->{isEnabled} ? 't' : 'f', $enabled ];
		$l->{seen} = 1;
	}
	return @wrong;
}

# Leavers: what the link says of the user is so. Users without a link: the stranger alone.
sub wrong_others
{
	my ($user, $link) = @_;
	my %linked = map { $_->{id} => 1 } values %$link;
	my @wrong;

	foreach my $key (sort grep { !$link->{$_}{seen} } keys %$link)
	{
		my ($l, $u) = ($link->{$key}, $user->{ $link->{$key}{id} });
		my $is = !$u || $u->{deleted} ? 'gone' : $u->{isEnabled} ? 'active' : 'disabled';

		push @wrong, "$key: the link is $l->{state}, the user $is" if $l->{state} ne $is || $is eq 'active';
		push @wrong, "$key: the name of a leaver is lost" if $is eq 'disabled' && $u->{fullName} ne "Full $key";
	}
	push @wrong, map { "$_->{loginName} has no link" } grep { !$linked{ $_->{id} } && !$_->{deleted} && $_->{loginName} ne 'stranger@x.example' } values %$user;
	push @wrong, 'the stranger was touched' if $json->encode((grep { $_->{loginName} eq 'stranger@x.example' } values %$user)[0]) ne $stranger;
	return @wrong;
}

# At rest: the account is as the source says, the links say who is who, each login exists once, no create was carried out twice, and no
# user was written twice at one revision.
sub all_is_right
{
	my ($what) = @_;
	my %user = map { $_->{id} => $_ } @{ $sim->get('users') };
	my %link = map { my ($key, $id, $state) = split(/\|/); $key => { id => $id, state => $state } }
		split(/\n/, $admin->query('SELECT source_key, user_id, state FROM lp_sync_links'));
	my %applied;

	is(join('; ', wrong_people(\%user, \%link), wrong_others(\%user, \%link)), '', "$what: account and links are as they have to be");
	is($sim->text('duplicates') =~ s/\s//gr, '[]', "$what: no login exists twice");
	is($sim->text('posts?not=1') =~ s/\s//gr, '{}', "$what: no user was created twice");
	foreach my $entry (grep { $_->{applied} && $_->{method} =~ /PUT|DELETE/ } writes()) { $applied{"$_ $entry->{if_match}"}++ foreach @{ $entry->{ids} }; }
	is(join(', ', grep { $applied{$_} > 1 } sort keys %applied), '', "$what: no user was written twice at one revision");
	is(scalar(grep { $_->{method} =~ /PUT|DELETE/ && ($_->{if_match} // '-1') =~ /^-1|^$/ } writes()), 0, "$what: no write without a revision");
	is($admin->query('SELECT (SELECT count(*) FROM lp_payloads), (SELECT count(*) FROM pg_locks WHERE locktype = $$userlock$$)'), '0|0', "$what: no payload and no lock is left");
	return;
}

1;
