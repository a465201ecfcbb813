# The stand-in account itself: each misbehaviour that other tests ask it for is there, as curl sees it.
use strict;
use warnings;
use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;
use Time::HiRes qw(time);

my $sim    = LpUsers::account('--users', '3');
my $users  = '/api/account/12345678/configuration/le-users/users';
my $json   = JSON::PP->new->canonical->utf8;
our $bearer = 'lp-token';

# Ask the account by curl. Returns a hash: status, type, body, data (decoded, if it is JSON), exit (of curl), head.
sub ask
{
	my ($method, $path, $body, %options) = @_;
	my @command = ('curl', '-sS', '--max-time', $options{patience} // 20, '-X', $method, '-D', '-', '-H', "Authorization: Bearer $bearer");

	push @command, '-H', 'Content-Type: ' . ($options{type} // 'application/json'), '--data-binary', ref $body ? $json->encode($body) : $body
	  if defined $body;
	push @command, '-H', $_ foreach @{ $options{headers} // [] };
	my $v = $options{v} // '4.0';
	$path .= ($path =~ /\?/ ? '&' : '?') . "v=$v" unless $v eq '';
	open(my $pipe, '-|', 'sh', '-c', 'exec "$@" 2>/dev/null', 'sh', @command, "$sim->{url}$path") or die "curl: $!";
	binmode($pipe);
	my $text = do { local $/; <$pipe> } // '';
	close($pipe);
	my ($head, $rest) = $text =~ /\A(.*?\r\n)\r\n(.*)\z/s ? ($1, $2) : ($text, '');
	my ($status) = $head =~ m{^HTTP/\S+ (\d+)};
	my ($type) = $head =~ /^Content-Type: *([^\r;]*)/im;
	my $exit = $? >> 8;
	my $data = $options{undecoded} ? undef : eval { JSON::PP->new->utf8->allow_nonref->decode($rest) };
	return { exit => $exit, status => $status // 0, head => $head, type => $type // '', body => $rest, data => $data };
}

sub person
{
	my ($login, %more) = @_;
	return { loginName => $login, fullName => 'Full Name', nickname => 'n', email => $login, passwordSh => 'Secret/pass"1', isEnabled => JSON::PP::true,
		maxChats => 4, profileIds => [1002], memberOf => { agentGroupId => 2001 }, %more };
}

sub post  { return ask('POST', $users, ref $_[0] ? $_[0] : person($_[0])); }
sub fault { return $sim->post('faults', {@_}); }
sub fresh { $sim->reset(); $sim->post('config', {@_}) if @_; return; }

subtest 'stored form of logins' => sub {
	fresh(normalise => 'lower,trim,nfc');
	my $answer = post(person(" Jose\x{301}.\x{c4}RGER\@X.Example ", email => ' A@B.Example'));
	is($answer->{status}, 201, 'created');
	is($answer->{data}{loginName}, "jos\x{e9}.\x{e4}rger\@x.example", 'login is trimmed, lower case, composed');
	is($answer->{data}{email}, 'a@b.example', 'e-mail too');
	is(post("JOS\x{e9}.A\x{308}rger\@x.example")->{status}, 409, 'unique in that form');
	my $login = "Vie\x{302}\x{323}t\@x";
	isnt(post("Vi\x{1ec7}t\@x")->{status}, 409, 'another login');
	is(post([ person('a@x'), person('A@X ') ])->{status}, 409, 'two of one array are the same');
	ok(!eval { $sim->post('config', { normalise => 'upper' }); 1 }, 'an unknown form is refused');
	fresh();
	is(post(' B@x ')->{data}{loginName}, ' B@x ', 'by default as it was sent');
};

subtest 'reserved logins' => sub {
	fresh(reserve_deleted => JSON::PP::true);
	my $id = post('gone@x')->{data}{id};
	is(ask('DELETE', "$users/$id")->{status}, 200, 'deleted');
	unlike(ask('GET', $users)->{body}, qr/gone\@x/, 'not in the list');
	is(post('GONE@x')->{status}, 409, 'but the login is taken');
	$sim->post('config', { reserve_deleted => JSON::PP::false });
	is(post('gone@x')->{status}, 201, 'by default it is free');
};

subtest 'shapes of errors' => sub {
	fresh();
	my %check = (
		flat           => sub { $_[0]{data}{message} =~ /exists/ && $_[0]{data}{fields}[0] eq 'loginName' },
		nested         => sub { $_[0]{data}{error}{message} =~ /exists/ && $_[0]{data}{error}{internalCode} == 44 },
		message_array  => sub { $_[0]{data}{message}[0] =~ /exists/ },
		message_object => sub { $_[0]{data}{message}{text} =~ /exists/ },
		errors         => sub { $_[0]{data}{errors}[0]{message} =~ /exists/ },
		errors_texts   => sub { $_[0]{data}{errors}[0] =~ /exists/ },
		fields_object  => sub { $_[0]{data}{fields}{loginName} =~ /exists/ && !exists $_[0]{data}{message} },
		nested_message => sub { $_[0]{data}{error}{message} =~ /exists/ && keys %{ $_[0]{data}{error} } == 1 },
		error_text     => sub { $_[0]{data}{error} =~ /exists/ },
		oauth          => sub { $_[0]{data}{error_description} =~ /exists/ },
		string         => sub { !ref $_[0]{data} && $_[0]{data} =~ /exists/ },
		array          => sub { $_[0]{data}[0]{message} =~ /exists/ },
		text           => sub { $_[0]{type} eq 'text/plain' && $_[0]{body} =~ /exists/ },
		html           => sub { $_[0]{type} eq 'text/html' && $_[0]{body} =~ /exists/ },
		empty          => sub { $_[0]{type} eq '' && $_[0]{body} eq '' });

	foreach my $shape (sort keys %check)
	{
		fault(method => 'POST', action => 'shape', shape => $shape);
		my $answer = post('agent00001');
		is($answer->{status}, 409, "$shape: the usual status");
		ok(scalar(eval { $check{$shape}->($answer) }), "$shape: the body") or diag($answer->{body});
	}
	like(post('agent00001')->{data}{message}, qr/exists/, 'then as before');
	$sim->post('config', { error_shape => 'string' });
	like(post('agent00001')->{data}, qr/exists/, 'the configuration, for each');
	fault(action => 'error', status => 422, shape => 'errors', message => 'too old', fields => 'a,b');
	my $answer = post('agent00001');
	is("$answer->{status} $answer->{data}{errors}[0]{message} @{$answer->{data}{errors}[0]{fields}}", '422 too old a b', 'any error');
	fault(action => 'controls', shape => 'flat');
	like(post('agent00001')->{data}{message}, qr/\x{202e}.*\x{2066}/s, 'controls in the message');
};

subtest 'successes that name no such user' => sub {
	fresh();
	my $n = 0;
	foreach my $applied (JSON::PP::true, JSON::PP::false)
	{
		my %expected = (
			empty_array => qr/^\[\]$/, empty_object => qr/^\{\}$/, null => qr/^null$/, other => qr/"loginName":"other0\@example.com"/,
			string_id => qr/"id":"\d{10}"/, double_id => qr/"id":\d{10}\.0\b/, exponent_id => qr/"id":\d\.\d+E9/, null_id => qr/"id":null/,
			wrong_id => qr/"id":\d{10}\b/);
		foreach my $form (sort keys %expected)
		{
			fault(method => 'POST', action => 'misname', form => $form, applied => $applied);
			my $login = 'm' . ++$n . '@x';
			my $answer = post($login);
			is($answer->{status}, 201, "$form: 201");
			like($answer->{body}, $expected{$form}, "$form: the body");
			is($sim->users_with($login), $applied ? 1 : 0, "$form: " . ($applied ? 'applied' : 'not applied'));
		}
	}
	my %lists = (no_id => [ undef, undef ], first_only => ['one'], reversed => [ 'two', 'one' ], twice => [qw(one one two two)]);
	foreach my $form (sort keys %lists)
	{
		fault(method => 'POST', action => 'misname', form => $form, applied => JSON::PP::true);
		my $answer = post([ person("one-$form"), person("two-$form") ]);
		is(join(' ', map { $form eq 'no_id' ? exists $_->{id} ? 'id' : 'none' : $_->{loginName} =~ s/-.*//r } @{ $answer->{data} }),
			join(' ', map { $_ // 'none' } @{ $lists{$form} }), "$form: the list");
	}
	fault(method => 'POST', action => 'misname', form => 'empty_array', applied => JSON::PP::true);
	is(post('agent00001')->{status}, 409, 'what is refused stays refused');
};

subtest 'pages of gateways' => sub {
	fresh();
	my $n = 0;
	foreach my $status (302, 404, 405, 407, 421, 418)
	{
		foreach my $applied (JSON::PP::true, JSON::PP::false)
		{
			my $login = 'g' . ++$n . '@x';
			fault(action => 'page', status => $status, applied => $applied, method => 'POST', path => '/users', times => 2);
			my $answer = post($login);
			is("$answer->{status} $answer->{type}", "$status text/html", "$status: the page");
			like($answer->{head}, qr/^Location:/im, '302: where to') if $status == 302;
			like($answer->{head}, qr/^Allow:/im, '405: what is allowed') if $status == 405;
			like($answer->{head}, qr/^Proxy-Authenticate:/im, '407: how') if $status == 407;
			is($sim->users_with($login), $applied ? 1 : 0, "$status: applied or not");
			is(post("second$login")->{status}, $status, "$status: twice");
			is(ask('GET', $users)->{status}, 200, "$status: only POST");
		}
	}
};

subtest 'forms of values' => sub {
	fresh(
		list_form => { skillIds => 'null,reversed', description => 'blank', id => 'exponent', maxChats => 'string', isEnabled => 'capital',
			memberOf => 'wrapped', lobIds => 'absent', employeeId => 'absent' },
		single_form => { skillIds => 'absent', maxChats => 'double', memberOf => 'emptied,object', fullName => 'shown', employeeId => 'shown',
			isEnabled => 'string', lobIds => 'array', managerOf => 'unwrapped' });
	my $id = post(person('form@x', skillIds => [ 3001, 3002 ], lobIds => [], employeeId => 'E1', managerOf => [ { agentGroupId => 2002 } ]))->{data}{id};
	my $bare = post(person('bare@x', skillIds => []))->{data}{id};
	my ($list) = grep { /"loginName":"form\@x"/ } split(/(?=\{"id")/, ask('GET', "$users?select=\$all")->{body});
	like($list, qr/"id":4\.\d+E9/, 'list: exponent');
	like($list, qr/"skillIds":\[3002,3001\]/, 'list: reversed');
	like($list, qr/"maxChats":"4"/, 'list: number as string');
	like($list, qr/"isEnabled":"True"/, 'list: boolean as string');
	like($list, qr/"memberOf":\[\{"agentGroupId":2001,/, 'list: object in an array');
	like($list, qr/"description":""/, 'list: blank where there is none');
	unlike($list, qr/lobIds|employeeId/, 'list: absent');
	like($list, qr/"fullName":""/, 'list: hidden');
	like(ask('GET', "$users?select=loginName,skillIds")->{body}, qr/"loginName":"bare\@x","skillIds":null/, 'list: null');
	my $single = ask('GET', "$users/$id")->{body};
	like($single, qr/"id":$id,/, 'single: as usual');
	like($single, qr/"maxChats":4\.0\b/, 'single: double');
	like($single, qr/"isEnabled":"true"/, 'single: boolean as string');
	like($single, qr/"fullName":"Full Name"/, 'single: shown');
	like($single, qr/"employeeId":"E1"/, 'single: shown');
	like($single, qr/"memberOf":\{\}/, 'single: an object that is empty');
	like($single, qr/"lobIds":\[\]/, 'single: empty array');
	like($single, qr/"managerOf":\{"agentGroupId":2002\}/, 'single: the first of an array');
	$single = ask('GET', "$users/$bare")->{body};
	unlike($single, qr/skillIds/, 'single: absent');
	$sim->post('config', { list_form => {} });
	like(ask('GET', $users)->{body}, qr/"id":$id,/, 'a list that was kept is written anew');
	ok(!eval { $sim->post('config', { list_form => { id => 'purple' } }); 1 }, 'an unknown form is refused');
	$sim->post('config', { single_form => {} });
	like(ask('GET', "$users/$id?select=memberOf(agentGroupId)")->{body}, qr/^\{"memberOf":\{"agentGroupId":2001\}\}$/, 'nested select');
};

subtest 'partial success' => sub {
	fresh(bulk => 'partial');
	is(post([ person('p1@x'), person('agent00001'), person('p2@x') ])->{status}, 409, 'POST is refused');
	is($sim->users_with('p1@x') + $sim->users_with('p2@x'), 2, 'the others are there');
	my ($a, $b) = map { $_->{id} } grep { $_->{loginName} =~ /^p\d/ } @{ ask('GET', $users)->{data} };
	is(ask('PUT', $users, [ person('p1@x', id => $a, nickname => 'new'), person('none@x', id => 1) ])->{status}, 404, 'PUT is refused');
	is(ask('GET', "$users/$a")->{data}{nickname}, 'new', 'the other is changed');
	is(ask('DELETE', $users, [ $a, 1, $b ])->{status}, 404, 'DELETE is refused');
	is($sim->users_with('p1@x') + $sim->users_with('p2@x'), 0, 'the others are gone');
	is($sim->get('changes')->{$a}{PUT} + $sim->get('changes')->{$a}{DELETE}, 2, 'both are counted');
	fresh(bulk => 'partial_ok');
	my $answer = post([ person('p1@x'), person('agent00001'), person('p2@x') ]);
	is("$answer->{status} " . join(' ', map { $_->{loginName} } @{ $answer->{data} }), '201 p1@x p2@x', 'or a success without it');
	is(post('agent00001')->{status}, 409, 'but one alone is refused');
	is(ask('DELETE', $users, [1])->{status}, 200, 'DELETE');
};

subtest 'other clients' => sub {
	fresh();
	my $id = $sim->get('user?login=agent00001')->{id};
	my $before = $sim->text('revision');
	is($sim->post('change', {}), $before + 1 . "\n", 'the revision alone');
	$sim->post('change', { user => 'agent00001', set => { nickname => 'theirs' } });
	is(ask('GET', "$users/$id")->{data}{nickname}, 'theirs', 'a user');
	ok(!eval { $sim->post('change', { user => 'none' }); 1 }, 'no such user');
	fault(method => 'PUT', action => 'meddle', user => '*', set => { maxChats => 9 }, times => 2);
	foreach my $time (1 .. 3)
	{
		my $revision = $sim->text('revision') + 0;
		my $answer = ask('PUT', $users, [ person('agent00001', id => $id) ], headers => ["If-Match: $revision"]);
		is($answer->{status}, $time < 3 ? 412 : 200, "PUT $time: " . ($time < 3 ? 'another was faster' : 'alone'));
		is($sim->get('user?login=agent00001')->{maxChats}, $time < 3 ? 9 : 4, "PUT $time: whose value");
	}
	fault(method => 'PUT', action => 'meddle', user => "$id", delete => JSON::PP::true);
	is(ask('PUT', $users, [ person('agent00001', id => $id) ])->{status}, 404, 'deleted meanwhile');
};

subtest 'held requests' => sub {
	fresh();
	fault(method => 'POST', action => 'hold', times => 2);
	my @pipes = map {
		open(my $pipe, '-|', 'curl', '-sS', '-o', '/dev/null', '-w', '%{http_code}', '-H', "Authorization: Bearer $bearer", '-H', 'Content-Type: application/json',
			'--data-binary', $json->encode(person($_)), "$sim->{url}$users?v=4.0") or die "curl: $!";
		$pipe } 'h1@x', 'h2@x';
	LpUsers::wait_for(sub { $sim->get('faults')->[0]{struck} == 2 }, 'both to arrive');
	is(post('h3@x')->{status}, 201, 'a third is answered');
	is($sim->count(status => 0) . ' ' . $sim->users_with('h1@x') . $sim->users_with('h2@x'), '2 00', 'the two are neither answered nor carried out');
	$sim->remove('faults');
	is(join(' ', map { scalar(<$_>) } @pipes), '201 201', 'until the faults are removed');
	close($_) foreach @pipes;
	is($sim->users_with('h1@x') . $sim->users_with('h2@x'), '11', 'then as usual');
};

subtest 'versions' => sub {
	fresh(single_form => {});
	my $id = $sim->get('user?login=agent00001')->{id};
	my $answer = ask('GET', "$users/$id", undef, v => '');
	is($answer->{status}, 400, 'without v: refused');
	like($answer->{data}{message}, qr/lacks v/, 'and says so');
	$sim->post('config', { without_v => '2.0' });
	$answer = ask('GET', "$users/$id", undef, v => '');
	is(join(' ', sort keys %{ $answer->{data} }), 'deleted email id isEnabled loginName maxChats nickname', 'or as 2.0, with another entity');
	is(ask('POST', $users, person('v@x'), v => '')->{status}, 400, 'POST is refused');
	$answer = ask('GET', "$users/$id", undef, v => '6.0');
	like($answer->{data}{dateUpdated}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, '6.0: ISO dates');
	like($answer->{data}{memberOf}{assignmentDate}, qr/T.*Z$/, '6.0: nested, too');
	is($answer->{data}{skills}[0]{name}, 'Sales', '6.0: skills');
	is($answer->{data}{profiles}[0]{name}, 'Agent', '6.0: profiles');
	ok(exists $answer->{data}{dateCreated} && exists $answer->{data}{resetMfaSecret}, '6.0: more attributes');
	like($answer->{head}, qr/^ETag: "\d+"/im, '6.0: an ETag');
	like($answer->{head}, qr/^ac-revision: \d+/im, '6.0: and the revision');
	my %entity = (%{ $answer->{data} }, fullName => 'f', employeeId => 'e');
	is(ask('PUT', "$users/$id", \%entity, v => '6.0')->{status}, 200, '6.0: read and written back');
	is($sim->get('user?login=agent00001')->{skills}, undef, '6.0: only ids are stored');
	$answer = ask('GET', "$users/$id", undef, v => '5.0');
	ok(exists $answer->{data}{dateCreated} && !exists $answer->{data}{skills}, '5.0: some');
	$sim->post('config', { revision_header => 'opaque' });
	($answer) = ask('GET', $users)->{head} =~ /^ETag: ("rev-\d+")/im;
	ok($answer, 'an ETag that is no number');
	is(ask('PUT', "$users/$id", { %entity, dateCreated => undef }, headers => ["If-Match: $answer"])->{status}, 200, 'is taken');
	is(ask('PUT', "$users/$id", \%entity, headers => ["If-Match: $answer"])->{status}, 412, 'once');
};

subtest 'token services' => sub {
	fresh(scope => 'users.read users.write');
	my $form = 'grant_type=client_credentials&client_id=lp-client&client_secret=lp-client-secret';
	my $token = ask('POST', '/sentinel/api/v2/account/12345678/app/token', $form, type => 'application/x-www-form-urlencoded')->{data}{access_token};
	local $bearer = $token;
	is(ask('GET', $users)->{status}, 200, '4.0 with the scopes of 4.0');
	is(ask('GET', $users, undef, v => '6.0')->{status}, 403, '6.0 asks for another');
	$sim->post('config', { scope => 'users.read' });
	is(post('scope@x')->{status}, 403, 'no right to write');
	my $login = ask('POST', '/api/account/12345678/login', { username => 'lp-user', password => 'lp-user-password' }, v => '1.3')->{data};
	ok($login->{csrf}, 'the Login service has a csrf');
	$bearer = $login->{bearer};
	is(ask('POST', '/api/account/12345678/refresh', { csrf => 'wrong' }, v => '1.3')->{status}, 401, 'refresh with another csrf');
	is(ask('POST', '/api/account/12345678/refresh', { csrf => $login->{csrf} }, v => '1.3')->{status}, 204, 'refresh');
	like(ask('POST', '/api/account/12345678/login', { username => 'lp-user', password => 'wrong-password' }, v => '1.3')->{data}{error}{message},
		qr/wrong/, 'its errors are nested');
};

subtest 'secrets in errors' => sub {
	fresh();
	local $bearer = "lp-token/\"\x{e9}";
	utf8::encode($bearer);
	my $decoded = $bearer;
	utf8::decode($decoded);
	foreach my $encoding (qw(plain slash unicode upper mixed))
	{
		fault(action => 'leak', encoding => $encoding);
		my $answer = post([ person('s@x'), person('t@x', passwordSh => "two/\x{1f600}") ]);
		is($answer->{status}, 400, "$encoding: refused");
		foreach my $secret ($decoded, 'Secret/pass"1', "two/\x{1f600}")
		{
			ok(index($answer->{data}{message}, "[$secret]") > 0, "$encoding: a secret is there");
		}
		my %looks = (plain => qr{two/}, slash => qr{two\\/}, unicode => qr/\\u002f\\ud83d\\ude00/, upper => qr/\\u002F\\uD83D/, mixed => qr/\\u0074w\\u006f/);
		like($answer->{body}, $looks{$encoding}, "$encoding: is written so");
	}
	fault(path => '/app/token', action => 'leak', encoding => 'unicode', shape => 'oauth', status => 401);
	my $answer = ask('POST', '/sentinel/api/v2/account/12345678/app/token', 'client_secret=a%2Fb&x=y', type => 'application/x-www-form-urlencoded');
	like("$answer->{status} $answer->{data}{error_description}", qr{^401 .*\[a/b\]}, 'token service');
	fault(path => '/login', action => 'leak', shape => 'nested');
	like(ask('POST', '/api/account/12345678/login', { username => 'u', password => 'pw-leaked' })->{data}{error}{message}, qr/\[pw-leaked\]/, 'Login service');
};

subtest 'sizes' => sub {
	fresh();
	fault(method => 'GET', action => 'bomb', bytes => 300000);
	is(ask('GET', $users, undef, undecoded => 1)->{body}, '[' . join(',', ('{}') x 100000) . ']', 'a bomb');
	fault(method => 'GET', action => 'huge', bytes => 7000, unit => '{"id":1},');
	is(ask('GET', $users)->{data}[700]{id}, 1, 'any unit');
	fault(method => 'GET', action => 'endless');
	my $answer = ask('GET', $users, undef, patience => 0.5, undecoded => 1);
	is($answer->{exit}, 28, 'endless: no end');
	ok(length($answer->{body}) > 1_000_000, 'endless: much') or diag(length($answer->{body}));
	fault(method => 'GET', action => 'wide', members => 5000);
	is(scalar(keys %{ ask('GET', $users)->{data}[0] }), 5003, 'wide');
	my %deep = (array => qr/^\[{6}\]{6}$/, object => qr/^(?:\{"a":){6}1\}{6}$/, both => qr/^(?:\{"a":\[){3}1(?:\]\}){3}$/);
	foreach my $of (sort keys %deep)
	{
		fault(method => 'GET', action => 'deep', depth => 6, of => $of);
		like(ask('GET', $users)->{body}, $deep{$of}, "deep: $of");
	}
};

subtest 'phases' => sub {
	fresh();
	my %phases = (silence => [ {}, qr/^$/ ], in_headers => [ {}, qr/^HTTP\/1.1 200 OK\r\n/ ], headers_only => [ {}, qr/Content-Length/i ],
		stall => [ { applied => JSON::PP::true }, qr/Content-Length/i ], raw => [ { text => "HTTP/1.1 2", seconds => 60 }, qr/^(?:HTTP\/1.1 2)?$/ ],
		drip => [ { ms => 200 }, qr/Content-Length/i ]);
	foreach my $action (sort keys %phases)
	{
		fault(action => $action, method => 'GET', %{ $phases{$action}[0] });
		my $answer = ask('GET', $users, undef, patience => 0.4);
		is($answer->{exit}, 28, "$action: hangs");
		like($answer->{head}, $phases{$action}[1], "$action: so far");
	}
	fault(action => 'raw', text => "HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\n", hex => '4f4b', ms => 1);
	my $answer = ask('GET', $users);
	is("$answer->{status} $answer->{body}", '299 OK', 'raw: bytes as they are');
	is(ask('GET', $users)->{status}, 200, 'and then as usual');
};

subtest 'neighbours' => sub {
	fresh();
	my $path = '/api/account/12345678/configuration/le-users';
	$sim->post('neighbours', { skills => [ { id => 3009, name => 'Fax', deleted => JSON::PP::false }, { id => 3001, name => 'Sell' } ], profiles => [ { id => 1009, name => 'Late', roleTypeId => 2 } ] });
	my %names = map { $_->{id} => $_->{name} } @{ ask('GET', "$path/skills")->{data} };
	is("$names{3009} $names{3001} $names{3002}", 'Fax Sell Support', 'added, replaced, kept');
	is(ask('GET', "$path/profiles/1009")->{data}{roleTypeId}, 2, 'a profile');
	is(post(person('n@x', profileIds => [1009], memberOf => undef))->{status}, 400, 'whose role counts');
	ok(!eval { $sim->post('neighbours', { pets => [] }); 1 }, 'no such resource');
	fresh();
	is(scalar(@{ ask('GET', "$path/skills")->{data} }), 3, 'a reset takes them back');
};

subtest 'tally' => sub {
	fresh();
	post([ person('t1@x'), person('t2@x') ]);
	is(post('t1@x')->{status}, 409, 'a second POST is refused');
	is_deeply($sim->get('posts'), { 't1@x' => 1, 't2@x' => 1 }, 'each once');
	$sim->post('config', { unique => JSON::PP::false });
	post('t1@x');
	is_deeply($sim->get('posts?not=1'), { 't1@x' => 2 }, 'twice');
	is_deeply($sim->get('posts?login=t2@x'), { 't2@x' => 1 }, 'one login');
	fault(method => 'POST', action => 'reset', applied => JSON::PP::true);
	is(post('t3@x')->{status}, 0, 'an answer that is lost');
	is($sim->get('posts')->{'t3@x'}, 1, 'counts');
	fault(method => 'POST', action => 'reset');
	post('t4@x');
	ok(!exists $sim->get('posts')->{'t4@x'}, 'what was not carried out does not');
	my $id = $sim->get('user?login=t2@x')->{id};
	ask('PUT', "$users/$id/resetPassword", { newPassword => 'new-password' });
	ask('PUT', "$users/$id", person('t2@x', id => $id)) foreach 1 .. 2;
	ask('DELETE', $users, ["$id"]);
	ask('DELETE', $users, ["$id"]);
	is_deeply($sim->get("changes?id=$id"), { $id => { PUT => 2, DELETE => 1, resetPassword => 1 } }, 'of one id');
};

subtest '100,000 users' => sub {
	fresh();
	$sim->post('users', '[' . join(',', map { qq({"loginName":"crowd$_","email":"crowd$_","maxChats":4,"skillIds":[]}) } 1 .. 100_000) . ']');
	my $since = time();
	foreach my $time (1 .. 20)
	{
		post("late$time\@x");
		ask('GET', "$users?select=id,loginName,skillIds", undef, undecoded => 1);
	}
	my $spent = time() - $since;
	cmp_ok($spent, '<', 150, 'a POST and a list, 20 times');
	note(sprintf('%.2f s for a POST and a list of 100,003 users', $spent / 20));
	is(scalar(keys %{ $sim->get('posts') }), 20, 'and their tally');
};

done_testing();
