# lp_sync against a model: random edits of HR, random edits of an administrator (another client of the account), random faults, in
# rounds. At rest the owned attributes of linked users are as the source says, all others as the administrator and a third client left
# them, strangers are untouched byte by byte, the second plan is empty, and no login is there twice. The third client writes between a
# read of the deliverer and its PUT: If-Match keeps what it wrote. A control run with an account that ignores If-Match must fail.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use HTTP::Tiny;
use JSON::PP;
use LpUsers;
use Test::More;

my $rounds = $ENV{LPUSERS_LONG} ? 30 : 6;
my $seed   = $ENV{LPUSERS_SEED} // time() % 100_000;
my $sim    = LpUsers::account();
my $node   = LpUsers::server(conf => "lpusers.worker = off\n");
LpUsers::connect_account($node, $sim, options => "timeout '2s'");
my $session = LpUsers::session($node);
my $json    = JSON::PP->new->canonical->allow_nonref;
my $http    = HTTP::Tiny->new;
my %admin;						# id => attribute => what others wrote last, of attributes that are not owned

srand($seed);
note("LPUSERS_SEED=$seed");

sub q1 { my ($sql) = @_; return $session->query($sql); }
sub one_of { return $_[int(rand(@_))]; }
sub present { return grep { !$_->{deleted} } @{ $sim->get('users') }; }

# The administrator's client: reads a user, changes attributes, and writes it back whole.
sub admin_edits
{
	my ($seen) = @_;
	my ($user) = grep { $_->{id} == $seen->{id} } present();
	my %change = %{ one_of({ maxChats => int(rand(9)) + 1 }, { nickname => 'n' . int(rand(100)) }, { description => 'd' . int(rand(100)) },
			{ mobileNumber => '+' . int(rand(1000)) }, { description => 'e' . int(rand(100)), maxChats => 9 }) };
	my %body = (%$user, %change);

	delete @body{qw(passwordSh dateUpdated lastPwdChangeDate)};
	my $answer = $http->put($sim->url . "/api/account/12345678/configuration/le-users/users/$user->{id}?v=4.0",
		{ headers => { Authorization => 'Bearer lp-token', 'Content-Type' => 'application/json' }, content => $json->encode(\%body) });
	foreach (grep { exists $change{$_} } qw(description mobileNumber))
	{
		# a fault may have met the administrator: then what the account has is not known
		if   ($answer->{success}) { $admin{ $user->{id} }{$_} = $change{$_}; }
		else                      { delete $admin{ $user->{id} }{$_}; }
	}
	return;
}

# The source decides maxChats, nickname and profileIds (by name); description and mobileNumber are the administrator's.
q1(q{
	CREATE TABLE staff (emp_no int PRIMARY KEY, login text, name text, nick text, role text, chats int, active boolean);
	CREATE VIEW lp_people AS SELECT emp_no, login AS login_name, login AS email, name AS full_name, emp_no AS employee_id, nick AS nickname,
		true AS is_enabled, chats AS max_chats, ARRAY[role] AS profiles, 2001 AS member_of, 'Aa1!' || md5(login) AS password_sh FROM staff WHERE active;
	SELECT lp_sync_define('staff', '12345678', 'lp_people', 'emp_no', limits => '{"create": null, "update": null, "rename": null, "enable": null,
		"disable": null, "reopen": null, "recreate": null, "relink": null, "adopt": null}');
	INSERT INTO staff SELECT n, 'p' || n || '@x.example', 'Name ' || n, 'nick' || n, 'Agent', 3, true FROM generate_series(1, 30) n});
q1("SELECT status FROM lp_create_users('12345678', '[" . join(',', map { LpUsers::user("stranger$_", profileIds => [1002]) } 1 .. 3) . "]')");
my %strangers = map { $_->{id} => $json->encode($_) } present();
my $joined = 30;
my $faults = 0;
my $third_wrote = 0;

sub hr_edits
{
	my $who = int(rand($joined)) + 1;

	q1(one_of("UPDATE staff SET chats = " . int(rand(9)) . " + 1 WHERE emp_no = $who", "UPDATE staff SET nick = 'hr' || " . int(rand(99)) . " WHERE emp_no = $who",
		"UPDATE staff SET role = '" . one_of('Agent', 'Night Agent', 'agent manager') . "' WHERE emp_no = $who",
		"UPDATE staff SET login = 'q' || " . int(rand(1e6)) . " || '\@x.example' WHERE emp_no = $who", "UPDATE staff SET name = 'Other ' || " . int(rand(99)) . " WHERE emp_no = $who",
		"UPDATE staff SET active = NOT active WHERE emp_no = $who AND (active OR true)",
		"INSERT INTO staff VALUES (" . ++$joined . ", 'p$joined\@x.example', 'Name $joined', 'nick$joined', 'Agent', 3, true)"));
	return;
}

# A 412 answers a write only: to a listing it would mean that the set-up is wrong, and hold the requests.
sub random_faults
{
	my $flag = sub { return one_of(JSON::PP::true, JSON::PP::false) };

	return map {
		my $method = one_of('PUT', 'PUT', 'POST', 'GET');
		{ method => $method, path => '/le-users/users', skip => int(rand(3)), %{ one_of({ action => 'close' }, { action => 'reset', applied => $flag->() },
				{ action => 'status', status => 503, applied => $flag->() }, { action => 'status', status => $method eq 'PUT' ? 412 : 500 },
				{ action => 'retry_after', value => '1' }) } }
	} 1 .. int(rand(4));
}

# Runs and deliveries until nothing is left to do; more than this many is a failure.
sub come_to_rest
{
	foreach my $attempt (1 .. 25)
	{
		$session->due_now;
		$session->run('CALL lp_deliver()');
		next if q1(q{SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')}) ne '0';
		q1(q{SELECT lp_sync_resume('staff')});
		$session->run(q{CALL lp_sync('staff')});
		return $attempt if q1(q{SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')}) eq '0'
			&& q1(q{SELECT count(*) FROM lp_sync_diff('staff')}) eq '0';
	}
	return 0;
}

subtest 'each round ends with the account as the source says' => sub {
	# The third client: just before a PUT is judged, it writes pictureUrl, which is neither the source's nor the administrator's.
	sub third_client { my ($round, $user) = @_; return { method => 'PUT', path => '/le-users/users', action => 'meddle', user => "$user->{id}", set => { pictureUrl => "round$round" } }; }

	# What it wrote counts, unless it was the administrator whose PUT it preceded: that one has written back what was there before.
	sub note_third_client
	{
		my ($round, $user, $since) = @_;
		my ($struck) = grep { $_->{seq} > $since && ($_->{fault} // '') eq 'meddle' } @{ $sim->get('log') };

		return 0 unless $struck;
		if   ($struck->{path} =~ m{/users$}) { $admin{ $user->{id} }{pictureUrl} = "round$round"; }
		else                                 { delete $admin{ $user->{id} }{pictureUrl}; }
		return 1;
	}

	sub last_request { my $log = $sim->get('log'); return @$log ? $log->[-1]{seq} : 0; }

	# Edits, faults and runs; all comes to rest. Return what is wrong then.
	sub round
	{
		my ($round, %options) = @_;
		my @linked = grep { !$strangers{ $_->{id} } } present();
		my $since  = last_request();
		my $third;

		# in the control nothing but updates, in one PUT, that of the third client's user among them
		hr_edits() for 1 .. $options{control} ? 0 : int(rand(8));
		my @active = split(/\n/, q1(q{SELECT l.user_id FROM lp_sync_links l JOIN staff s ON s.emp_no::text = l.source_key WHERE s.active AND l.state = 'active'}));
		$third = { id => one_of(@active) } if @active;
		q1("UPDATE staff SET chats = chats + 1 WHERE emp_no IN (SELECT source_key::int FROM lp_sync_links WHERE user_id = $third->{id})") if $options{control};
		if (@linked) { admin_edits(one_of(@linked)) for 1 .. int(rand(4)); }
		$sim->post('faults', [ ($third ? third_client($round, $third) : ()), $options{faults} ? random_faults() : () ]);
		$session->run(q{CALL lp_sync('staff')});
		$session->run('CALL lp_deliver()');
		@linked = grep { !$strangers{ $_->{id} } } present();
		admin_edits(one_of(@linked)) if @linked && rand() < 0.5;
		$session->run('CALL lp_deliver()');
		$faults += grep { $_->{fault} } @{ $sim->get('log') };
		$sim->remove('faults');
		$third_wrote += note_third_client($round, $third, $since) if $third;

		my @wrong = come_to_rest() ? () : 'it does not come to rest';
		my %user = map { $_->{id} => $_ } present();

		push @wrong, wrong_people(\%user);
		foreach my $id (grep { $user{$_} } sort keys %admin)
		{
			push @wrong, map { "user $id: $_ is not as others left it" } grep { ($user{$id}{$_} // '') ne $admin{$id}{$_} } sort keys %{ $admin{$id} };
		}
		push @wrong, map { "stranger $_ was touched" } grep { $json->encode($user{$_} // {}) ne $strangers{$_} } sort keys %strangers;
		push @wrong, 'there is a login twice' if $sim->text('duplicates') !~ /^\[\]\s*$/;
		my ($should, $have) = (q1('SELECT count(*) FROM staff WHERE active'), q1(q{SELECT count(*) FROM lp_sync_links l WHERE state = 'active'}));
		push @wrong, "$have people have a user, not $should" if $have != $should;
		return @wrong;
	}

	sub wrong_people
	{
		my ($user) = @_;
		my %roles = ('agent' => 1002, 'agent manager' => 1003, 'night agent' => 1005);
		my @wrong;

		foreach (split(/\n/, q1(q{SELECT emp_no, user_id, l.state, s.login, s.name, s.nick, lower(s.role), s.chats, coalesce(s.active, false)
			FROM lp_sync_links l LEFT JOIN staff s ON s.emp_no::text = l.source_key WHERE l.state <> 'gone'})))
		{
			my ($emp, $id, $state, $login, $name, $nick, $role, $chats, $active) = split(/\|/, $_, -1);
			my $u = $user->{$id};

			push(@wrong, "$emp: user $id is not there"), next unless $u;
			push @wrong, "$emp: enabled" if ($u->{isEnabled} ? 't' : 'f') ne $active;
			next unless $active eq 't';
			push @wrong, "$emp: $_->[0] is $_->[1], not $_->[2]" foreach grep { $_->[1] ne $_->[2] } [ 'loginName', $u->{loginName}, $login ],
				[ 'fullName', $u->{fullName}, $name ], [ 'nickname', $u->{nickname}, $nick ], [ 'maxChats', $u->{maxChats}, $chats ],
				[ 'employeeId', $u->{employeeId}, $emp ], [ 'profileIds', "@{ $u->{profileIds} }", $roles{$role} ];
		}
		return @wrong;
	}

	foreach my $round (1 .. $rounds)
	{
		is(join('; ', round($round, faults => 1)), '', "round $round: all is as it has to be")
			or diag(join("\n", q1(q{SELECT state, why FROM lp_syncs}), q1(q{SELECT action, source_key, user_id, attribute, reason FROM lp_sync_diff('staff')}),
				q1(q{SELECT id, operation, action, login_name, state, hold, attempts, status, error, reason FROM lp_requests WHERE state <> 'done' ORDER BY id DESC LIMIT 12}),
				$session->run('CALL lp_deliver()')));
	}
};

subtest 'no two writes of one revision' => sub {
	# The revision is a fence: of all PUTs that named one and were carried out, no two named the same.
	my %applied;
	$applied{ $_->{if_match} }++ foreach grep { $_->{method} eq 'PUT' && $_->{status} == 200 && defined $_->{if_match} && $_->{if_match} > 0 } @{ $sim->get('log') };
	is(join(' ', grep { $applied{$_} > 1 } keys %applied), '', 'no two writes of one revision');
	cmp_ok($faults, '>', 0, 'there were faults');
	cmp_ok(scalar(keys %applied), '>', 3, 'there were conditional writes');
	cmp_ok($third_wrote, '>', 0, 'the third client wrote');

	# The control: were If-Match ignored, what the third client writes would be lost. It shows that the rounds above can fail.
	$sim->post('config', { ignore_if_match => JSON::PP::true });
	my @wrong = map { round("control$_", control => 1) } 1 .. 3;
	like(join('; ', @wrong), qr/pictureUrl is not as others left it/, 'an account that ignores If-Match: the model says what is lost');
};

done_testing();
