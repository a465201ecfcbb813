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

subtest 'forms of values' => sub {
	fresh(
		list_form => { skillIds => 'null,reversed', description => 'blank', id => 'exponent', maxChats => 'string', isEnabled => 'capital',
			memberOf => 'wrapped', lobIds => 'absent', employeeId => 'absent' },
		single_form => { skillIds => 'absent', maxChats => 'double', memberOf => 'unwrapped', fullName => 'shown', employeeId => 'shown',
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

done_testing();
