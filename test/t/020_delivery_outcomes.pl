# What the queue delivers, by CALL lp_deliver() and by the worker: each login exactly once whatever
# the account answers, no POST too many, and every row in a state that shows its result.
#
# The stand-in account is asked after each fault. It also takes a login twice (unique => false) wherever the test is not
# about that refusal: a POST too many then makes a second user. Where the waiting is not the subject, the time of the next
# attempt is moved to now.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Socket::INET;
use JSON::PP;
use LpUsers;
use POSIX qw(ceil strftime);
use Test::More;
use Time::HiRes qw(time usleep);

my $account = '12345678';
my $sim     = LpUsers::account();
my $second  = LpUsers::account('--account', 'second');
my $node    = LpUsers::server(conf => "lpusers.worker = off\nlpusers.idle_timeout = '200ms'\nlog_min_messages = error\n");
LpUsers::connect_account($node, $sim, options => "timeout '60s', batch_size '100', max_connections '4'");
$node->safe_psql('postgres', qq{
	CREATE SERVER second FOREIGN DATA WRAPPER lpusers OPTIONS (account 'second', base_url '$second->{url}');
	CREATE USER MAPPING FOR CURRENT_USER SERVER second OPTIONS (token 'lp-token');
	ALTER SERVER acme OPTIONS (ADD rate_limit '0', ADD max_retries '5', ADD delivery 'on');});

my $session = LpUsers::session($node);
my $other   = LpUsers::session($node);
my $admin   = LpUsers::session($node);

# ---------------------------------------------------------------------------------------------- steps of a scenario

# Start from nothing: an empty account and queue, and these options of the server.
my %defaults = (timeout => '60s', batch_size => 100, max_connections => 4, rate_limit => 0, max_retries => 5, delivery => 'on');

sub fresh
{
	my (%options) = @_;
	my %all = (%defaults, %options);

	$_->reset foreach $sim, $second;
	$sim->post('config', { unique => JSON::PP::false });
	$admin->query('DELETE FROM lp_payloads; DELETE FROM lp_requests; ALTER SERVER acme OPTIONS (' .
		join(', ', map { "SET $_ '$all{$_}'" } sort keys %all) . ')');
	return;
}

sub fault { my (%fault) = @_; $sim->post('faults', { method => 'POST', path => '/le-users/users', %fault }); return; }

# Names, or [name, attribute => value ...], as SQL that enqueues them with one call.
sub enqueue_sql
{
	my ($to, @users) = @_;
	my $json = '[' . join(',', map { LpUsers::user(ref $_ ? @$_ : $_) } @users) . ']';

	$json =~ s/'/''/g;
	return "SELECT count(*) FROM lp_enqueue_users('$to', '$json')";
}

sub enqueue { return $session->query(enqueue_sql($account, @_)); }

# Returns what it said.
sub deliver { my ($out, $err) = $session->run("CALL lp_deliver('$account')"); unlike($err, qr/ERROR|WARNING|FATAL/, 'CALL lp_deliver()'); return $err; }

# What waits for its next attempt waits no longer.
sub due_now
{
	$admin->due_now;
	return;
}

sub posts { return $sim->count(method => 'POST', path => '/le-users/users'); }
# Lookups; the listing before many users are sent asks for fewer attributes.
sub gets  { return scalar(lookups()); }
sub lookups { return grep { $_->{query} =~ /nickname/ } log_of('GET'); }
sub log_of { my ($method) = @_; return grep { $_->{method} eq $method && $_->{path} =~ m{/le-users/users$} } @{ $sim->get('log') }; }

# Rows by name of the user; "wait" is the time until the next attempt, from when the row was sent.
sub rows
{
	my $json = $admin->query(q{SELECT coalesce(json_agg(row_to_json(x)), '[]') FROM (SELECT r.*, p.request_id IS NOT NULL AS payload,
		extract(epoch FROM next_attempt_at - coalesce(sent_at, clock_timestamp())) AS wait
		FROM lp_requests r LEFT JOIN lp_payloads p ON p.request_id = r.id ORDER BY r.id) x});
	my %rows;

	foreach my $row (@{ decode_json($json) })
	{
		my $name = $row->{login_name} =~ s/\@example\.com$//r;
		$name .= "'" while $rows{$name};
		$rows{$name} = $row;
	}
	return \%rows;
}

# "name state" of all rows, in order of name.
sub states { my $rows = rows(); return join(' ', map { "$_:$rows->{$_}{state}" } sort keys %$rows); }
sub all_are { my ($state, $what, @names) = @_; is(states(), join(' ', map { "$_:$state" } sort @names), "$what: $state"); return; }

# The end of a scenario: these users are there once, their rows say so and have the id; no other user is there.
sub created
{
	my ($what, $names, %more) = @_;
	my $rows  = rows();
	my %users = map { $_ => [] } @$names;
	my %wrong;

	push @{ $users{ $_->{loginName} =~ s/\@example\.com$//r } }, $_->{id} foreach grep { !$_->{deleted} } @{ $sim->get('users') };
	delete $users{$_} foreach @{ $more{others} // [] };
	foreach my $name (sort keys %users)
	{
		my $row = $rows->{$name};
		my @ids = @{ $users{$name} };
		my $is  = join(',', 'users=' . scalar(@ids), map { $row ? "$_=" . ($row->{$_} // '') : 'no row' } qw(state error reason));

		$is .= ',wrong id' if $row && @ids == 1 && ($row->{user_id} // 0) != $ids[0];
		$is .= ',payload' if $row && $row->{payload};
		$is .= ",evidence=$row->{evidence}" if $more{evidence} && ($row->{evidence} // '') ne $more{evidence};
		$wrong{$name} = $is unless $is eq 'users=1,state=created,error=,reason=';
	}
	is_deeply(\%wrong, {}, "$what: each user once, and on record") or diag(explain(\%wrong));
	is($sim->text('duplicates') =~ s/\s//gr, '[]', "$what: no login twice");
	return;
}

# A CALL in another session, which is under way when so many requests have arrived and are not answered.
sub deliver_beside
{
	my ($n, %match) = @_;

	$other->send($match{sql} // "CALL lp_deliver('$account')");
	unanswered($n, %match);
	return;
}

sub unanswered
{
	my ($n, %match) = @_;
	my $where = $match{sim} // $sim;

	LpUsers::wait_for(sub { $where->count(status => 0, method => $match{method} // 'POST', path => $match{path} // '/le-users/users') == $n },
		"$n unanswered requests");
	return;
}

sub beside_pid { return $admin->query("SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL lp_deliver%' AND state = 'active' AND pid <> pg_backend_pid()"); }
sub userlocks { return $admin->query("SELECT count(*) FROM pg_locks WHERE locktype = 'userlock'"); }

subtest 'users are sent in batches' => sub {
	{
		fresh(batch_size => 5, max_connections => 1);
		my @names = map { sprintf('b%02d', $_) } 1 .. 23;
		is(enqueue(@names), 23, 'batches: enqueued');
		my $err = deliver();
		like($err, qr/NOTICE:.*23 created, 0 failed, 0 held, 0 to be tried again, 6 requests/, 'batches: the NOTICE');
		is(join(',', map { scalar @{ $_->{logins} } } log_of('POST')), '5,5,5,5,3', 'batches: of batch_size');
		is(join(' ', map { @{ $_->{logins} } } log_of('POST')), join(' ', map { "$_\@example.com" } @names), 'batches: oldest first');
		is($admin->query('SELECT count(DISTINCT batch) FROM lp_requests'), 5, 'batches: on record');
		is(gets(), 0, 'batches: nothing is looked up');
		created('batches', \@names, evidence => 'answer');
		like(deliver(), qr/nothing is waiting in the queue of account "$account"/, 'batches: nothing is left');
		is(posts(), 5, 'batches: no POST for nothing');
	}
	{
		fresh(batch_size => 2, max_connections => 3);
		my @names = map { "p$_" } 1 .. 14;
		enqueue(@names);
		fault(action => 'delay', ms => 1000, times => 3);
		fault(action => 'delay', ms => 200, times => 0);
		deliver_beside(3);
		my ($most, $end) = (0, 0);
		until ($end)
		{
			my $n = grep { $_->{status} == 0 } log_of('POST');
			$most = $n if $n > $most;
			$end  = posts() == 7;
			usleep(5000);
		}
		my (undef, $err) = $other->take;
		is($most, 3, 'max_connections: three requests at once, and never more');
		like($err, qr/14 created/, 'max_connections: the NOTICE');
		is(posts(), 7, 'max_connections: as many POSTs as batches');
		created('max_connections', \@names);
	}
	{
		fresh(batch_size => 1, rate_limit => 5);
		my @names = map { "r$_" } 1 .. 7;
		enqueue(@names);
		deliver();
		my @at = map { $_->{at} } log_of('POST');
		is(scalar(@at), 7, 'rate_limit: each once');
		cmp_ok($at[-1] - $at[0], '>', 0.7, 'rate_limit: 7 requests at 5 a second');
		created('rate_limit', \@names);
	}
};

# ---------------------------------------------------------------------------------------------- a guilty user in a batch

# In an account that refuses a login that exists. "taken" exist with other data, "short" have a password it refuses.
sub guilty
{
	my ($bulk, $status, $n, %guilty) = @_;
	my $what  = "$bulk, $status, " . join(' ', map { "$_=" . join('+', @{ $guilty{$_} }) } sort keys %guilty);
	my %is    = map { my $kind = $_; map { $_ => $kind } @{ $guilty{$kind} } } keys %guilty;
	my @names = map { "g$_" } 1 .. $n;
	my $limit = 2 * $n - 1;

	fresh();
	$sim->post('config', { unique => JSON::PP::true, bulk => $bulk, conflict_status => $status });
	$sim->post('users', [map { decode_json(LpUsers::user("g$_", nickname => 'somebody else')) } @{ $guilty{taken} // [] }]);
	enqueue(map { ($is{$_} // '') eq 'short' ? ["g$_", passwordSh => 'short'] : "g$_" } 1 .. $n);
	deliver();
	my $rows = rows();
	foreach my $g (sort keys %is)
	{
		my $row = $rows->{"g$g"};

		is($row->{state}, 'failed', "$what: g$g failed");
		like($row->{error}, $is{$g} eq 'taken' ? qr/^login exists: user \d+ \(enabled\)$/ : qr/passwordSh/, "$what: g$g has the error");
		is($row->{evidence}, 'lookup', "$what: g$g was looked up") if $is{$g} eq 'taken';
		ok($row->{user_id}, "$what: g$g has the other's id") if $is{$g} eq 'taken';
		is($row->{attempts}, 1, "$what: g$g was one attempt") if $is{$g} ne 'taken';
		is($sim->users_with("g$g\@example.com"), $is{$g} eq 'taken' ? 1 : 0, "$what: g$g is not created");
	}
	created($what, [grep { !$is{ s/^g//r } } @names], others => [map { "g$_" } sort keys %is]);
	cmp_ok(posts(), '<=', $limit, "$what: POSTs");
	# in an account that creates all or nothing, only the guilty stand alone: 1 + 2 log2(n) for each at most
	cmp_ok(posts(), '<=', 1 + 2 * ceil(log($n) / log(2)) * keys %is, "$what: no POST too many") if $bulk eq 'all_or_nothing';
	cmp_ok(gets(), '<=', 2, "$what: one listing after the refusal, one for those who stand alone");
	return;
}

subtest 'a refused batch is split until the refused user is alone' => sub {
	foreach my $bulk ('all_or_nothing', 'partial')
	{
		foreach my $status (409, 400)
		{
			guilty($bulk, $status, 8, taken => [1]);
			guilty($bulk, $status, 7, taken => [7]);
			guilty($bulk, $status, 8, taken => [4]);
			guilty($bulk, $status, 8, short => [5]);
			guilty($bulk, $status, 9, taken => [1, 9], short => [5, 6]);
			guilty($bulk, $status, 6, taken => [1 .. 6]);
		}
	}

	# Alone and for the first time: the answer decides, even where the data are the same.
	foreach my $nickname ('same', 'somebody else')
	{
		fresh(batch_size => 1);
		$sim->post('config', { unique => JSON::PP::true });
		$sim->post('users', [decode_json(LpUsers::user('same', nickname => $nickname))]);
		enqueue('same');
		deliver();
		my $row = rows()->{same};
		is($row->{state}, 'failed', "alone, exists ($nickname): failed");
		like($row->{error}, qr/loginName exists: same\@example\.com/, "alone, exists ($nickname): what the API said");
		is("$row->{status} $row->{evidence} " . posts() . ' ' . gets(), '409 answer 1 0', "alone, exists ($nickname): one request");
		is($row->{finished_at} ? 1 : 0, 1, "alone, exists ($nickname): finished");
		is($sim->users_with('same@example.com'), 1, "alone, exists ($nickname): as before");
	}
	# Sent before, and there now: what was sent decides whether it is ours.
	foreach my $nickname ('same', 'somebody else')
	{
		fresh();
		$sim->post('config', { unique => JSON::PP::true });
		fault(action => 'reset', applied => JSON::PP::false);
		enqueue('same');
		deliver();
		all_are('uncertain', "sent before ($nickname)", 'same');
		$sim->post('users', [decode_json(LpUsers::user('same', nickname => $nickname))]);
		due_now();
		deliver();
		my $row = rows()->{same};
		is(posts(), 1, "sent before ($nickname): not sent again");
		is($row->{evidence}, 'lookup', "sent before ($nickname): looked up");
		created("sent before ($nickname)", ['same']) if $nickname eq 'same';
		like($row->{state} . ': ' . ($row->{error} // '') . ' ' . ($row->{user_id} ? 'id' : 'no id'),
			qr/^failed: login exists: user \d+ \(enabled\) with other data: nickname id$/, "sent before ($nickname): not ours") if $nickname ne 'same';
	}
	# Other e-mail, and a login in other letters.
	{
		fresh();
		fault(action => 'reset', applied => JSON::PP::false, times => 2);
		enqueue('mail', 'case');
		deliver();
		$sim->post('users', [decode_json(LpUsers::user('mail', email => 'other@example.com')),
				decode_json(LpUsers::user('case', loginName => 'CASE@Example.com'))]);
		due_now();
		deliver();
		my $rows = rows();
		like("$rows->{mail}{state} $rows->{mail}{error}", qr/^failed login exists: user \d+ \(enabled\) with other data: email$/,
			'sent before, other email: not ours');
		is($rows->{case}{state}, 'created', 'sent before, login in other letters: ours');
		is(posts(), 2, 'sent before, other letters: not sent again');
	}
	# A deleted user of that login does not count.
	{
		fresh();
		fault(action => 'reset', applied => JSON::PP::false);
		$sim->post('users', [decode_json(LpUsers::user('gone', deleted => JSON::PP::true))]);
		enqueue('gone');
		deliver();
		due_now();
		deliver();
		my ($get) = log_of('GET');
		like($get->{query}, qr/select=id,deleted,.*loginName,.*memberOf\(agentGroupId\)/, 'deleted: the listing has what is compared');
		is(posts() . ' ' . gets(), '2 1', 'deleted: sent again');
		created('deleted', ['gone'], evidence => 'answer');
		# and one that is both deleted and there
		fresh();
		fault(action => 'reset', applied => JSON::PP::true);
		enqueue('gone');
		deliver();
		$sim->post('users', [decode_json(LpUsers::user('gone', deleted => JSON::PP::true, nickname => 'x', id => 1))]);
		due_now();
		deliver();
		is(posts() . ' ' . gets(), '1 1', 'deleted and there: not sent again');
		created('deleted and there', ['gone'], evidence => 'lookup');
	}
};

# ---------------------------------------------------------------------------------------------- 429

sub too_many
{
	my ($what, $from, $to, %fault) = @_;
	my $before = $admin->query('SELECT extract(epoch FROM clock_timestamp())');

	my $date = delete $fault{date};
	my @names = map { "t$_" } 1 .. 6;

	$fault{value} = strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime($date)) if $date;
	fresh();
	enqueue(@names);
	fault(%fault);
	deliver();
	my $rows = rows();
	my $after = $admin->query('SELECT extract(epoch FROM clock_timestamp())');
	my $next  = $admin->query('SELECT min(extract(epoch FROM next_attempt_at)) FROM lp_requests');
	all_are('pending', $what, @names);
	is($rows->{t1}{status}, 429, "$what: the status is on record");
	cmp_ok($next, '>=', $before + $from, "$what: not before that");
	cmp_ok($next, '<=', $after + $to, "$what: not long after that");
	cmp_ok($next, '>=', $date, "$what: not before that date") if $date;
	cmp_ok($next, '<=', $date + 1 + $after - $before, "$what: nor long after it") if $date;
	unlike(deliver(), qr/ERROR/, "$what: nothing is due") if $from > 1;
	is(posts(), 1, "$what: not sent before it is due") if $from > 1;
	due_now();
	deliver();
	is(posts() . ' ' . gets(), '2 0', "$what: sent again, not looked up");
	created($what, \@names, evidence => 'answer');
	return;
}

subtest '429 delays the account' => sub {
	too_many('429 in seconds', 20, 20.1, action => 'retry_after', value => '20');
	too_many('429 with a date', 5, 31, action => 'retry_after', date => int(time()) + 30);
	too_many('429 with 0', 1, 1.1, action => 'retry_after', value => '0');
	too_many('429 without Retry-After', 1, 1.1, action => 'status', status => 429);
	too_many('429 with a past date', 1, 1.1, action => 'retry_after', value => 'Wed, 21 Oct 2015 07:28:00 GMT');
	{
		fresh(batch_size => 1, max_connections => 1);
		enqueue(map { "q$_" } 1 .. 3);
		fault(action => 'retry_after', value => '2');
		deliver();
		# what is still to be sent waits too, here or in the queue
		due_now();
		deliver();
		my @at = map { $_->{at} } log_of('POST');
		is(scalar(@at), 4, '429 with others behind: POSTs');
		created('429 with others behind', [map { "q$_" } 1 .. 3]);
	}
	{
		fresh(batch_size => 1, max_connections => 1);
		enqueue(map { "q$_" } 1 .. 3);
		fault(action => 'retry_after', value => '2');
		my $start = time();
		deliver();
		my @at = map { $_->{at} } log_of('POST');
		cmp_ok($at[1] // $start + 9, '>=', $at[0] + 2, '429: nobody else of the account is sent before');
	}
	{
		fresh(batch_size => 1, max_connections => 1);
		enqueue(map { "q$_" } 1 .. 3);
		fault(action => 'retry_after', value => '3600');
		my $start = time();
		my ($out, $err) = $session->run("SET statement_timeout = '10s'; CALL lp_deliver('$account'); RESET statement_timeout");
		unlike($err, qr/57014/, '429 for an hour: CALL does not wait for it');
		$session->run('RESET statement_timeout');
		is(posts(), 1, '429 for an hour: nobody is sent');
		all_are('pending', '429 for an hour', map { "q$_" } 1 .. 3);
		is($admin->query("SELECT count(*) FROM lp_requests WHERE next_attempt_at < clock_timestamp() + interval '50 min'"), 0,
			'429 for an hour: nobody is due before');
	}
};

# ---------------------------------------------------------------------------------------------- outcome unknown

# After the fault the rows are uncertain and wait; then one listing decides: created, or sent once more.
sub in_doubt
{
	my ($what, $applied, %fault) = @_;
	my @names = map { "d$_" } 1 .. 6;
	my $slow = $fault{action} =~ /silence|headers_only/;

	fresh($slow ? (timeout => '500ms') : ());
	if ($fault{kept_only})
	{
		enqueue('warm');
		deliver();
		$sim->remove('log');
		$admin->query('DELETE FROM lp_requests');
	}
	enqueue(@names);
	fault(%fault, defined $applied ? (applied => $applied ? JSON::PP::true : JSON::PP::false) : ());
	like(deliver(), qr/NOTICE:.* 0 created, 0 failed, 0 held, 6 to be tried again/, "$what: the NOTICE");
	all_are('uncertain', $what, @names);
	my $rows = rows();
	ok($rows->{d1}{error} || $rows->{d1}{reason}, "$what: it says why");
	note("$what: " . ($rows->{d1}{error} // '-') . ' / ' . ($rows->{d1}{reason} // '-'));
	my @waits = map { $_->{wait} } values %$rows;
	is(scalar(grep { $_ < 4.4 || $_ > ($slow ? 12 : 10) } @waits), 0, "$what: the first retry delay") or diag("@waits");
	deliver();
	is(posts() . ' ' . gets(), '1 0', "$what: neither sent nor looked up before");
	due_now();
	deliver();
	is(posts() . ' ' . gets(), ($applied ? 1 : 2) . ' 1', "$what: " . ($applied ? 'found by one listing' : 'not found, sent again'));
	created($what, \@names, evidence => $applied ? 'lookup' : 'answer', others => ['warm']);
	return;
}

subtest 'an unknown outcome is looked up and never sent twice' => sub {
	in_doubt('500 before', 0, action => 'status', status => 500);
	in_doubt('500 after', 1, action => 'status', status => 500);
	in_doubt("$_ before", 0, action => 'status', status => $_) foreach 408, 425;
	in_doubt("$_ after", 1, action => 'status', status => $_) foreach 408, 425;
	in_doubt('503 before', 0, action => 'status', status => 503, headers => { 'Retry-After' => '1' });
	in_doubt('503 after', 1, action => 'status', status => 503);
	in_doubt('502 page', 0, action => 'html');
	in_doubt('502 page after', 1, action => 'html');
	in_doubt('reset before', 0, action => 'reset');
	in_doubt('reset after', 1, action => 'reset');
	in_doubt('closed before', 0, action => 'close');
	in_doubt('closed after', 1, action => 'close');
	in_doubt('closed before, kept connection', 0, action => 'close', kept_only => JSON::PP::true);
	in_doubt('reset after, kept connection', 1, action => 'reset', kept_only => JSON::PP::true);
	in_doubt('silence before', 0, action => 'silence');
	in_doubt('silence after', 1, action => 'silence');
	in_doubt('half an answer after', 1, action => 'half', reset => JSON::PP::true);
	in_doubt('headers only', 1, action => 'headers_only');
	in_doubt('wrong length', 1, action => 'wrong_length');
	in_doubt('not JSON', 1, action => 'not_json', status => 201);
	in_doubt('empty 201', 1, action => 'empty', status => 201);
	in_doubt('an empty array', 1, action => 'body', body => '[]', status => 201);
	in_doubt('somebody else', 1, action => 'body', body => '[{"id":1,"loginName":"x@example.com"},null,[],3]', status => 201);
	in_doubt('errors', 1, action => 'body', status => 201, body => '[' . join(',', map { "{\"loginName\":\"d$_\@example.com\",\"error\":{\"message\":\"no\"}}" } 1 .. 6) . ']');
	in_doubt('errors of users with ids', 1, action => 'body', status => 201, body => '[' . join(',', map { "{\"loginName\":\"d$_\@example.com\",\"id\":$_,\"error\":\"no\"}" } 1 .. 6) . ']');
	in_doubt('no ids', 1, action => 'misname', form => 'no_id');
	in_doubt('right in front only', 1, action => 'body', body => '[{"id":1,"loginName":"d1@example.com"},{"id":2]', status => 201);
	in_doubt('wrong types', 1, action => 'wrong_types', status => 201);
	in_doubt('bad UTF-8', 1, action => 'bad_utf8', status => 201);
	in_doubt('a NUL', 1, action => 'nul', status => 201);
	in_doubt('deep', 1, action => 'deep');
	in_doubt('huge', 1, action => 'huge', status => 201);

	# A success that names no user, and did nothing: not sent again.
	foreach my $fault ({ action => 'not_json', status => 201 }, { action => 'empty', status => 204 }, { action => 'body', body => '[]', status => 201 },
		{ action => 'body', status => 200, body => '[' . join(',', map { "{\"loginName\":\"e$_\@example.com\",\"error\":{\"message\":\"no\"}}" } 1 .. 6) . ']' })
	{
		my $what = "$fault->{action} $fault->{status}, not applied";
		my @names = map { "e$_" } 1 .. 6;

		fresh();
		enqueue(@names);
		fault(%$fault, applied => JSON::PP::false);
		deliver();
		all_are('uncertain', $what, @names);
		due_now();
		deliver();
		all_are('failed', $what, @names);
		is(rows()->{e1}{error}, "status $fault->{status}, but the account does not have the user", "$what: why");
		is(posts() . ' ' . gets(), '1 1', "$what: looked up, not sent again");
	}
	# A list that is not the whole account, or names its users in another way, shows no absence.
	foreach my $list ([ 206, '[]' ], [ 202, '[]' ], [ 206, '[{"id":1,"loginName":"x@example.com"}]' ], [ 200, '[{"id":1}]' ], [ 200, '[{"id":1,"loginname":"u1@example.com"}]' ],
		[ 200, '[{"loginName":"x@example.com"}]' ], [ 200, '[{"id":0,"loginName":"u1@example.com"}]' ])
	{
		my $what = "list $list->[0] $list->[1]";
		my @names = map { "u$_" } 1 .. 6;

		fresh();
		enqueue(@names);
		fault(action => 'status', status => 500, applied => JSON::PP::true);
		fault(method => 'GET', action => 'status', status => $list->[0], body => $list->[1]);
		deliver();
		due_now();
		deliver();
		all_are('uncertain', $what, @names);
		due_now();
		deliver();
		is(posts(), 1, "$what: not sent again");
		created($what, \@names, evidence => 'lookup');
	}
	# Later than `timeout`, but carried out: the lookup comes after it.
	{
		fresh(timeout => '1s');
		enqueue('late');
		fault(action => 'delay', ms => 2000);
		deliver();
		all_are('uncertain', 'applied after timeout', 'late');
		is($sim->users_with('late@example.com'), 0, 'applied after timeout: not yet there');
		LpUsers::wait_for(sub { $sim->users_with('late@example.com') }, 'the late answer');
		cmp_ok(rows()->{late}{wait}, '>', 4.4, 'applied after timeout: the lookup comes later');
		due_now();
		deliver();
		is(posts() . ' ' . gets(), '1 1', 'applied after timeout: looked up');
		created('applied after timeout', ['late'], evidence => 'lookup');
	}
	# An answer that names some.
	{
		fresh();
		enqueue(map { "n$_" } 1 .. 6);
		fault(action => 'body', applied => JSON::PP::true, status => 201,
			body => '[{"id":77,"loginName":"n3@example.com"},{"id":"78","loginName":"N1@EXAMPLE.COM"},' .
				join(',', map { "{\"id\":$_,\"loginName\":\"n$_\@example.com\"}" } 4 .. 6) . ']');
		deliver();
		is(states(), 'n1:created n2:uncertain n3:created n4:created n5:created n6:created', 'some are named: the others are uncertain');
		is(join(' ', map { $_->{user_id} // '' } @{ rows() }{qw(n1 n2 n3)}), '78  77', 'some are named: by login, not by position');
		like(rows()->{n2}{reason}, qr/does not name the user/, 'some are named: why');
		due_now();
		deliver();
		is(posts() . ' ' . gets(), '1 1', 'some are named: looked up');
		is($sim->users_with("$_\@example.com"), 1, "some are named: $_ once") foreach qw(n1 n2 n3);
		is(rows()->{n2}{state} . rows()->{n2}{evidence}, 'createdlookup', 'some are named: found');
	}
	# A user that is left over is another one, or one of the others again.
	foreach my $last ('"id":77,"loginName":"stranger@example.com"', '"id":1,"loginName":"l1@example.com"')
	{
		fresh();
		enqueue(map { "l$_" } 1 .. 6);
		fault(action => 'body', applied => JSON::PP::true, status => 201,
			body => '[' . join(',', map { "{\"id\":$_,\"loginName\":\"l$_\@example.com\"}" } 1 .. 5) . ",{$last}]");
		deliver();
		is(states(), 'l1:created l2:created l3:created l4:created l5:created l6:uncertain', "$last is not l6");
		due_now();
		deliver();
		is(rows()->{l6}{state} . rows()->{l6}{evidence}, 'createdlookup', "$last: l6 was found");
		is(rows()->{l6}{user_id}, (grep { $_->{loginName} eq 'l6@example.com' } @{ $sim->get('users') })[0]{id}, "$last: the id of l6");
		is(posts(), 1, "$last: not sent again");
	}
	# Of several batches, each has its own outcome; one listing for all in doubt.
	{
		fresh(batch_size => 2, timeout => '1s');
		my @names = map { "m$_" } 1 .. 8;
		enqueue(@names);
		fault(login => 'm1@example.com', action => 'reset', applied => JSON::PP::true);
		fault(login => 'm3@example.com', action => 'silence', applied => JSON::PP::false);
		fault(login => 'm5@example.com', action => 'status', status => 503, applied => JSON::PP::true);
		deliver();
		is(states(), 'm1:uncertain m2:uncertain m3:uncertain m4:uncertain m5:uncertain m6:uncertain m7:created m8:created',
			'several batches: each its own outcome');
		due_now();
		deliver();
		is(posts() . ' ' . gets(), '6 1', 'several batches: one listing, two users again');
		created('several batches', \@names);
	}
	# A refusal that broke off is none: whom it was about is not known.
	foreach my $fault ('half', 'wrong_length')
	{
		fresh();
		my @others = map { "other$_" } 1 .. 4;
		enqueue('good', ['bad', passwordSh => 'short'], @others);
		fault(action => $fault, applied => JSON::PP::true);
		deliver();
		all_are('uncertain', "a refusal, $fault", 'bad', 'good', @others);
		is($admin->query('SELECT count(status) FROM lp_requests'), 0, "a refusal, $fault: no status");
		due_now();
		deliver();
		is(states(), join(' ', 'bad:failed', map { "$_:created" } 'good', @others), "a refusal, $fault: in the end each its own outcome");
		like(rows()->{bad}{error}, qr/passwordSh/, "a refusal, $fault: and its own error");
	}
	# Rejected when it comes again: what it is was decided by the first.
	{
		fresh();
		$sim->post('config', { unique => JSON::PP::true });
		enqueue('again');
		fault(action => 'status', status => 500, applied => JSON::PP::true);
		$sim->post('faults', { method => 'GET', path => '/le-users/users', action => 'body', status => 200, body => '[]' });
		deliver();
		due_now();
		deliver();				# a listing that is behind: sent again, refused, looked up
		is(posts() . ' ' . gets(), '2 2', 'a listing that is behind');
		created('a listing that is behind', ['again'], evidence => 'lookup');
	}
};

subtest 'a failed lookup is repeated' => sub {
	foreach my $fault ({ action => 'status', status => 500 }, { action => 'reset' }, { action => 'not_json', status => 200 },
		{ action => 'body', body => '{}', status => 200 }, { action => 'body', body => '[null]', status => 200 },
		{ action => 'body', body => '[{"id":7,"loginName":"l1@example.com","email":"l1@example.com"},]', status => 200 }, { action => 'status', status => 403 }, { action => 'status', status => 401 },
		{ action => 'retry_after', value => '30' }, { action => 'half' }, { action => 'empty', status => 200 })
	{
		my $what = 'lookup: ' . join(' ', map { $fault->{$_} } sort keys %$fault);

		my @names = map { "l$_" } 1 .. 6;

		fresh();
		enqueue(@names);
		fault(action => 'reset', applied => JSON::PP::true);
		deliver();
		$sim->post('faults', { method => 'GET', path => '/le-users/users', %$fault });
		due_now();
		deliver();
		all_are('uncertain', $what, @names);
		like(rows()->{l1}{reason} // '', qr/^lookup failed: ./, "$what: it says so");
		is($admin->query("SELECT count(*) FROM lp_requests WHERE next_attempt_at > clock_timestamp() + interval '500 ms'"), 6, "$what: not at once again");
		deliver();
		is(posts() . ' ' . gets(), '1 1', "$what: nothing is sent again");
		due_now();
		deliver();
		is(posts() . ' ' . gets(), '1 2', "$what: looked up later");
		created($what, \@names, evidence => 'lookup');
	}
	{
		fresh(timeout => '1s');
		enqueue('l1');
		fault(action => 'reset', applied => JSON::PP::true);
		deliver();
		$sim->post('faults', { method => 'GET', path => '/le-users/users', action => 'silence' });
		due_now();
		deliver();
		all_are('uncertain', 'lookup: silence', 'l1');
		due_now();
		deliver();
		created('lookup: silence', ['l1'], evidence => 'lookup');
	}
};

subtest 'retries end at max_retries' => sub {
	{
		fresh(max_retries => 2);
		enqueue('x1', 'x2');
		fault(action => 'status', status => 503, times => 0);
		for (1 .. 3)
		{
			deliver();
			due_now();
		}
		deliver();
		my $row = rows()->{x1};
		all_are('failed', 'max_retries, 503', 'x1', 'x2');
		like($row->{error}, qr/^given up after 3 attempts/, 'max_retries, 503: the error');
		like($row->{error}, qr/503|as the test asked for/, 'max_retries, 503: what the last answer was');
		is($row->{attempts} . ' ' . posts() . ' ' . gets(), '3 6 3', 'max_retries, 503: three attempts, each looked up');
		due_now();
		deliver();
		is(posts(), 6, 'max_retries, 503: no further attempt');
		is(scalar @{ $sim->get('users') }, 0, 'max_retries, 503: nobody');
		ok($row->{payload}, 'max_retries, 503: what was to be sent is kept for lp_retry()');
		$sim->remove('faults');
		is($session->query("SELECT lp_retry(array_agg(id)) FROM lp_requests WHERE state = 'failed'"), 2, 'max_retries, 503: lp_retry()');
		deliver();
		created('max_retries, 503, lp_retry()', ['x1', 'x2']);
	}
	# The delays grow.
	{
		fresh();
		enqueue('grow');
		fault(action => 'status', status => 503, times => 0);
		my @waits;
		for (1 .. 6)
		{
			deliver();
			push @waits, rows()->{grow}{wait};
			due_now();
		}
		deliver();
		my @want = (5, 10, 15, 120, 240, 480);
		is(scalar(grep { $waits[$_] < 0.9 * $want[$_] - 0.1 || $waits[$_] > 1.1 * $want[$_] + 4 } 0 .. 5), 0, 'the delays') or diag("@waits");
		is(rows()->{grow}{state}, 'failed', 'after the last delay: failed');
		is(posts(), 6, 'max_retries 5: six attempts');
	}
	# 429 is no failure.
	{
		fresh(max_retries => 1);
		enqueue('busy');
		fault(action => 'retry_after', value => '1', times => 4);
		fault(action => 'status', status => 503);
		for (1 .. 5)
		{
			deliver();
			due_now();
		}
		deliver();
		is(posts(), 6, '429 is no failure: sent until it is accepted');
		created('429 is no failure', ['busy']);
	}
	{
		my $closed = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die;
		my $port = $closed->sockport;

		close($closed);
		fresh(max_retries => 2);
		$admin->query("ALTER SERVER acme OPTIONS (SET base_url 'http://127.0.0.1:$port')");
		enqueue('c1');
		deliver();
		my $row = rows()->{c1};
		is($row->{state}, 'pending', 'no connection: pending');
		cmp_ok($row->{wait}, '>', 4.4, 'no connection: the delay');
		like($row->{error} // '', qr/could not connect/, 'no connection: why');
		for (1 .. 2)
		{
			due_now();
			deliver();
		}
		deliver();
		is(rows()->{c1}{state} . ' ' . rows()->{c1}{attempts}, 'pending 0', 'no connection: never given up, no attempt');
		is(rows()->{c1}{sent_at}, undef, 'no connection: never sent');
		$admin->query("ALTER SERVER acme OPTIONS (SET base_url '$sim->{url}')");
	}
};

# ---------------------------------------------------------------------------------------------- 401, 403, other 4xx

my $oauth = "DROP USER MAPPING FOR CURRENT_USER SERVER acme;
	CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (client_id 'lp-client', client_secret 'lp-client-secret')";
my $ready = "DROP USER MAPPING FOR CURRENT_USER SERVER acme; CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token')";

subtest 'rejected credentials hold the queue, other 4xx fail' => sub {
	my $tokens = sub { return $sim->count(method => 'POST', path => '/app/token'); };

	$admin->query("ALTER SERVER acme OPTIONS (ADD ca_file '$LpUsers::top/test/certs/ca.pem', ADD token_url '$sim->{tls_url}/sentinel/api/v2/account/$account/app/token')");
	{
		fresh();
		$admin->query($oauth);
		enqueue('o1');
		deliver();
		enqueue('o2', 'o3');
		$sim->post('tokens/expire');
		deliver();
		is($tokens->(), 2, '401 once: the token is renewed');
		is(posts(), 4, '401 once: one request is sent again, the other waited for it');
		is(rows()->{o2}{attempts}, 1, '401 once: one attempt');
		created('401 once', ['o1', 'o2', 'o3'], evidence => 'answer');

		# several batches under way with the expired token
		$admin->query("ALTER SERVER acme OPTIONS (SET batch_size '1')");
		enqueue(map { "p$_" } 1 .. 4);
		$sim->post('tokens/expire');
		deliver();
		is($tokens->(), 3, '401 for several batches: renewed once');
		created('401 for several batches', ['o1', 'o2', 'o3', map { "p$_" } 1 .. 4]);

		# the lookup, too
		enqueue('o4');
		fault(action => 'reset', applied => JSON::PP::true);
		deliver();
		$sim->post('tokens/expire');
		due_now();
		deliver();
		is(rows()->{o4}{state} . ' ' . $tokens->(), 'created 4', '401 for the lookup: the token is renewed');
		created('401 for the lookup', ['o1', 'o2', 'o3', 'o4', map { "p$_" } 1 .. 4]);
	}
	{
		fresh();
		$admin->query($oauth);
		enqueue('a1', 'a2');
		fault(action => 'status', status => 401, times => 0);
		deliver();
		all_are('held', '401 always', 'a1', 'a2');
		is(rows()->{a1}{status}, 401, '401 always: the status');
		like(rows()->{a1}{reason}, qr/as the test asked for/, '401 always: what the API said');
		is(posts() . ' ' . $tokens->(), '2 2', '401 always: renewed once');
		$admin->query($ready);
		fresh();
		enqueue('a1');
		fault(action => 'status', status => 401, times => 0);
		deliver();
		all_are('held', '401 with a ready token', 'a1');
		is(posts(), 1, '401 with a ready token: nothing to renew');
	}
	foreach my $status (403, 405, 410, 415)
	{
		fresh();
		enqueue('f1', 'f2');
		fault(action => 'status', status => $status, times => 0);
		deliver();
		all_are('held', $status, 'f1', 'f2');
		is(rows()->{f1}{status}, $status, "$status: on record");
		like(rows()->{f1}{reason}, qr/as the test asked for/, "$status: what the API said");
		due_now();
		deliver();
		is(posts() . ' ' . gets(), '1 0', "$status: neither split, looked up nor sent again");
	}
	# 413 and 422 are about the users: split.
	foreach my $status (413, 422)
	{
		fresh();
		enqueue(map { "s$_" } 1 .. 4);
		fault(action => 'status', status => $status, login => 's3@example.com', times => 0);
		deliver();
		is(rows()->{s3}{state} . rows()->{s3}{status}, "failed$status", "$status: the guilty one");
		created($status, ['s1', 's2', 's4'], others => ['s3']);
	}
};

# ---------------------------------------------------------------------------------------------- set-up

sub enqueue_as { my ($role, @users) = @_; return $session->query("SET ROLE $role; " . enqueue_sql($account, @users) . '; RESET ROLE'); }

subtest 'wrong set-up holds requests' => sub {
	# an account that the service does not have: one user, or several
	$admin->query("CREATE SERVER wrong FOREIGN DATA WRAPPER lpusers OPTIONS (account '99999999', base_url '$sim->{url}');
		CREATE USER MAPPING FOR CURRENT_USER SERVER wrong OPTIONS (token 'lp-token')");
	foreach my $n (1, 3, 7)
	{
		fresh();
		$session->query(enqueue_sql('99999999', map { "w$_" } 1 .. $n));
		$session->run('CALL lp_deliver()');
		all_are('held', "a wrong account, $n users", map { "w$_" } 1 .. $n);
		is($admin->query(q{SELECT DISTINCT hold FROM lp_requests}), 'setup', "a wrong account, $n users: held for set-up");
		like(rows()->{w1}{reason}, qr/no such account/, "a wrong account, $n users: what the API said");
		is(posts(), $n > 5 ? 0 : $n, "a wrong account, $n users: each of a few is sent once, of many none");
		is($admin->query(q{SELECT lp_release('99999999')}), $n, "a wrong account, $n users: lp_release()");
	}
	$admin->query('DELETE FROM lp_payloads; DELETE FROM lp_requests; DROP SERVER wrong CASCADE');
	# a 404 that concerns one user
	{
		fresh();
		enqueue('w1', 'w2');
		fault(action => 'status', status => 404, body => '{"message": "no such group", "internalCode": 9}', login => 'w2@example.com', times => 0);
		deliver();
		is(states(), 'w1:created w2:failed', '404 for one user: it fails');
		like(rows()->{w2}{error}, qr/no such group/, '404 for one user: what the API said');
	}
	{
		fresh();
		$admin->query("$oauth; ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_secret 'wrong')");
		enqueue('w1', 'w2');
		deliver();
		all_are('held', 'credentials refused', 'w1', 'w2');
		like(rows()->{w1}{reason}, qr/refused the credentials/, 'credentials refused: why');
		unlike(rows()->{w1}{reason}, qr/wrong/, 'credentials refused: without the secret');
		is(posts(), 0, 'credentials refused: nothing is sent');
		due_now();
		deliver();
		all_are('held', 'credentials refused, again', 'w1', 'w2');
		is($session->query("SELECT lp_release('$account')"), 2, 'credentials refused: lp_release()');
		$admin->query("ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_secret 'lp-client-secret')");
		deliver();
		created('credentials mended', ['w1', 'w2'], evidence => 'answer');

		# the token service is not well: no matter of set-up
		fresh();
		$admin->query($oauth);
		$sim->post('faults', { path => '/app/token', action => 'status', status => 503 });
		enqueue('w3');
		deliver();
		all_are('pending', 'token service not well', 'w3');
		is(posts(), 0, 'token service not well: nothing is sent');
		cmp_ok(rows()->{w3}{wait}, '>', 4.4, 'token service not well: the delay');
		due_now();
		deliver();
		created('token service well again', ['w3']);
		$admin->query($ready);
	}

	# Roles with mappings of their own.
	$admin->query(q{CREATE ROLE regress_one LOGIN; CREATE ROLE regress_two LOGIN; CREATE ROLE regress_gone LOGIN;
		GRANT USAGE ON FOREIGN SERVER acme TO regress_one, regress_two, regress_gone;
		GRANT EXECUTE ON FUNCTION lp_enqueue_users(text, jsonb) TO regress_one, regress_two, regress_gone;
		CREATE USER MAPPING FOR regress_one SERVER acme OPTIONS (client_id 'lp-client', client_secret 'lp-client-secret');
		CREATE USER MAPPING FOR regress_two SERVER acme OPTIONS (token 'lp-token');
		CREATE USER MAPPING FOR regress_gone SERVER acme OPTIONS (token 'lp-token')});
	{
		fresh(batch_size => 3);
		enqueue_as($_->[0], @{ $_->[1] }) foreach ['regress_one', ['u1', 'u2']], ['regress_two', ['v1', 'v2']], ['regress_one', ['u3', 'u4']],
			['regress_two', ['v3']];
		deliver();
		my %bearers;
		$bearers{ $_->{bearer} }{ join('', sort map { substr($_, 0, 1) } @{ $_->{logins} }) } = 1 foreach log_of('POST');
		my ($one) = grep { $_ ne '-token' } keys %bearers;
		is(scalar(keys %bearers), 2, 'two roles: two bearers');
		is(join(' ', sort keys %{ $bearers{'-token'} }), 'vvv', 'two roles: users of the one with its bearer');
		is(join(' ', sort keys %{ $bearers{$one} }), 'u uuu', 'two roles: users of the other with its bearer');
		created('two roles', [qw(u1 u2 u3 u4 v1 v2 v3)]);
		is($admin->query("SELECT string_agg(DISTINCT send_as || left(login_name, 1), ' ' ORDER BY send_as || left(login_name, 1)) FROM lp_requests"),
			'regress_oneu regress_twov', 'two roles: on record');
	}
	{
		fresh();
		enqueue_as('regress_gone', 'z1', 'z2');
		enqueue_as('regress_two', 'y1');
		enqueue_as('regress_one', 'x1');
		$admin->query('DROP USER MAPPING FOR regress_gone SERVER acme');
		deliver();
		is(states(), 'x1:created y1:created z1:held z2:held', 'a dropped mapping: its rows are held, the others go on');
		like(rows()->{z1}{reason}, qr/no credentials of role "regress_gone"/, 'a dropped mapping: why');
		$admin->query("CREATE USER MAPPING FOR regress_gone SERVER acme OPTIONS (token 'lp-token')");
		$session->query("SELECT lp_release('$account')");
		deliver();
		created('a mapping again', [qw(x1 y1 z1 z2)]);

		# without USAGE
		fresh();
		enqueue_as('regress_gone', 'z1');
		enqueue_as('regress_two', 'y1');
		$admin->query('REVOKE USAGE ON FOREIGN SERVER acme FROM regress_gone');
		deliver();
		is(states(), 'y1:created z1:held', 'USAGE revoked: held, the others go on');
		like(rows()->{z1}{reason}, qr/permission denied/, 'USAGE revoked: why');
		$admin->query('GRANT USAGE ON FOREIGN SERVER acme TO regress_gone');

		# the role is gone, with rows to be sent and rows in doubt
		fresh();
		enqueue_as('regress_gone', 'z1');
		fault(action => 'reset', applied => JSON::PP::true);
		deliver();
		enqueue_as('regress_gone', 'z2');
		enqueue_as('regress_two', 'y1');
		$admin->query('DROP OWNED BY regress_gone; DROP USER MAPPING IF EXISTS FOR regress_gone SERVER acme; DROP ROLE regress_gone');
		deliver();
		is(states(), 'y1:created z1:uncertain z2:held', 'a dropped role: held, the others go on');
		like(rows()->{z2}{reason}, qr/role "regress_gone" does not exist/, 'a dropped role: why');
		due_now();
		deliver();
		is(rows()->{z1}{state}, 'uncertain', 'a dropped role: nobody can look it up');
		like(rows()->{z1}{reason} // '', qr/lookup failed: role "regress_gone" does not exist/, 'a dropped role: and it says so');
		is(posts() . ' ' . gets(), '2 0', 'a dropped role: nothing of it is sent');
	}
	{
		# two servers for one account, one of which goes away
		fresh();
		$admin->query("REVOKE USAGE ON FOREIGN SERVER acme FROM regress_one;
			CREATE SERVER spare FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim->{url}');
			GRANT USAGE ON FOREIGN SERVER spare TO regress_one; CREATE USER MAPPING FOR regress_one SERVER spare OPTIONS (token 'lp-token')");
		enqueue_as('regress_one', 'z1', 'z2');
		enqueue_as('regress_two', 'y1');
		$admin->query('DROP SERVER spare CASCADE');
		deliver();
		is(states(), 'y1:created z1:held z2:held', 'a dropped server: its rows are held, the others go on');
		like(rows()->{z1}{reason}, qr/does not exist/, 'a dropped server: why');
		$admin->query('GRANT USAGE ON FOREIGN SERVER acme TO regress_one');
		$session->query("SELECT lp_release('$account')");
		deliver();
		created('a server again', [qw(y1 z1 z2)]);
	}
};

subtest 'two deliverers send nothing twice' => sub {
	{
		fresh();
		enqueue('s1', 's2');
		$session->query(enqueue_sql('second', 'e1', 'e2'));
		fault(action => 'delay', ms => 2000);
		deliver_beside(1);
		my (undef, $err) = $session->run("CALL lp_deliver('$account')");
		like($err, qr/NOTICE:.*account "$account" is already being delivered by another process/, 'two at once: the second leaves');
		unlike($err, qr/ERROR/, 'two at once: in peace');
		is($sim->count(status => 0, method => 'POST'), 1, 'two at once: while the first is under way');
		(undef, $err) = $session->run('CALL lp_deliver()');
		like($err, qr/account "$account" is already being delivered by another process/, 'two accounts: one is taken');
		like($err, qr/account "second": 2 created/, 'two accounts: the other is delivered meanwhile');
		is($sim->count(status => 0, method => 'POST'), 1, 'two accounts: while the first is under way');
		is($second->users_with("$_\@example.com"), 1, "two accounts: $_ once") foreach 'e1', 'e2';
		(undef, $err) = $other->take;
		like($err, qr/2 created/, 'two at once: the first does it');
		is(posts(), 2, 'two at once: each user once');
		created('two at once', ['s1', 's2']);
		is(userlocks(), 0, 'two at once: all locks are released');
	}
	# The same login enqueued twice by transactions that do not see each other.
	foreach my $unique (1, 0)
	{
		my $what = 'enqueued twice, ' . ($unique ? 'refused' : 'taken twice');
		my $third = LpUsers::session($node);

		fresh();
		$sim->post('config', { unique => JSON::PP::true });
		$session->query('BEGIN; ' . enqueue_sql($account, 'twin', 'own1'));
		$third->query('BEGIN; ' . enqueue_sql($account, ['twin', loginName => 'TWIN@example.com'], 'own2'));
		$session->query('COMMIT');
		$third->query('COMMIT');
		$third->quit;
		is($admin->query("SELECT count(*) FROM lp_requests WHERE state = 'pending' AND lower(login_name) = 'twin\@example.com'"), 2, "$what: both are pending");
		fault(action => 'delay', ms => 1000) if $unique;
		fault(action => 'reset', applied => JSON::PP::true) if !$unique;
		if ($unique)
		{
			deliver_beside(1);
			is($admin->query("SELECT string_agg(state, ' ' ORDER BY state) FROM lp_requests WHERE lower(login_name) = 'twin\@example.com'"),
				'pending sending', "$what: one is in flight");
			$other->take;
		}
		else
		{
			deliver();
			is($admin->query("SELECT string_agg(state, ' ' ORDER BY state) FROM lp_requests WHERE lower(login_name) = 'twin\@example.com'"),
				'pending uncertain', "$what: the other waits while one is in doubt");
			due_now();
			deliver();
		}
		is($admin->query("SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'failed')"), 0, "$what: CALL delivers all that is due");
		is($sim->users_with('twin@example.com') + $sim->users_with('TWIN@example.com'), 1, "$what: exactly one user");
		is($sim->users_with("$_\@example.com"), 1, "$what: $_") foreach 'own1', 'own2';
		my $rows = rows();
		my ($last) = sort { $b->{id} <=> $a->{id} } grep { lc($_->{login_name}) eq 'twin@example.com' } values %$rows;
		is($last->{state}, 'failed', "$what: the later one failed");
		like($last->{error} // '', qr/loginName exists/, "$what: and it says why");
	}
};

subtest 'a paused account sends nothing' => sub {
	fresh();
	enqueue('h1', 'h2');
	fault(action => 'reset', applied => JSON::PP::true, times => 2);
	deliver();
	enqueue('h3');
	due_now();
	$admin->query("ALTER SERVER acme OPTIONS (SET delivery 'paused')");
	$sim->remove('log');
	deliver();
	is(states(), 'h1:uncertain h2:uncertain h3:pending', 'paused: the queue keeps');
	is(scalar @{ $sim->get('log') }, 0, 'paused: nothing is sent');
	is($admin->query("SELECT paused FROM lp_progress WHERE account = '$account'"), 't', 'paused: lp_progress says so');
	$admin->query("ALTER SERVER acme OPTIONS (SET delivery 'on')");
	deliver();
	is(posts() . ' ' . gets(), '1 1', 'paused no more');
	created('paused no more', ['h1', 'h2', 'h3']);
};

subtest 'CALL in a transaction block is refused' => sub {
	$admin->query(q{CREATE FUNCTION in_function() RETURNS void LANGUAGE plpgsql AS 'BEGIN CALL lp_deliver(); END';
		CREATE PROCEDURE in_procedure() LANGUAGE plpgsql AS 'BEGIN CALL lp_deliver(); END';
		CREATE PROCEDURE with_set() LANGUAGE plpgsql SET work_mem = '4MB' AS 'BEGIN CALL lp_deliver(); END'});
	foreach my $place (['a transaction block', "BEGIN; CALL lp_deliver('$account'); COMMIT"], ['a function', 'SELECT in_function()'],
		['a DO block with a handler', 'DO $$ BEGIN CALL lp_deliver(); EXCEPTION WHEN division_by_zero THEN NULL; END $$'],
		['a DO block in a transaction', 'BEGIN; DO $$ BEGIN CALL lp_deliver(); END $$; COMMIT'],
		['a procedure with SET', 'CALL with_set()'],
		['a procedure in a transaction', 'BEGIN; CALL in_procedure(); COMMIT'])
	{
		my ($what, $sql) = @$place;

		fresh();
		enqueue('i1');
		my ($out, $err) = $session->run("$sql");
		$session->run('ROLLBACK');
		like($err, qr/ERROR:  25001/, "$what: 25001");
		is(states() . ' ' . rows()->{i1}{attempts} . ' ' . scalar @{ $sim->get('log') }, 'i1:pending 0 0', "$what: nothing is claimed");
		is(userlocks(), 0, "$what: no lock");
	}
	foreach my $sql ('DO $$ BEGIN CALL lp_deliver(); END $$', 'CALL in_procedure()')
	{
		fresh();
		enqueue('i1');
		my ($out, $err) = $session->run($sql);
		unlike($err, qr/ERROR|WARNING/, "$sql: works");
		created($sql, ['i1']);
	}
};

subtest 'a cancelled CALL loses nothing' => sub {
	foreach my $applied (0, 1)
	{
		my $what = 'cancel, ' . ($applied ? 'applied' : 'not applied');

		fresh(batch_size => 2, max_connections => 2);
		my @names = map { "k$_" } 1 .. 6;
		enqueue(@names);
		fault(action => 'silence', times => 2, applied => $applied ? JSON::PP::true : JSON::PP::false);
		deliver_beside(2);
		my $pid = beside_pid();
		is(userlocks(), 2, "$what: the account and its revision are locked meanwhile");
		my $start = time();
		$admin->query("SELECT pg_cancel_backend($pid)");
		my (undef, $err) = $other->take;
		cmp_ok(time() - $start, '<', 5, "$what: at once");
		like($err, qr/ERROR:  57014/, "$what: 57014");
		is(userlocks(), 0, "$what: the lock is released");
		is($other->query('SELECT 1'), 1, "$what: the session goes on");
		deliver();
		all_are('uncertain', "$what: the next CALL knows that nobody sends them", @names);
		is(posts() . ' ' . gets(), '2 0', "$what: nothing before the first retry delay");
		due_now();
		deliver();
		is(gets(), 1, "$what: looked up");
		created($what, \@names);
		is(posts(), $applied ? 4 : 5, "$what: POSTs");
	}
	foreach my $end (['statement_timeout', "SET statement_timeout = '500ms'", qr/ERROR:  57014/], ['terminate', 'SELECT 1', qr/57P01/])
	{
		my ($what, $first, $code) = @$end;
		my $victim = LpUsers::session($node);

		fresh();
		enqueue('k1');
		fault(action => 'silence', applied => JSON::PP::true);
		$victim->query($first);
		$victim->send("CALL lp_deliver('$account')");
		if ($what eq 'terminate')
		{
			unanswered(1);
			$admin->query("SELECT pg_terminate_backend(" . beside_pid() . ')');
		}
		my (undef, $err) = $victim->take;
		like($err, $code, "$what: its SQLSTATE");
		LpUsers::wait_for(sub { userlocks() == 0 }, 'the lock');
		$victim->quit;
		deliver();
		due_now();
		deliver();
		is(posts() . ' ' . gets(), '1 1', "$what: looked up");
		created($what, ['k1'], evidence => 'lookup');
	}
	# Claimed long before it is sent, for whatever reason: the delay begins when a deliverer finds that none sends it.
	{
		fresh();
		enqueue('k1');
		fault(action => 'silence', applied => JSON::PP::true);
		deliver_beside(1);
		$admin->query("UPDATE lp_requests SET sent_at = sent_at - interval '1 hour'");
		$admin->query('SELECT pg_cancel_backend(' . beside_pid() . ')');
		$other->take;
		deliver();
		is($admin->query("SELECT count(*) FROM lp_requests WHERE state = 'uncertain' AND next_attempt_at > clock_timestamp() + interval '3 s'"), 1,
			'claimed long ago: not looked up at once');
		is(gets(), 0, 'claimed long ago: no listing yet');
	}
	# While it looks up.
	{
		fresh();
		enqueue('k1');
		fault(action => 'reset', applied => JSON::PP::true);
		deliver();
		due_now();
		$sim->post('faults', { method => 'GET', path => '/le-users/users', action => 'silence' });
		deliver_beside(1, method => 'GET');
		$admin->query('SELECT pg_cancel_backend(' . beside_pid() . ')');
		my (undef, $err) = $other->take;
		like($err, qr/ERROR:  57014/, 'cancel of the lookup: 57014');
		is(userlocks(), 0, 'cancel of the lookup: the lock is released');
		deliver();
		is(posts() . ' ' . gets(), '1 2', 'cancel of the lookup: looked up again');
		created('cancel of the lookup', ['k1'], evidence => 'lookup');
	}
};

# ---------------------------------------------------------------------------------------------- what a CALL holds

# What that process holds while a request is under way.
sub holds
{
	my ($what, $pid) = @_;
	my $has = LpUsers::while_waiting($admin, $pid);

	is($has->{snapshot}, '- -', "$what: no snapshot, no xid");
	is($has->{locks}, 'userlock', "$what: no lock but the account's");
	return $has;
}

subtest 'CALL keeps no snapshot, lock or memory' => sub {
	foreach my $settings ('SELECT', "SET default_transaction_isolation = 'repeatable read'", 'SET default_transaction_isolation = serializable',
		'SET synchronous_commit = off', 'SET default_transaction_deferrable = on; SET default_transaction_isolation = serializable',
		'SET search_path = pg_catalog; SET enable_indexscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan')
	{
		my $what = $settings eq 'SELECT' ? 'as it is' : $settings;
		my $user = LpUsers::session($node);
		my $call = "CALL public.lp_deliver('$account')";
		my @names = map { "j$_" } 1 .. 4;

		fresh(batch_size => 1, max_connections => 2);
		$user->query('SET search_path = public') if $settings !~ /search_path/;
		$user->query($settings);
		my $pid = $user->query('SELECT pg_backend_pid()');
		$user->query(enqueue_sql($account, @names) =~ s/lp_enqueue/public.lp_enqueue/r);
		fault(action => 'silence', applied => JSON::PP::true);
		$user->send($call);
		unanswered(1);
		holds("$what: sending", $pid);
		$admin->query("SELECT pg_cancel_backend($pid)");
		like(($user->take)[1], qr/ERROR:  57014/, "$what: cancelled");
		unlike(($user->run($call))[1], qr/ERROR|WARNING/, "$what: the next CALL");
		all_are('uncertain', $what, @names);
		$sim->post('faults', { method => 'GET', path => '/le-users/users', action => 'silence' });
		due_now();
		$user->send($call);
		unanswered(1, method => 'GET');
		holds("$what: looking up", $pid);
		$admin->query("SELECT pg_cancel_backend($pid)");
		$user->take;
		unlike(($user->run($call))[1], qr/ERROR|WARNING/, "$what: the last CALL");
		is(posts() . ' ' . gets(), '4 2', "$what: requests");
		created($what, \@names);
		$user->quit;
	}
	# What another session changes meanwhile would be a serialization failure in the caller's isolation level.
	foreach my $level ('read committed', 'repeatable read', 'serializable')
	{
		my $holder = LpUsers::session($node);

		fresh();
		enqueue('j1');
		$holder->query('BEGIN; LOCK lp_payloads IN SHARE MODE');
		$other->query("SET default_transaction_isolation = '$level'");
		$other->send("CALL lp_deliver('$account')");
		LpUsers::wait_for(sub { $admin->query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL lp_deliver%' AND wait_event_type = 'Lock'") },
			'CALL to wait for the payload');
		$holder->query('UPDATE lp_payloads SET body = body; COMMIT');
		unlike(($other->take)[1], qr/ERROR|WARNING/, "$level: a concurrent change is no failure");
		created("$level: a concurrent change", ['j1'], evidence => 'answer');
		$other->query('RESET default_transaction_isolation');
		$holder->quit;
	}
	{
		fresh();
		$admin->query($oauth);
		enqueue('j1');
		$sim->post('faults', { path => '/app/token', action => 'silence' });
		deliver_beside(1, path => '/app/token');
		my $pid = beside_pid();
		holds('asking for a token', $pid);
		$admin->query("SELECT pg_cancel_backend($pid)");
		like(($other->take)[1], qr/ERROR:  57014/, 'asking for a token: cancelled');
		is(posts(), 0, 'asking for a token: nothing was sent');
		deliver();
		due_now();
		deliver();
		created('asking for a token', ['j1']);
		$admin->query($ready);
	}
	{
		fresh();
		enqueue('j1');
		my ($out, $err) = $session->run("SET default_transaction_read_only = on; CALL lp_deliver('$account')");
		($out, $err) = $session->run("CALL lp_deliver('$account')");
		$session->query('SET default_transaction_read_only = off');
		like($err, qr/ERROR:  25006/, 'read only: refused');
		is(states() . scalar @{ $sim->get('log') }, 'j1:pending0', 'read only: nothing is claimed');
		$session->query('RESET default_transaction_read_only');
		# who runs it sees nothing of the payloads, and acts only as itself afterwards
		$admin->query('GRANT EXECUTE ON PROCEDURE lp_deliver(text) TO regress_two');
		$session->query('SET ROLE regress_two');
		deliver();
		is($session->query('SELECT current_user'), 'regress_two', 'another role: is itself again');
		like(($session->run('SELECT count(*) FROM lp_requests'))[1], qr/ERROR:  42501/, 'another role: sees no table');
		$session->query('RESET ROLE');
		created('another role', ['j1']);
	}
};

# ---------------------------------------------------------------------------------------------- the worker

sub finished { my ($what) = @_; LpUsers::wait_for(sub { $admin->query("SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'failed', 'held')") eq '0' }, $what); return; }

subtest 'the worker delivers as CALL does' => sub {
	$admin->query('ALTER SYSTEM SET lpusers.worker = on; SELECT pg_reload_conf()');
	$node->poll_query_until('postgres', "SELECT current_setting('lpusers.worker') = 'on'") or die;
	LpUsers::wait_for(sub { $session->query('SHOW lpusers.worker') eq 'on' }, 'the setting');
	{
		fresh(batch_size => 4, max_connections => 2);
		my @names = map { "w$_" } 1 .. 20;
		fault(action => 'hold', times => 2);
		enqueue(@names);
		unanswered(2);
		my $pid = $admin->query('SELECT lp_worker_pid()');
		like($pid, qr/^\d+$/, 'worker: it is there');
		is(holds('worker: sending', $pid)->{transaction}, '-', 'worker: sending: no transaction');
		my (undef, $err) = $session->run("CALL lp_deliver('$account')");
		like($err, qr/is already being delivered by another process/, 'worker: CALL leaves it to it');
		$sim->remove('faults');
		finished('the worker');
		is(posts(), 5, 'worker: as many POSTs as batches');
		created('worker', \@names, evidence => 'answer');
		LpUsers::wait_for(sub { $admin->query('SELECT lp_worker_pid()') eq '' && $admin->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lpusers worker'") eq '0' },
			'the worker to leave');
		is(userlocks(), 0, 'worker: left no lock');
	}
	# The waiting itself.
	{
		fresh(batch_size => 2, timeout => '1s');
		fault(login => 'v1@example.com', action => 'status', status => 503, applied => JSON::PP::true);
		fault(login => 'v3@example.com', action => 'reset', applied => JSON::PP::false);
		fault(login => 'v5@example.com', action => 'retry_after', value => '2');
		enqueue(map { "v$_" } 1 .. 8);
		finished('the worker');
		my @post = log_of('POST');
		my ($get) = lookups();
		my ($first) = grep { "@{ $_->{logins} }" =~ /v1\@/ } @post;
		my @fifth = grep { "@{ $_->{logins} }" =~ /v5\@/ } @post;
		cmp_ok($get->{at} - $first->{at}, '>', 4.4, 'worker: the lookup comes after the first retry delay');
		cmp_ok($fifth[1]{at} - $fifth[0]{at}, '>=', 2, 'worker: not before Retry-After');
		is(scalar(grep { "@{ $_->{logins} }" =~ /v1\@/ } @post), 1, 'worker: what was applied is not sent again');
		is(scalar(grep { "@{ $_->{logins} }" =~ /v3\@/ } @post), 2, 'worker: what was not applied is');
		cmp_ok(gets(), '<=', 2, 'worker: listings');
		created('worker, faults', [map { "v$_" } 1 .. 8]);
	}
	{
		fresh();
		$sim->post('config', { unique => JSON::PP::true });
		$sim->post('users', [decode_json(LpUsers::user('g3', nickname => 'somebody else'))]);
		enqueue_as('regress_one', map { "g$_" } 1 .. 5);
		$session->query(enqueue_sql('second', 'e1'));
		finished('the worker');
		like(rows()->{g3}{error}, qr/^loginName exists: g3\@/, 'worker: a guilty user');
		is($second->users_with('e1@example.com'), 1, 'worker: the other account');
		$admin->query("DELETE FROM lp_requests WHERE account = 'second'");
		created('worker, a guilty user', ['g1', 'g2', 'g4', 'g5'], others => ['g3']);
	}

	$_->quit foreach $session, $other, $admin;
	$node->stop;
};

unlike(LpUsers::log_since($node, 0), qr/PANIC|TRAP|terminated by signal|WARNING:  .*leak/, 'the server was well');
done_testing();
