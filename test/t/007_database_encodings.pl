# Databases of other encodings: the account speaks UTF-8, the database does not.
use strict;
use warnings;
use utf8;
use Encode qw(encode decode);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server();
my %session;

foreach my $encoding ('UTF8', 'LATIN1', 'EUC_JP', 'SQL_ASCII')
{
	my $db = lc($encoding);

	$node->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	$node->safe_psql($db, 'CREATE EXTENSION lpusers');
	LpUsers::connect_account($node, $sim, db => $db);
	$session{$db} = LpUsers::session($node, db => $db, encoding => $encoding eq 'SQL_ASCII' ? 'SQL_ASCII' : 'UTF8');
	is($session{$db}->query('SHOW server_encoding'), $encoding, "database $db");
}

# For the names of tests.
sub ascii { my ($text) = @_; return $text =~ s/([^ -~])/sprintf('<%x>', ord($1))/egr; }

# What the account holds of a login, as characters: lpsim's answers are decoded JSON.
sub held
{
	my ($login) = @_;
	my @found = grep { $_->{loginName} eq $login } @{ $sim->get('users') };

	is(scalar(@found), 1, ascii($login) . ": exists once");
	return $found[0];
}

sub posts { return $sim->count(method => 'POST', path => '/users'); }

# SQL that creates a user: the JSON as characters.
sub create_sql
{
	my ($login, %more) = @_;
	my $json = LpUsers::user('x', loginName => $login, %more);

	return "SELECT status, body->>'nickname', error FROM lp_create_users('12345678', '$json')";
}

# ------------------------------------------------------------------------------------------------- there and back

# EUC_JP lacks the letter, and without an encoding a login is ASCII.
sub prefix { my ($db) = @_; return $db eq 'euc_jp' || $db eq 'sql_ascii' ? '' : 'jörg'; }

subtest 'texts are converted in both directions' => sub {
	my %names = (
		utf8 => [ 'Jürgen Müßig', '日本太郎', 'Ελένη', '😀 🇩🇪', "e\x{301} decomposed", "\x{10FFFD}", 'quote " back \\\\ slash' ],
		latin1 => [ 'Jürgen Müßig', 'ÿ÷×¡', "a\x{a0}b" ],
		euc_jp => [ '日本太郎', 'カタカナ', 'ｶﾅ', 'Ελένη' ],
		sql_ascii => [ 'Jürgen Müßig', '日本太郎', '😀' ]);

	foreach my $db (sort keys %names)
	{
		my $n = 0;

		foreach my $name (@{ $names{$db} })
		{
			my $login = prefix($db) . 'user' . ++$n . "\@$db.example.com";
			my $shown = $name =~ s/\\\\/\\/r;
			my $before = posts();
			my $json = LpUsers::user('x', loginName => $login, nickname => $shown, fullName => $shown);
			my $out = $session{$db}->query(encode('UTF-8',
					"SELECT status, body->>'nickname', error FROM lp_create_users('12345678', '$json')"));

			is(decode('UTF-8', $out), "201|$shown|", "$db: '" . ascii($shown) . "' is created and comes back in the body");
			is(posts() - $before, 1, "$db: one POST");
			my $user = held($login);
			is($user->{nickname}, $shown, "$db: it is held as UTF-8 exactly");
			is($user->{fullName}, $shown, "$db: another attribute too");
			is(decode('UTF-8', $session{$db}->query(encode('UTF-8',
							"SELECT state, status, user_id FROM lp_results WHERE login_name = '$login'"))),
				"created|201|$user->{id}", "$db: the record has the login, and the id that was matched by it");
		}
	}

	# As an escape the same character is the same.
	foreach my $db ('utf8', 'latin1')
	{
		my $json = LpUsers::user('x', loginName => "escape\@$db", nickname => 'NICK') =~ s/NICK/J\\u00fcrgen/r;

		is(decode('UTF-8', $session{$db}->query("SELECT status, body->>'nickname', error FROM lp_create_users('12345678', '$json')")),
			'201|Jürgen|', "$db: a character written as an escape");
		is(held("escape\@$db")->{nickname}, 'Jürgen', "$db: it is held as UTF-8");
	}

	# A new password and a login in an update.
	foreach my $db ('utf8', 'latin1', 'sql_ascii')
	{
		my $user = held(prefix($db) . "user1\@$db.example.com");
		my $password = 'pässwörd-99';
		is($session{$db}->query(encode('UTF-8', "SELECT status, error FROM lp_reset_password('12345678', $user->{id}, '$password')")),
			'200|', "$db: a new password outside of ASCII");
		is(held($user->{loginName})->{passwordSh}, $password, "$db: it is held as UTF-8");
	}
};

# ------------------------------------------------------------------------------------------------- errors of the service

sub fault { my ($status, $body) = @_; $sim->post('faults', { path => '/users', action => 'body', status => $status, body => $body }); return; }
my $message = 'schon da: Müßig, 日本';
my %shown   = (utf8 => $message, sql_ascii => $message, latin1 => 'schon da: Müßig, ??', euc_jp => undef);

subtest 'error messages are converted' => sub {
	foreach my $db (sort keys %shown)
	{
		foreach my $body ("{\"message\":\"$message\",\"internalCode\":44}", "{\"error\":{\"message\":\"$message\"}}", $message)
		{
			fault(400, $body);
			my $before = posts();
			my ($out, $err) = $session{$db}->run(create_sql("refused\@$db"));
			is($err, '', "$db: no error is raised by '" . ascii(substr($body, 0, 12)) . "'");
			is(posts() - $before, 1, "$db: one POST");
			my ($status, $nickname, $error) = split(/\|/, decode('UTF-8', $out));
			is($status, 400, "$db: the status");
			if (defined $shown{$db})
			{
				like($error, qr/^\Q$shown{$db}\E/, "$db: what the service said");
			}
			else
			{
				like($error, qr/^schon da: M.{1,4}ig, 日本/, "$db: what the service said, as far as the encoding has it");
			}
			is(scalar(grep { $_->{loginName} eq "refused\@$db" } @{ $sim->get('users') }), 0, "$db: nobody was created");
			is(decode('UTF-8', $session{$db}->query("SELECT state, error FROM lp_results WHERE login_name = 'refused\@$db'
					ORDER BY id DESC LIMIT 1")), "failed|$error", "$db: the record has the same text");
		}
	}
};

# ------------------------------------------------------------------------------------------------- answers it cannot hold

sub lossy
{
	my ($db, $name, $nickname, $complaint, $escape) = @_;
	my $login = "$name\@$db";
	my $body = "{\"id\":4711,\"loginName\":\"$login\",\"nickname\":\"$nickname\"}";
	my $before = posts();

	$sim->post('faults', { path => '/users', action => 'body', status => 201, body => $body, applied => \1 });
	my ($out, $err) = $session{$db}->run('SELECT status, body, error FROM lp_create_users(\'12345678\', \'' .
		LpUsers::user('x', loginName => $login) . '\')');
	is($err, '', "$db, $name: no error is raised");
	like($out, qr/^201\|\|.*$complaint/, "$db, $name: no body, and an error that says why");
	is(posts() - $before, 1, "$db, $name: one POST");
	held($login);
	is($session{$db}->query("SELECT state, status, evidence FROM lp_results WHERE login_name = '$login'"), 'created|201|answer',
		"$db, $name: the record is there");
	is($session{$db}->query(create_sql("next-$name\@$db")), '201|x|', "$db, $name: the next call works");
	return;
}

subtest 'a response with characters that the database lacks' => sub {
	lossy('latin1', 'lacking', '日本', 'the response cannot be read as JSON: character with byte sequence .* has no equivalent in encoding "LATIN1"');
	lossy('latin1', 'euro', '€', 'has no equivalent in encoding "LATIN1"');
	lossy('latin1', 'escaped', '\\u65e5', 'the response cannot be read as JSON');
	lossy('latin1', 'emoji', '\\ud83d\\ude00', 'the response cannot be read as JSON');
	lossy('euc_jp', 'hangul', '한국', 'has no equivalent in encoding "EUC_JP"');
	lossy('euc_jp', 'emoji', '😀', 'has no equivalent in encoding "EUC_JP"');
	lossy('sql_ascii', 'escaped', 'J\\u00fcrgen', 'the response cannot be read as JSON');
	lossy($_, 'nul', 'a\\u0000b', 'the response cannot be read as JSON') foreach 'utf8', 'latin1', 'euc_jp', 'sql_ascii';
	lossy($_, 'surrogate', '\\ud83d', 'the response cannot be read as JSON') foreach 'utf8', 'latin1';

	# A call within a transaction that goes on: the subtransaction of the conversion leaves it whole.
	is($session{latin1}->query('BEGIN; CREATE TEMP TABLE kept (n int); INSERT INTO kept VALUES (1)'), '', 'a transaction');
	lossy('latin1', 'inside', '日本', 'has no equivalent');
	is($session{latin1}->query('INSERT INTO kept VALUES (2); COMMIT; SELECT sum(n) FROM kept'), '3', 'goes on');

	# Invalid UTF-8 in the answer.
	foreach my $db (sort keys %session)
	{
		my $before = posts();
		$sim->post('faults', { path => '/users', action => 'bad_utf8', status => 201, applied => \1 });
		my ($out, $err) = $session{$db}->run('SELECT status, body, error FROM lp_create_users(\'12345678\', \'' .
			LpUsers::user('x', loginName => "badutf8\@$db") . '\')');
		is($out, '201||the response is not UTF-8', "$db: invalid UTF-8");
		like($err, qr/\AWARNING:  01000: account "\d+" did not name 1 user in its response: outcome unknown\n/, "$db: ... and a warning");
		is(posts() - $before, 1, "$db: one POST");
		held("badutf8\@$db");

		$sim->post('faults', { path => '/users', action => 'bad_utf8', status => 400 });
		($out, $err) = $session{$db}->run('SELECT status, body, error IS NOT NULL FROM lp_create_users(\'12345678\', \'' .
			LpUsers::user('x', loginName => "badutf8r\@$db") . '\')');
		is("$out$err", '400||t', "$db: invalid UTF-8 in a refusal");
	}
};

subtest 'bytes that cannot be sent are refused' => sub {
	foreach my $bytes ("\xfc", "\xc3", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80", "a\xffz")
	{
		my $before = $sim->count();
		my $label = join(' ', map { sprintf('%02x', ord) } split(//, $bytes));
		my ($out, $err) = $session{sql_ascii}->run("SELECT status FROM lp_create_users('12345678', '" .
			(LpUsers::user('x', loginName => 'bytes@x', nickname => 'NICK') =~ s/NICK/$bytes/r) . "')");

		like($err, qr/ERROR:  22021: .*\nDETAIL:  Nothing was sent\./, "SQL_ASCII, bytes $label are refused");
		($out, $err) = $session{sql_ascii}->run("SELECT status FROM lp_reset_password('12345678', 1, 'Passwort-$bytes')");
		like($err, qr/ERROR:  22021: .*\nDETAIL:  Nothing was sent\./, "SQL_ASCII, bytes $label in a password are refused");
		unlike($err, qr/Passwort/, '... and not shown');
		is($sim->count(), $before, "SQL_ASCII, bytes $label: nothing was sent");
	}
	is($session{sql_ascii}->query("SELECT count(*) FROM lp_results WHERE login_name = 'bytes\@x'"), '0', 'nor recorded');

	# A sync blocks the user, and goes on with the others.
	$session{sql_ascii}->query(q{CREATE TABLE people AS SELECT k AS key, k || '@x' AS login_name, k AS full_name, k AS employee_id, n AS nickname
		FROM (VALUES ('bytes', E'a\\xfcz'), ('text', E'a\\xc3\\xbcz')) p (k, n);
		CREATE TABLE there (id bigint, login_name text, is_enabled boolean, nickname text); INSERT INTO there VALUES (1, 'bytes@x', true, ''), (2, 'text@x', true, '');
		SELECT lp_sync_define('people', '12345678', 'people', 'key')});
	is($session{sql_ascii}->query(q{SELECT action, source_key, attribute, reason FROM lp_sync_diff('people', against => 'there')}),
		"adopt|text|nickname|differs\nblocked|bytes||nickname cannot be sent as UTF-8", 'SQL_ASCII: a sync blocks a user with bytes that are no characters');

	foreach my $db (sort keys %session)
	{
		my $before = $sim->count();
		my ($out, $err) = $session{$db}->run(encode('UTF-8', $db eq 'euc_jp' ? "SELECT * FROM lp_check('日本')" :
					"SELECT * FROM lp_check('Müll')"));
		like($err, qr/ERROR:  22023: .*invalid account id/, "$db: an account id outside of ASCII");
		is($sim->count(), $before, "$db: nothing was sent");
	}
};

subtest 'credentials are converted' => sub {
	foreach my $db ('utf8', 'latin1')
	{
		$sim->remove('log');
		$node->safe_psql($db, encode('UTF-8', "SET client_encoding = 'UTF8'; CREATE ROLE ${db}_user;
			GRANT USAGE ON FOREIGN SERVER acme TO ${db}_user;
			CREATE USER MAPPING FOR ${db}_user SERVER acme OPTIONS (token 'tökén')"));
		my ($out, $err) = $session{$db}->run("SET ROLE ${db}_user; SELECT step, ok FROM lp_check('12345678')");
		like($out, qr/^token\|f$/m, "$db: a token outside of ASCII is refused");
		$session{$db}->query('RESET ROLE');
		is($sim->count(path => '/users'), 0, "$db: and not sent");
	}
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');

done_testing();
