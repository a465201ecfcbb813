# Answers from a service that is broken or hostile: each becomes what is documented, and nothing worse.
#
# Part one: what test/lpsim/lpsim can be told to do. Part two: bytes that no HTTP library would send, from a server of our own.
# After each answer the same session creates the next user.
use strict;
use warnings;
use Compress::Raw::Zlib;
use FindBin;
use File::Temp;
use IO::Socket::INET;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $password = 'Secret-echo-4711';
my $sim      = LpUsers::account();
my $node     = LpUsers::server(conf => "log_statement = none\n");
my $limit    = 4 * 1024 * 1024;
LpUsers::connect_account($node, $sim, options => "timeout '5s', max_response_size '4MB'");

# Whom the body of an answer names.
$node->safe_psql('postgres', 'CREATE TABLE named (login text PRIMARY KEY, id text NOT NULL)');
my $session = LpUsers::session($node);
my $pid     = $session->query('SELECT pg_backend_pid()');
my $count   = 0;

# Is a row what is expected? [status, is there a body?, error, revision], each undef if nothing is expected of it.
sub check_row
{
	my ($what, $out, $row) = @_;
	my ($status, $has_body, $revision, $error) = split(/\|/, $out, 4);
	my ($want_status, $want_body, $want_error, $want_revision) = @$row;

	is($status, $want_status, "$what: status $want_status") if defined $want_status;
	is($has_body, $want_body ? 't' : 'f', "$what: " . ($want_body ? 'a body' : 'no body')) if defined $want_body;
	like($error // '', $want_error, "$what: error") if defined $want_error;
	is($revision, $want_revision, "$what: revision") if defined $want_revision;
	return;
}

# Our own server ends each connection; a call that came before that would find one that is just going away.
my $dir = File::Temp->newdir();
sub lines { return -e "$dir/$_[0]" ? scalar(split(/\n/, PostgreSQL::Test::Utils::slurp_file("$dir/$_[0]"))) : 0; }

sub call
{
	my ($account, $name) = @_;
	my $json = LpUsers::user($name, passwordSh => $password);

	LpUsers::wait_for(sub { lines('closed') == lines('requests') }, 'the end of the connection') if $account eq 'raw';
	return $session->run("WITH answer AS MATERIALIZED (SELECT * FROM lp_create_users('$account', '$json')),
		note AS (INSERT INTO named SELECT '$name\@example.com', coalesce(body ->> 'id', body -> 0 ->> 'id', '') FROM answer)
		SELECT status, body IS NOT NULL, ac_revision, error FROM answer");
}

# Expected is a row or the SQLSTATE and message of an error; posts tells how often a login was sent.
sub check_answer
{
	my ($what, $account, $expected, $posts) = @_;
	my $name = 'hostile' . ++$count;
	my ($out, $err) = call($account, $name);

	if (ref $expected eq 'ARRAY')
	{
		check_row($what, $out, $expected);
		my $status = $expected->[0];
		my ($named, @record) = split(/\|/, $node->safe_psql('postgres', "SELECT n.id, r.state, r.status, r.user_id, r.reason
			FROM lp_results r JOIN named n ON n.login = r.login_name WHERE r.login_name = '$name\@example.com'"), -1);
		my $id = $status =~ /^2/ && $named =~ /^\d{1,18}$/ ? $named : '';
		my $unnamed = $status =~ /^2/ && $id eq '';

		# a success that names no user proves nothing
		is(join('|', @record), join('|', $id ne '' ? 'created' : 'failed', $status, $id, $unnamed || $status >= 500 ? 'outcome unknown' : ''),
			"$what: the record");
		like($err, $unnamed ? qr/\AWARNING:  01000: account "$account" did not name 1 user in its response: outcome unknown\nDETAIL:  .*\nHINT:  .*\nLOCATION:  .*\n?\z/ : qr/\A\z/,
			"$what: " . ($unnamed ? 'a WARNING' : 'no WARNING or ERROR'));
	}
	else
	{
		like($err, $expected, "$what: the error");
		is($out, '', "$what: no row");
	}
	unlike("$out$err", qr/\Q$password\E/, "$what: the password is not shown");
	is($posts->($name), 1, "$what: one POST");
	return $name;
}

# ------------------------------------------------------------------------------------------------- part one: lpsim

sub sim_posts { my ($name) = @_; return $sim->count(method => 'POST', path => '/users', login => "$name\@example.com"); }

my $unknown = qr/ERROR:  08006: no response from the account: .*DETAIL:  Outcome unknown/s;
my $not_json = qr/^the response cannot be read as JSON/;
my ($out, $err);

# The password, each character in this form.
my %disguises = ('JSON in JSON' => '\\\\u%04x', 'URL in URL' => '%%25%02X', 'HTML' => '&#%d;');
sub disguised { my ($form) = @_; return join('', map { sprintf($form, ord) } split(//, $password)); }

subtest 'misbehaviour of the stand-in account' => sub {
	foreach my $case (
		# what, fault, expected, how many users there are then, whether the answer names the user
		[ 'not JSON, 201', { action => 'not_json', status => 201, applied => \1 }, [ 201, 0, $not_json ], 1 ],
		[ 'not JSON, 400', { action => 'not_json', status => 400 }, [ 400, 0, qr/./ ], 0 ],
		[ 'the password, 201', { action => 'status', status => 201, body => qq([{"id": 9, "loginName": "x", "passwordSh": "$password"}]), applied => \1 }, [ 201, 0, qr/^the response repeats a secret and is not shown$/ ], 1 ],
		[ 'HTML', { action => 'html' }, [ 502, 0, qr/./ ], 0 ],
		[ 'HTML, carried out', { action => 'html', applied => \1 }, [ 502, 0, qr/./ ], 1 ],
		[ 'empty, 201', { action => 'empty', status => 201, applied => \1 }, [ 201, 0, qr/^$/ ], 1 ],
		[ 'empty, 400', { action => 'empty', status => 400 }, [ 400, 0, qr/^status 400 without a message$/ ], 0 ],
		[ 'empty, 500', { action => 'empty', status => 500 }, [ 500, 0, qr/^status 500 without a message$/ ], 0 ],
		[ 'half', { action => 'half', applied => \1 }, $unknown, 1 ],
		[ 'half, reset', { action => 'half', reset => \1, applied => \1 }, $unknown, 1 ],
		[ 'half, not carried out', { action => 'half' }, $unknown, 0 ],
		[ 'wrong length', { action => 'wrong_length', applied => \1 }, $unknown, 1 ],
		[ 'headers only', { action => 'headers_only', applied => \1 }, $unknown, 1 ],
		[ 'silence', { action => 'silence', applied => \1 }, $unknown, 1 ],
		[ 'silence, not carried out', { action => 'silence' }, $unknown, 0 ],
		[ 'reset', { action => 'reset', applied => \1 }, $unknown, 1 ],
		[ 'close', { action => 'close' }, $unknown, 0 ],
		[ 'reset of a kept connection', { action => 'reset', kept_only => \1 }, $unknown, 0 ],
		[ 'drip', { action => 'drip', bytes => 64, ms => 20 }, [ 201, 1, qr/^$/ ], 1, 1 ],
		[ 'too large', { action => 'huge', bytes => $limit + 1_000_000, status => 201, applied => \1 },
			[ 201, 0, qr/larger than max_response_size \($limit bytes\) and was dropped/ ], 1 ],
		[ 'too large, 500', { action => 'huge', bytes => $limit + 1_000_000, status => 500 },
			[ 500, 0, qr/larger than max_response_size/ ], 0 ],
	[ 'deep', { action => 'deep', depth => 1_000_000, applied => \1 }, [ 201, 0, qr/^the response has too many values for max_response_size \($limit bytes\) and was dropped$/ ], 1 ],
	[ 'deep, but not too large', { action => 'deep', depth => 30_000, applied => \1 }, [ 201, 0, qr/^the response cannot be read as JSON: stack depth limit/ ], 1 ],
		[ 'bad UTF-8', { action => 'bad_utf8', status => 201, applied => \1 }, [ 201, 0, qr/^the response is not UTF-8$/ ], 1 ],
		[ 'bad UTF-8, 400', { action => 'bad_utf8', status => 400 }, [ 400, 0, qr/./ ], 0 ],
		[ 'NUL', { action => 'nul', status => 201, applied => \1 }, [ 201, 0, $not_json ], 1 ],
		[ 'NUL, 400', { action => 'nul', status => 400 }, [ 400, 0, qr/./ ], 0 ],
		[ 'wrong types', { action => 'wrong_types', status => 201, applied => \1 }, [ 201, 1, qr/^$/ ], 1 ],
		(map { [ "echo, $_", { action => 'status', status => 400, body => '{"message":"cannot read ' . disguised($disguises{$_}) . '"}' }, [ 400, 0, qr/repeats a secret and is not shown/ ], 0 ] }
			  sort keys %disguises),
		[ 'echo', { action => 'echo' }, [ 400, undef, qr/repeats a secret and is not shown|the response has no message/ ], 0 ],
		(map { [ "status $_", { action => 'status', status => $_ }, [ $_, undef, qr/./ ], 0 ] }
			  300, 304, 400, 402, 403, 404, 406, 409, 410, 412, 415, 418, 451, 500, 501, 502, 504, 599),
		(map { [ "status $_", { action => 'status', status => $_, body => '', applied => \1 }, [ $_, 0, qr/^$/ ], 1 ] }
			  200, 202, 204, 205, 207, 226, 299),
		[ '503 with Retry-After', { action => 'status', status => 503, headers => { 'Retry-After' => '1' } }, [ 503, undef, qr/./ ], 0 ],
		[ '429 with a long Retry-After', { action => 'retry_after', value => '3600' }, [ 429, undef, qr/./ ], 0 ],
		[ '429 with a date', { action => 'retry_after', value => 'Fri, 31 Dec 2099 23:59:59 GMT' }, [ 429, undef, qr/./ ], 0 ],
		[ '401', { action => 'status', status => 401 }, [ 401, undef, qr/./ ], 0 ])
	{
		my ($what, $fault, $expected, $users, $named) = @$case;

		$sim->post('faults', { method => 'POST', path => '/users', %$fault });
		my $name = check_answer("lpsim, $what", '12345678', $expected, \&sim_posts);
		my @there = map { $_->{id} } grep { !$_->{deleted} && $_->{loginName} eq "$name\@example.com" } @{ $sim->get('users') };
		is(scalar(@there), $users, "lpsim, $what: users with the login: $users");
		my $recorded = $node->safe_psql('postgres', "SELECT user_id FROM lp_results WHERE login_name = '$name\@example.com' AND state = 'created'");
		is($recorded, $named ? $there[0] : '', "lpsim, $what: " . ($named ? 'the id on record is that of the account' : 'no id is on record'));
		$sim->remove('faults');
		my ($out, $err) = call('12345678', "next$count");
		like($out, qr/^201\|t\|\d+\|$/, "lpsim, $what: the next call works") or diag($err);
		is(sim_posts("next$count"), 1, "lpsim, $what: ... with one POST");
		is($sim->users_with("next$count\@example.com"), 1, "lpsim, $what: ... and one user");
		is($session->query('SELECT pg_backend_pid()'), $pid, "lpsim, $what: the same backend");
	}

	# A redirect is not followed, to no scheme and no host.
	foreach my $location ($sim->url . '/evil', $sim->tls_url . '/evil', '/evil', 'file:///etc/passwd', "//127.0.0.1/evil")
	{
		foreach my $status (301, 302, 303, 307, 308)
		{
			$sim->post('faults', { path => '/users', action => 'redirect', status => $status, location => $location });
			check_answer("redirect $status to $location", '12345678', [ $status, undef, qr/./ ], \&sim_posts);
			$sim->remove('faults');
		}
	}
	is($sim->count(path => '/evil'), 0, 'no redirect was followed');

	# A page that comes with a status of success is not the API's.
	$sim->post('faults', { method => 'POST', path => '/users', action => 'status', status => 200, body => '<html>ok</html>', applied => \1 });
	($out, $err) = call('12345678', 'page');
	is($out, "200|f||status 200, but the response is not the account's", 'a page with status 200: an error');
	is($node->safe_psql('postgres', q{SELECT state, reason, error FROM lp_results WHERE login_name = 'page@example.com'}),
		"failed|outcome unknown|status 200, but the response is not the account's", '... also on record');
	$sim->remove('faults');

	# A short 429 is waited for.
	$sim->post('faults', { path => '/users', action => 'retry_after', value => '1' });
	($out, $err) = call('12345678', 'patient');
	like($out, qr/^201\|/, 'a short Retry-After is waited for');
	is(sim_posts('patient'), 2, '... with two POSTs, the first of which was refused');
	is($sim->users_with('patient@example.com'), 1, '... and one user');
};

# ------------------------------------------------------------------------------------------------- part two: raw bytes

# A server that reads a request, notes it, sends the bytes in the file "answer", and closes.
sub serve
{
	my ($listener) = @_;

	while (my $client = $listener->accept)
	{
		my $data = '';
		my $length = 0;

		local $SIG{PIPE} = 'IGNORE';
		while (sysread($client, $data, 65536, length($data)))
		{
			next unless $data =~ /^(.*?\r\n\r\n)(.*)/s;
			my ($head, $body) = ($1, $2);
			($length) = $head =~ /^content-length:\s*(\d+)/im;
			last if length($body) >= ($length // 0);
		}
		if ($data ne '')
		{
			open(my $note, '>>', "$dir/requests") or die;
			print $note join(' ', $data =~ /^(\w+)/, $data =~ /"loginName": ?"([^"]+)"/g), "\n";
			close($note);
			open(my $in, '<:raw', "$dir/answer") or die;
			my $answer = do { local $/; <$in> };
			my $sent = 0;
			while ($sent < length($answer))
			{
				my $n = syswrite($client, $answer, length($answer) - $sent, $sent);
				last unless $n;
				$sent += $n;
			}
		}
		shutdown($client, 1);
		if ($data ne '')
		{
			open(my $note, '>>', "$dir/closed") or die;
			print $note "closed\n";
			close($note);
		}
		# wait for the other side, so that no RST overtakes the answer
		1 while sysread($client, my $rest, 65536);
		close($client);
	}
	return;
}

sub answer
{
	my ($bytes) = @_;

	open(my $file, '>:raw', "$dir/answer.new") or die "$dir/answer.new: $!";
	print $file $bytes;
	close($file);
	rename("$dir/answer.new", "$dir/answer") or die "rename: $!";
	return;
}

sub raw_posts
{
	my ($name) = @_;

	return scalar(grep { $_ eq "POST $name\@example.com" } split(/\n/, PostgreSQL::Test::Utils::slurp_file("$dir/requests")));
}

# An answer of HTTP/1.1 with these header lines.
sub http
{
	my ($status, $headers, $body) = @_;

	return "HTTP/1.1 $status\r\n" . join('', map { "$_\r\n" } @$headers) . "Content-Length: " . length($body) . "\r\n\r\n$body";
}

sub chunked { my ($body) = @_; return "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n$body"; }

# 1 GB of zeros: one compressed megabyte, again and again.
sub bomb
{
	my ($deflate) = Compress::Raw::Zlib::Deflate->new(-WindowBits => -MAX_WBITS(), -AppendOutput => 1);
	my $block = '';

	$deflate->deflate("\0" x 1_048_576, $block);
	$deflate->flush($block, Z_FULL_FLUSH);
	return "\x1f\x8b\x08\0\0\0\0\0\0\x03" . $block x 1024;
}

sub gzip { my ($text) = @_; return Compress::Zlib::memGzip($text); }

require Compress::Zlib;
my @cases;

subtest 'raw bytes that are not HTTP' => sub {
	my $listener = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1', Proto => 'tcp', ReuseAddr => 1) or die "listen: $!";
	my $port = $listener->sockport;
	my $child = fork() // die "fork: $!";
	if ($child == 0)
	{
		serve($listener);
		POSIX::_exit(0);
	}
	LpUsers::remember_child($child);
	close($listener);
	$node->safe_psql('postgres', "CREATE SERVER raw FOREIGN DATA WRAPPER lpusers OPTIONS (account 'raw',
		base_url 'http://127.0.0.1:$port', timeout '5s', max_response_size '4MB');
		CREATE USER MAPPING FOR CURRENT_USER SERVER raw OPTIONS (token 'raw-token-8151')");
	my $ok = '{"id":42, "nickname":"another"}';
	my $good = http('201 Created', ['ac-revision: 7'], $ok);
	my $zipped = gzip($ok);
	@cases = (
		[ 'good', $good, [ 201, 1, qr/^$/, '7' ] ],

		# revisions
		(map { [ "ac-revision '$_->[0]'", http('201 Created', ["ac-revision: $_->[0]"], $ok), [ 201, 1, qr/^$/, $_->[1] ] ] }
			[ 'abc', '' ], [ '-5', '' ], [ '', '' ], [ '42', '42' ], [ '0', '0' ], [ '  42  ', '42' ], [ '42x', '' ], [ '4 2', '' ],
			[ '1.5', '' ], [ '1e3', '' ], [ '0x10', '' ], [ '9223372036854775807', '9223372036854775807' ],
			[ '9223372036854775808', '' ], [ '9' x 50, '' ], [ '+1', '' ], [ "\xff", '' ]),
		[ 'no revision', http('201 Created', [], $ok), [ 201, 1, qr/^$/, '' ] ],
		[ 'AC-REVISION', http('201 Created', ['AC-REVISION: 42'], $ok), [ 201, 1, qr/^$/, '42' ] ],
		(map { [ "ETag $_->[0]", http('201 Created', ["ETag: $_->[0]"], $ok), [ 201, 1, qr/^$/, $_->[1] ] ] }
			[ '"42"', '42' ], [ 'W/"42"', '42' ], [ '42', '42' ], [ '"abc"', '' ], [ 'W/', '' ], [ '"', '' ], [ '""', '' ],
			[ '"-1"', '' ], [ '"9223372036854775808"', '' ]),
		[ 'ac-revision before ETag', http('201 Created', [ 'ETag: "1"', 'ac-revision: 2' ], $ok), [ 201, 1, qr/^$/, '2' ] ],

		# bodies
		[ 'a number too large', http('201 Created', [], '{"id":1e999999}'), [ 201, 0, $not_json ] ],
		[ 'a number too long', http('201 Created', [], '{"id":' . '9' x 200_000 . '}'), [ 201, 0, $not_json ] ],
		[ 'an id beyond bigint', http('201 Created', [], '{"id":1e400,"loginName":"x"}'), [ 201, 1, qr/^$/ ] ],
		[ 'a scalar', http('201 Created', [], '42'), [ 201, 1, qr/^$/ ] ],
		[ 'null', http('201 Created', [], 'null'), [ 201, 1, qr/^$/ ] ],
		[ 'an empty array', http('201 Created', [], '[]'), [ 201, 1, qr/^$/ ] ],
		[ 'arrays in arrays', http('201 Created', [], '[[[]],null,1,"x",{}]'), [ 201, 1, qr/^$/ ] ],
		[ 'two documents', http('201 Created', [], "$ok$ok"), [ 201, 0, $not_json ] ],
		[ 'a byte order mark', http('201 Created', [], "\xef\xbb\xbf$ok"), [ 201, 0, $not_json ] ],
		[ 'a NUL byte', http('201 Created', [], "{\"a\":\"\0\"}"), [ 201, 0, qr/not UTF-8/ ] ],
		[ 'only blanks', http('201 Created', [], " \n "), [ 201, 0, $not_json ] ],
		[ 'a long key', http('201 Created', [], '{"' . 'k' x 1_000_000 . '":1}'), [ 201, 1, qr/^$/ ] ],
		[ 'many members', http('201 Created', [], '{' . join(',', map { "\"k$_\":$_" } 1 .. 50_000) . '}'), [ 201, 1, qr/^$/ ] ],
	[ 'many empty users', http('201 Created', [], '[' . join(',', ('{}') x 20_000) . ']'), [ 201, 1, qr/^$/ ] ],
	[ 'too many empty users', http('201 Created', [], '[' . join(',', ('{}') x 100_000) . ']'), [ 201, 0, qr/too many values/ ] ],

		# errors
		[ 'control characters in an error', http('400 Bad Request', [], '{"message":"one\r\ntwo\u001b[31m\u0007three"}'),
			[ 400, 1, qr/^one two \[31m three$/ ] ],
		[ 'a format in an error', http('400 Bad Request', [], '{"message":"%s%s%n%d"}'), [ 400, 1, qr/^%s%s%n%d$/ ] ],
		[ 'a very long error', http('400 Bad Request', [], '{"message":"' . 'x' x 1_000_000 . '"}'), [ 400, 1, qr/^x{500}\.\.\.$/ ] ],
		[ 'a very long text', http('400 Bad Request', [], 'x' x 1_000_000), [ 400, 0, qr/^x{200}\.\.\.$/ ] ],
		[ 'an error of wrong types', http('400 Bad Request', [], '{"message":[1],"internalCode":{},"fields":"x","error":[]}'), [ 400, 1, qr/./ ] ],
		[ 'many fields', http('400 Bad Request', [], '{"message":"m","fields":[' . join(',', ('"f"') x 10_000) . ']}'),
			[ 400, 1, qr/^m \(fields: f(, f){19}\)$/ ] ],

		# headers and status lines
		[ 'a header line of 100 kB', http('201 Created', [ 'X-Long: ' . 'x' x 100_000 ], $ok), undef ],
		[ 'a header line of 10 MB', http('201 Created', [ 'X-Long: ' . 'x' x 10_000_000 ], $ok), $unknown ],
		[ 'a revision of 50 kB', http('201 Created', [ 'ac-revision: ' . '1' x 50_000 ], $ok), [ 201, 1, qr/^$/, '' ] ],
		[ 'thousands of headers', http('201 Created', [ map { "X-$_: $_" } 1 .. 3000 ], $ok), [ 201, 1, qr/^$/ ] ],
		[ 'headers that repeat', http('201 Created', [ map { "ac-revision: $_" } 1 .. 1000 ], $ok), [ 201, 1, qr/^$/ ] ],
		[ 'a folded header', http('201 Created', [ "ac-revision: 4\r\n 2" ], $ok), [ 201, 1, qr/^$/, '' ] ],
		[ 'garbage', "GARBAGE\r\n\r\n$ok", $unknown ],
		[ 'HTTP/0.9', $ok, $unknown ],
		[ 'binary garbage', join('', map { chr } 0 .. 255) x 10, $unknown ],
		[ 'nothing', '', $unknown ],
		[ 'HTTP/9.9', "HTTP/9.9 201 Created\r\nContent-Length: 2\r\n\r\n{}", $unknown ],
		[ 'HTTP/1.0 until the end', "HTTP/1.0 201 Created\r\n\r\n$ok", [ 201, 1, qr/^$/ ] ],
		[ 'no reason phrase', "HTTP/1.1 201\r\nContent-Length: 2\r\n\r\n{}", [ 201, 1, qr/^$/ ] ],
		[ 'bare line feeds', "HTTP/1.1 201 Created\nac-revision: 9\nContent-Length: 2\n\n{}", [ 201, 1, qr/^$/, '9' ] ],
		[ 'half a status line', 'HTTP/1.1 20', $unknown ],
		[ 'half of the headers', "HTTP/1.1 201 Created\r\nContent-Len", undef ],
		[ '1xx first', "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n$good",
			[ 201, 1, qr/^$/, '7' ] ],
		[ 'only 100', "HTTP/1.1 100 Continue\r\n\r\n", $unknown ],
		[ 'only 103', "HTTP/1.1 103 Early Hints\r\nac-revision: 3\r\n\r\n", $unknown ],
		[ 'a revision of 103', "HTTP/1.1 103 Early Hints\r\nac-revision: 3\r\n\r\n" . http('201 Created', [], $ok), [ 201, 1, qr/^$/, '' ] ],
		[ '101', "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n$ok", undef ],
		[ 'a cookie', http('201 Created', [ 'Set-Cookie: a=b' ], $ok), [ 201, 1, qr/^$/ ] ],
		[ '401 with Basic', http('401 Unauthorized', [ 'WWW-Authenticate: Basic realm="x"' ], '{"message":"who?"}'), [ 401, 1, qr/^who\?$/ ] ],
		[ '407', http('407 Proxy Authentication Required', [ 'Proxy-Authenticate: Basic realm="x"' ], ''), [ 407, 0, qr/./ ] ],
		[ '417', http('417 Expectation Failed', [], ''), [ 417, 0, qr/./ ] ],
		[ '421', http('421 Misdirected Request', [], ''), [ 421, 0, qr/./ ] ],
		[ '204 with a body', "HTTP/1.1 204 No Content\r\n\r\n$ok", [ 204, 0, qr/^$/ ] ],
		[ '304 with a body', "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", [ 304, 0, qr/./ ] ],
		[ '600', http('600 Unheard Of', [], ''), [ 600, 0, qr/./ ] ],
		[ '999', http('999 Unheard Of', [], ''), [ 999, 0, qr/./ ] ],
		[ 'status 1000', http('1000 Unheard Of', [], ''), $unknown ],
		[ 'status 99', http('99 Unheard Of', [], ''), $unknown ],

		# lengths and chunks
		[ 'length too large', "HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n$ok", $unknown ],
		[ 'length beyond 2^63', "HTTP/1.1 201 Created\r\nContent-Length: 99999999999999999999\r\n\r\n$ok", undef ],
		[ 'negative length', "HTTP/1.1 201 Created\r\nContent-Length: -1\r\n\r\n$ok", undef ],
		[ 'length of letters', "HTTP/1.1 201 Created\r\nContent-Length: abc\r\n\r\n$ok", undef ],
		[ 'length 0 with a body', "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n$ok", [ 201, 0, qr/^$/ ] ],
		[ 'length too small', "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}{}", [ 201, 1, qr/^$/ ] ],
		[ 'length of 10 GB', "HTTP/1.1 201 Created\r\nContent-Length: 10737418240\r\n\r\n$ok", $unknown ],
		[ 'chunks', chunked("5\r\n{\"id\"\r\n4\r\n:42}\r\n0\r\n\r\n"), [ 201, 1, qr/^$/ ] ],
		[ 'chunks with trailers', chunked("2\r\n{}\r\n0\r\nac-revision: 8\r\nX: y\r\n\r\n"), [ 201, 1, qr/^$/ ] ],
		[ 'a chunk size of letters', chunked("zz\r\n{}\r\n0\r\n\r\n"), $unknown ],
		[ 'a chunk size beyond 2^63', chunked('f' x 20 . "\r\n{}\r\n0\r\n\r\n"), $unknown ],
		[ 'a negative chunk size', chunked("-2\r\n{}\r\n0\r\n\r\n"), $unknown ],
		[ 'a chunk too short', chunked("ff\r\n{}\r\n0\r\n\r\n"), $unknown ],
		[ 'chunks without end', chunked("2\r\n{}\r\n"), $unknown ],
		[ 'a chunk without its end', chunked("2\r\n{}0\r\n\r\n"), $unknown ],
		[ 'an unknown transfer encoding', "HTTP/1.1 201 Created\r\nTransfer-Encoding: magic\r\n\r\n$ok", $unknown ],

		# compression
		[ 'gzip', http('201 Created', [ 'Content-Encoding: gzip', 'ac-revision: 5' ], $zipped), [ 201, 1, qr/^$/, '5' ] ],
		[ 'gzip of 1 GB', http('201 Created', [ 'Content-Encoding: gzip', 'ac-revision: 5' ], bomb()),
			[ 201, 0, qr/larger than max_response_size/, '5' ] ],
		[ 'gzip of 1 GB in an error', http('400 Bad Request', ['Content-Encoding: gzip'], bomb()), [ 400, 0, qr/larger than max_response_size/ ] ],
		[ 'gzip that is none', http('201 Created', ['Content-Encoding: gzip'], $ok), $unknown ],
		[ 'gzip cut off', http('201 Created', ['Content-Encoding: gzip'], substr($zipped, 0, length($zipped) - 12)), undef ],
		[ 'gzip with a wrong sum', http('201 Created', ['Content-Encoding: gzip'], substr($zipped, 0, -8) . 'x' x 8), $unknown ],
		[ 'gzip twice', http('201 Created', ['Content-Encoding: gzip, gzip'], gzip($zipped)), [ 201, 1, qr/^$/ ] ],
		[ 'gzip, very often', http('201 Created', [ 'Content-Encoding: ' . join(', ', ('gzip') x 50) ], $ok), $unknown ],
		[ 'an unknown encoding', http('201 Created', ['Content-Encoding: magic'], $ok), undef ]);

	foreach my $case (@cases)
	{
		my ($what, $bytes, $expected) = @$case;

		answer($bytes);
		if (defined $expected)
		{
			check_answer("raw, $what", 'raw', $expected, \&raw_posts);
		}
		else
		{
			# versions of libcurl differ: a row with that status, or outcome unknown
			my $name = 'hostile' . ++$count;
			my ($out, $err) = call('raw', $name);
			like("$out$err", qr/^(?:1|2)01\||$unknown/, "raw, $what: a row or an error");
			unlike("$out$err", qr/\Q$password\E/, "raw, $what: the password is not shown");
			is(raw_posts($name), 1, "raw, $what: one POST");
		}
		answer($good);
		my ($out, $err) = call('raw', "next$count");
		is("$out$err", '201|t|7|', "raw, $what: the next call works");
		is(raw_posts("next$count"), 1, "raw, $what: ... with one POST");
		is($session->query('SELECT pg_backend_pid()'), $pid, "raw, $what: the same backend");
	}

	# The service repeats the request, as it is and in other dress: neither password nor bearer is shown.
	foreach my $echo (
		"{\"message\":\"bad password $password\"}", "you sent $password", "{\"message\":\"m\",\"fields\":[\"$password\"]}",
		'{"message":"bearer raw-token-8151 is bad"}', 'Authorization: Bearer raw-token-8151',
		"{\"error\":{\"message\":\"$password\"}}", "{\"passwordSh\":\"$password\"}", "<html>raw-token-8151 $password</html>")
	{
		answer(http('400 Bad Request', [], $echo));
		my $name = 'echo' . ++$count;
		my ($out, $err) = call('raw', $name);
		like($out, qr/^400\|[tf]\|\|./, "an echo is a row: '" . substr($echo, 0, 20) . "'");
		unlike("$out$err", qr/\Q$password\E|raw-token-8151/, '... and does not show the secret');
	}
	answer(http('400 Bad Request', [], "{\"message\":\"new password $password refused\"}"));
	LpUsers::wait_for(sub { lines('closed') == lines('requests') }, 'the end of the connection');
	($out, $err) = $session->run("SELECT status, error FROM lp_reset_password('raw', 5, '$password')");
	like($out, qr/^400\|./, 'an echo of a new password');
	unlike("$out$err", qr/\Q$password\E/, '... does not show it');
	is($node->safe_psql('postgres', "SELECT count(*) FROM lp_requests r WHERE r::text ~ '$password|raw-token-8151'"), '0',
		'no record holds password or bearer');
};

unlike(LpUsers::log_since($node, 0), qr/\Q$password\E|raw-token-8151/, 'nor does the log');

# ------------------------------------------------------------------------------------------------- memory

sub memory
{
	return $session->query(q{SELECT sum(total_bytes), sum(total_bytes) FILTER (WHERE name = 'TopMemoryContext')
		FROM pg_backend_memory_contexts});
}

# Resident memory of the backend in kB; what libcurl allocates is not in any memory context.
sub resident
{
	open(my $in, '<', "/proc/$pid/status") or return;
	my ($kb) = join('', <$in>) =~ /^VmRSS:\s*(\d+)/m;
	return $kb;
}

my @round = grep { length($_->[1]) < 200_000 } @cases;
sub faults
{
	my ($n) = @_;

	foreach my $i (1 .. $n)
	{
		answer($round[ $i % @round ][1]);
		call('raw', "memory$i-$n");
	}
	return;
}

subtest 'memory stays bounded' => sub {
	faults(100);
	my ($all, $top) = split(/\|/, memory());
	my $rss = resident();
	faults(200);
	my ($all_after, $top_after) = split(/\|/, memory());
	cmp_ok($all_after - $all, '<', 512 * 1024, 'memory contexts do not grow over 200 faults');
	cmp_ok($top_after - $top, '<', 128 * 1024, 'nor does TopMemoryContext');
	is($session->query("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'lpusers call'"), '0', 'no context of a call is left');
	SKIP:
	{
		skip 'no /proc', 1 unless defined $rss;
		cmp_ok(resident() - $rss, '<', 16 * 1024, 'the process does not grow over 200 faults');
	}
	is($session->query('SELECT pg_backend_pid()'), $pid, 'it is still the same backend');
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

done_testing();
