# Known secrets go every way there is, with every kind of failure; then they are looked for where they must not be.
#
# Each secret is a file outside of the data directory: statements read it with pg_read_file(), so that no literal has it (what
# PostgreSQL does with literals is PostgreSQL's: README, Security). The server logs what it can: DEBUG5, every statement, every
# plan. Looked through are: the log, all that clients were told, the views, pg_stat_*, the command lines of the processes; and,
# when everything is settled and VACUUM FULL and CHECKPOINT are done, the data directory but for its WAL.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Find;
use File::Temp;
use JSON::PP;
use LpPeer;
use LpUsers;
use MIME::Base64;
use Test::More;

my $account = '12345678';
my $files   = File::Temp->newdir();
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

# ---------------------------------------------------------------------------------------------- secrets

my %secrets;
my %name_of;			# by text
my @disguised;			# other forms of a secret

# A new secret of this name; returns its text.
sub new_secret
{
	my ($name) = @_;
	my $text = sprintf('Sek%s-%08x', $name =~ s/\W//gr, int(rand(2**32)));

	$secrets{$name} = $text;
	$name_of{$text} = $name;
	open(my $out, '>', "$files/$name") or die "$files/$name: $!";
	print $out $text;
	close($out);
	return $text;
}

# A new password of a user, as SQL that has its value.
sub password { my ($name) = @_; new_secret($name); return file($name); }
sub file { my ($name) = @_; return "pg_read_file('$files/$name')"; }

# Those that a text has; all look alike, so that one search finds them.
sub found_in
{
	my ($text) = @_;
	my %found = map { $name_of{$_} ? ($name_of{$_} => 1) : () } $text =~ /(Sek\w+-[0-9a-f]{8})/g;

	$found{"disguised: $_"} = 1 foreach grep { index($text, $_) >= 0 } @disguised;
	return join(' ', sort keys %found);
}

# ---------------------------------------------------------------------------------------------- server and account

my $sim = LpUsers::account('--client-secret', new_secret('client_secret'), '--token', new_secret('ready_token'),
	'--password', new_secret('login_password'));
$sim->post('config', { token_token => new_secret('issued_token'), unique => $false });

my $preload = join(', ', grep { my $library = $_; -e "$_/$library.so" for `pg_config --pkglibdir` =~ s/\n//r } 'pg_stat_statements', 'auto_explain');
my $node = LpUsers::server(conf => "lpusers.worker = off\nlpusers.idle_timeout = '200ms'\nlog_min_messages = debug5\nlog_statement = all\n"
	  . "log_min_duration_statement = 0\nlog_min_error_statement = debug5\nlog_error_verbosity = verbose\ndebug_print_parse = on\ndebug_print_plan = on\n"
	  . ($preload ? "shared_preload_libraries = '$preload'\n" : '')
	  . ($preload =~ /statements/ ? "pg_stat_statements.track = all\npg_stat_statements.track_utility = off\n" : '')
	  . ($preload =~ /auto/ ? "auto_explain.log_min_duration = 0\nauto_explain.log_nested_statements = on\nauto_explain.log_analyze = on\nauto_explain.log_verbose = on\n" : ''));
my $tls = $sim->tls_url;
my $root = LpUsers::session($node);
my $told = '';			# all that clients saw

sub run { my ($sql, $session) = @_; my ($out, $err) = ($session // $root)->run($sql); $told .= "$out\n$err\n"; return ($out, $err); }

# What must succeed, and what must fail with this SQLSTATE.
sub query { my ($sql) = @_; my ($out, $err) = run($sql); die $err if $err =~ /ERROR|FATAL/; return $out; }
sub fails { my ($what, $code, $sql) = @_; my ($out, $err) = run($sql); like($err, qr/ERROR:  $code:/, "$what: it failed as it was to"); return; }

run('CREATE EXTENSION pg_stat_statements') if $preload =~ /statements/;
query(qq{
	CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$tls', ca_file '$LpUsers::top/test/certs/ca.pem',
		token_url '$tls/sentinel/api/v2/account/$account/app/token', login_url '$tls', timeout '5s', batch_size '2', max_connections '1');
	CREATE USER MAPPING FOR CURRENT_USER SERVER acme;
	CREATE FUNCTION person(name text, password text, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS \$\$
		SELECT jsonb_build_object('loginName', name || '\@example.com', 'fullName', name, 'nickname', name, 'email', name || '\@example.com',
			'passwordSh', password, 'isEnabled', true, 'maxChats', 3, 'profileIds', ARRAY[1]) || more \$\$;
	CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;
	CREATE FUNCTION secret_of(name text) RETURNS text LANGUAGE sql AS \$\$ SELECT pg_read_file('$files/' || name) \$\$;
	CREATE TABLE hires (name text, secret text); CREATE TABLE sync_hires (name text, secret text)});

# Options that are secrets come from files, too: into the catalog by a statement that is not logged, or as an option *_file.
sub credentials
{
	my (%options) = @_;
	my $values = join(', ', map { /_file$/ ? "$_ '$options{$_}'" : "$_ %L" } sort keys %options);
	my $args = join('', map { /_file$/ ? () : ', ' . (exists $secrets{ $options{$_} } ? file($options{$_}) : "'$options{$_}'") } sort keys %options);

	# the CONTEXT of a message inside of EXECUTE is the statement
	query("DO \$\$ BEGIN SET LOCAL log_min_messages = panic; EXECUTE 'DROP USER MAPPING FOR CURRENT_USER SERVER acme';
		EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (' || \$o\$$values\$o\$ || ')'$args); END \$\$");
	return;
}

sub fault { my (%fault) = @_; $sim->post('faults', { path => '/le-users/users', %fault }); return; }

# ---------------------------------------------------------------------------------------------- every way to authenticate

my %ways = (
	'OAuth'        => { client_id => 'lp-client', client_secret => 'client_secret' },
	'OAuth, file'  => { client_id => 'lp-client', client_secret_file => "$files/client_secret" },
	'token'        => { token => 'ready_token' },
	'token, file'  => { token_file => "$files/ready_token" },
	'Login'        => { username => 'lp-user', password => 'login_password' },
	'Login, file'  => { username => 'lp-user', password_file => "$files/login_password" });

subtest 'no secret is shown by any authentication method' => sub {
	foreach my $way (sort keys %ways)
	{
		credentials(%{ $ways{$way} });
		is(query("SELECT bool_and(ok) FROM lp_check('$account')"), 't', "$way: works");
		foreach my $fault ('echo', 'silence', 'half', 'html', 'not_json', 'reset')
		{
			next if $way =~ /token/;
			query("ALTER SERVER acme OPTIONS (SET timeout '" . ($fault eq 'silence' ? '300ms' : '5s') . "')");
			$sim->post('faults', { path => $way =~ /OAuth/ ? '/app/token' : '/login', action => $fault });
			fails("$way, $fault", '(?:08001|28000)', "SELECT count(*) FROM lp_create_users('$account', person('x', 'Start-1234'))");
			$sim->remove('faults');
		}
		fault(method => 'GET', action => 'echo');
		run("SELECT * FROM lp_check('$account')");
	}
	new_secret('wrong_secret');
	credentials(client_id => 'lp-client', client_secret => 'wrong_secret');
	fails('a wrong client secret', '28000', "SELECT count(*) FROM lp_create_users('$account', person('x', 'Start-1234'))");

	my $pigeon = new_secret('proxy_password');
	push @disguised, encode_base64("carrier:$pigeon", '');
	my $proxy  = LpPeer::start(LpPeer::proxy('carrier', $pigeon));
	query("ALTER SERVER acme OPTIONS (ADD proxy '" . $proxy->url . "')");
	credentials(token => 'ready_token', proxy_user => 'carrier', proxy_password => 'proxy_password');
	is(query("SELECT bool_and(ok) FROM lp_check('$account')"), 't', 'a proxy: works');
	credentials(token => 'ready_token', proxy_user => 'carrier', proxy_password => 'wrong_secret');
	is(query("SELECT bool_and(ok) FROM lp_check('$account')"), 'f', 'a proxy, wrong password: does not');
	query('ALTER SERVER acme OPTIONS (DROP proxy)');
	credentials(%{ $ways{OAuth} });
};

# ---------------------------------------------------------------------------------------------- every way to send a password

# A file for COPY, with the password in it.
sub copy_sql
{
	my ($name) = @_;

	open(my $out, '>', "$files/$name.csv") or die "$files/$name.csv: $!";
	print $out "$name-$_\@example.com,$name-$_\@example.com,x,x,$secrets{$name},t,3,{1}\n" foreach 1 .. 3;
	close($out);
	return "COPY lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids) FROM '$files/$name.csv' (FORMAT csv)";
}

my %ends = (ok => {}, refused => { action => 'echo' }, '503' => { action => 'status', status => 503 }, html => { action => 'html' }, reset => { action => 'reset', applied => $true },
	half => { action => 'half', applied => $true }, '409' => { action => 'status', status => 409, body => '{"message":"no"}' }, silence => { action => 'silence' },
	'not JSON' => { action => 'not_json', status => 201 });

# Cancelled, timed out, terminated in the middle; meanwhile pg_stat_* are looked at.
sub look_around
{
	my ($when) = @_;
	my $views = query("SELECT string_agg(oid::regclass::text, ' ' ORDER BY 1) FROM pg_class WHERE relname LIKE 'pg\\_stat%' AND relkind = 'v'");
	my $text = '';

	foreach my $view (split(/ /, $views), 'lp_results', 'lp_summary', 'lp_progress', 'lp_requests', 'pg_locks', 'pg_prepared_xacts', 'pg_cursors', 'pg_prepared_statements')
	{
		my ($out) = $root->run("SELECT v::text FROM $view v");
		$text .= $out;
	}
	$text .= query('SELECT lp_report()');
	is(found_in($text), '', "$when: no view shows a secret");
	foreach my $cmdline (glob('/proc/[0-9]*/cmdline'))
	{
		open(my $in, '<', $cmdline) or next;
		my $line = do { local $/; <$in> } // '';
		# the stand-in is told its secrets there
		is(found_in($line), '', "$when: no command line shows a secret") if $line !~ /lpsim/ && found_in($line);
	}
	return;
}

subtest 'no password is shown on any path' => sub {
	$sim->post('users', [ map { decode_json($_) } LpUsers::user('changed', id => 5, passwordSh => 'x') ]);
	query("SELECT lp_attach_trigger('sync_hires', '$account', \$\${\"loginName\": \"name || '\@example.com'\", \"email\": \"name\", \"fullName\": \"name\", \"nickname\": \"name\",
		\"passwordSh\": \"public.secret_of(secret)\", \"isEnabled\": \"true\", \"maxChats\": \"3\", \"profileIds\": \"ARRAY[1]\"}\$\$, mode => 'sync')");
	foreach my $end (sort keys %ends)
	{
		my $name = $end =~ s/\W//gr;
		my @ways = (
			[ "direct-$name" => 'POST', sub { "SELECT status, error FROM lp_create_users('$account', person('direct-$name', $_[0]))" } ],
			[ "update-$name" => 'PUT', sub { "SELECT status, error FROM lp_update_users('$account', person('update-$name', $_[0], '{\"id\": 5, \"oldPassword\": \"x\"}'))" } ],
			[ "reset-$name" => 'PUT', sub { "SELECT status, error FROM lp_reset_password('$account', 5, $_[0])" } ],
			[ "insert-$name" => 'POST', sub { "INSERT INTO lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids)
				VALUES ('insert-$name\@example.com', 'insert-$name\@example.com', 'x', 'x', $_[0], true, 3, '{1}')" } ],
			[ "returning-$name" => 'POST', sub { "INSERT INTO lp.users (login_name, email, full_name, nickname, entity)
				VALUES ('returning-$name\@example.com', 'returning-$name\@example.com', 'x', 'x', person('returning-$name', $_[0])) RETURNING id, password_sh" } ],
			[ "copy-$name" => 'POST', sub { copy_sql("copy-$name") } ],
			[ "change-$name" => 'PUT', sub { "UPDATE lp.users SET password_sh = $_[0], full_name = 'x' WHERE id = 5" } ],
			[ "sync-$name" => 'POST', sub { "INSERT INTO sync_hires VALUES ('sync-$name', 'sync-$name')" } ]);

		query("ALTER SERVER acme OPTIONS (SET timeout '" . ($end eq 'silence' ? '300ms' : '5s') . "')");
		foreach my $way (@ways)
		{
			my ($secret, $method, $sql) = @$way;
			$sim->remove('faults');
			fault(method => $method, %{ $ends{$end} }) if %{ $ends{$end} };
			my ($out, $err) = run($sql->(password($secret)));
			if ($end eq 'ok') { unlike($err, qr/ERROR/, "$secret: works"); }
			else { is($sim->get('faults')->[0]{struck}, 1, "$secret: the request was struck"); }
		}
	}
	$sim->remove('faults');
	query("ALTER SERVER acme OPTIONS (SET timeout '5s')");

	# What is refused before it is sent, and what is rolled back after it.
	fails('invalid users', '22023', "SELECT * FROM lp_create_users('$account', person('x', " . password('invalid') . ", '{\"maxChats\": \"many\"}'))");
	fails('an invalid column', '22023', "INSERT INTO lp.users (login_name, email, password_sh) VALUES ('x', 'x', " . password('invalid-table') . ')');
	run("SELECT * FROM lp_validate_users(person('x', " . password('validated') . ", '{\"id\": 1}'))");
	run("BEGIN; SELECT status FROM lp_create_users('$account', person('aborted', " . password('aborted') . ')); SAVEPOINT s; '
		  . "SELECT status FROM lp_create_users('$account', person('savepoint', " . password('savepoint') . ')); ROLLBACK TO s; '
		  . "SELECT 1 / 0; ROLLBACK");
	fails('a division afterwards', '22012', "SELECT status / (status - 201) FROM lp_create_users('$account', person('divided', " . password('divided') . '))');

	foreach my $how ('cancel', 'timeout', 'terminate', 'cancel-insert', 'cancel-call')
	{
		my $session = LpUsers::session($node);
		my $pid = $session->query('SELECT pg_backend_pid()');
		my $password = password($how);

		$sim->remove('faults');
		$sim->remove('log');
		fault(method => 'POST', action => 'silence', times => 0);
		$session->run("SET statement_timeout = '1s'") if $how eq 'timeout';
		if ($how eq 'cancel-call') { run("SELECT count(*) FROM lp_enqueue_users('$account', person('$how', $password))"); $session->send('CALL lp_deliver()'); }
		elsif ($how eq 'cancel-insert') { $session->send("INSERT INTO lp.users (login_name, entity) VALUES ('$how\@example.com', person('$how', $password))"); }
		else { $session->send("SELECT status FROM lp_create_users('$account', person('$how', $password))"); }
		LpUsers::wait_for(sub { $sim->count(method => 'POST', path => '/le-users/users') }, 'the request');
		look_around("during $how");
		run("SELECT pg_cancel_backend($pid)") if $how =~ /cancel/;
		run("SELECT pg_terminate_backend($pid)") if $how eq 'terminate';
		my ($out, $err) = $session->take;
		$told .= "$out\n$err\n";
		like($err, qr/57014|57P01/, "$how: it was ended");
	}
	$sim->remove('faults');
};

# ---------------------------------------------------------------------------------------------- the queue

# Files of the data directory, but for the WAL, that have a secret.
sub files_with_secrets
{
	my %found;

	find({ no_chdir => 1, wanted => sub {
		return if !-f $_ || m{/pg_wal/};
		open(my $in, '<:raw', $_) or return;
		my $bytes = do { local $/; <$in> } // '';
		my $secrets = found_in($bytes);
		$found{ s/^\Q${\ $node->data_dir}\E//r } = $secrets if $secrets;
	} }, $node->data_dir);
	return \%found;
}

subtest 'no password of the queue is shown' => sub {
	query("SELECT lp_attach_trigger('hires', '$account', \$\${\"loginName\": \"name || '\@example.com'\", \"email\": \"name\", \"fullName\": \"name\", \"nickname\": \"name\",
		\"passwordSh\": \"public.secret_of(secret)\", \"isEnabled\": \"true\", \"maxChats\": \"3\", \"profileIds\": \"ARRAY[1]\"}\$\$)");
	foreach my $end (sort keys %ends)
	{
		my $name = $end =~ s/\W//gr;

		fault(method => 'POST', login => "queue-$name\@example.com", %{ $ends{$end} }) if %{ $ends{$end} };
		new_secret("trigger-$name");
		query("SELECT count(*) FROM lp_enqueue_users('$account', person('queue-$name', " . password("queue-$name") . '))');
		query("INSERT INTO hires VALUES ('trigger-$name', 'trigger-$name')");
	}
	query("SELECT count(*) FROM lp_enqueue_users('$account', person('queue-bad', " . password('queue-bad') . ", '{\"maxChats\": \"many\"}'))");
	run("BEGIN; SELECT count(*) FROM lp_enqueue_users('$account', person('queue-lost', " . password('queue-lost') . ')); ROLLBACK');
	query('CHECKPOINT');
	my $before = files_with_secrets();
	like(join(' ', values %$before), qr/queue-ok.*/, 'what is queued is in the data directory: the search finds it');

	query("ALTER SERVER acme OPTIONS (SET timeout '300ms')");
	run('CALL lp_deliver()');
	look_around('after CALL');
	query("ALTER SERVER acme OPTIONS (SET timeout '5s'); ALTER SYSTEM SET lpusers.worker = on; SELECT pg_reload_conf()");
	$sim->remove('faults');
	LpUsers::wait_for(sub { query('SHOW lpusers.worker') eq 'on' }, 'the setting');
	LpUsers::wait_for(sub { query("UPDATE lp_requests SET next_attempt_at = clock_timestamp() WHERE state IN ('pending', 'uncertain') AND next_attempt_at > clock_timestamp();
		SELECT _lp_wake(); SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'done', 'failed')") =~ /\b0$/ }, 'the worker to deliver');
	look_around('after the worker');
	is(query("SELECT state FROM lp_requests WHERE login_name = 'trigger-reset\@example.com'"), 'created', 'the worker has delivered');
	run('SELECT lp_worker_stop()');
	LpUsers::wait_for(sub { query('SELECT lp_worker_pid()') eq '' }, 'the worker to leave');
};

subtest 'no settled secret is left in the data directory' => sub {
	is(found_in($told), '', 'no client was told a secret');
	my $log = LpUsers::log_since($node, 0);
	cmp_ok(length($log), '>', 1_000_000, 'the server has logged much');
	is(found_in($log), '', 'the log has no secret') or diag(join("\n", map { my $s = $secrets{$_}; $log =~ /(.*\Q$s\E.*)/ ? substr($1, 0, 300) : () } grep { !/:/ } split(/ /, found_in($log))));

	# After keep_secrets: here at once. The mappings with secrets in the catalog go.
	query("UPDATE lp_requests SET finished_at = finished_at - interval '2 days', held_at = held_at - interval '31 days'; ALTER SYSTEM SET lpusers.worker = off; SELECT pg_reload_conf()");
	LpUsers::wait_for(sub { query('SHOW lpusers.worker') eq 'off' }, 'the setting');
	query('CALL lp_deliver()');
	is(query("SELECT count(*) FROM lp_payloads WHERE body::text ~ 'passwordSh'"), '0', 'no payload has a password');
	query("DROP USER MAPPING FOR CURRENT_USER SERVER acme; CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token_file '$files/ready_token')");
	$node->safe_psql($_, 'VACUUM FULL') foreach 'postgres', 'template1';
	query('CHECKPOINT');
	is_deeply(files_with_secrets(), {}, 'no secret is left in the data directory') or diag(explain(files_with_secrets()));
	look_around('in the end');
	is(query("SELECT bool_and(ok) FROM lp_check('$account')"), 't', 'and it still works, with a secret in a file');
	is(scalar(keys %{ files_with_secrets() }), 0, '... which is in that file only');
	$node->stop;
	is_deeply(files_with_secrets(), {}, 'nor was anything written at the end');
	unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');
	diag(scalar(keys %secrets) . ' secrets, ' . int(length($log) / 1024 / 1024) . ' MB of log');
};

done_testing();
