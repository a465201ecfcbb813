# Who may do and see what: rights on functions, tables and views, options for superusers, and traps in the search_path.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server();
my $root = LpUsers::session($node);

# Must fail with this SQLSTATE.
sub fails
{
	my ($role, $sql, $code, $what) = @_;
	my $before = $sim->count(path => '/le-users');
	my ($out, $err) = $root->run("SET ROLE $role; $sql");

	like($err, qr/ERROR:  $code:/, "$what: $code");
	is($sim->count(path => '/le-users'), $before, "$what: the account was not asked");
	$root->query('RESET ROLE');
	return;
}

sub works
{
	my ($role, $sql, $what) = @_;
	my ($out, $err) = $root->run("SET ROLE $role; $sql");

	is($err =~ /^(ERROR.*)/m ? $1 : '', '', $what);
	$root->query('RESET ROLE');
	return $out;
}

LpUsers::connect_account($node, $sim);
$root->query(q{CREATE ROLE nobody; CREATE ROLE reader; GRANT USAGE ON FOREIGN SERVER acme TO reader;
	CREATE ROLE writer; GRANT USAGE ON FOREIGN SERVER acme TO writer; CREATE USER MAPPING FOR writer SERVER acme OPTIONS (token 'lp-token');
	CREATE USER MAPPING FOR reader SERVER acme OPTIONS (token 'lp-token');
	GRANT EXECUTE ON FUNCTION lp_create_users, lp_update_users, lp_delete_users, lp_reset_password TO writer});

subtest 'functions need EXECUTE and USAGE' => sub {
	# What PUBLIC may execute; everything else of the extension must be granted.
	is($root->query(q{SELECT string_agg(p.proname, ' ' ORDER BY p.proname) FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass
		AND d.objid = p.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'lpusers'
		WHERE p.proname IN ('lp_create_users', 'lp_update_users', 'lp_delete_users', 'lp_reset_password', 'lp_check', 'lp_validate_users')
		AND has_function_privilege('nobody', p.oid, 'EXECUTE')}), 'lp_check lp_validate_users', 'functions that PUBLIC may execute');
	is($root->query(q{SELECT count(*) FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
		AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'lpusers' WHERE p.prosecdef
		AND NOT coalesce(array_to_string(p.proconfig, ',') ~ '^search_path=(pg_catalog, )?.*pg_temp', false)}), '0',
		'no function runs with the rights of its owner and the search_path of the caller');
	is($root->query(q{SELECT count(*) FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		WHERE c.relkind IN ('r', 'p') AND (has_table_privilege('writer', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		OR has_any_column_privilege('writer', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))}), '0', 'all tables are closed');
	is($root->query(q{SELECT count(*) FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		WHERE CASE c.relkind WHEN 'S' THEN has_sequence_privilege('writer', c.oid, 'USAGE, SELECT, UPDATE') END}), '0', 'all sequences are closed');
	is($root->query(q{SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class c WHERE c.relname IN ('lp_results', 'lp_summary')
		AND has_table_privilege('nobody', c.oid, 'SELECT') AND c.reloptions @> '{security_barrier=true}'}), 'lp_results lp_summary',
		'views that PUBLIC may read, with a security barrier');
	is($root->query(q{SELECT count(*) FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		WHERE c.relkind = 'v' AND has_table_privilege('nobody', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')}), '0', 'no view may be written');

	my $user = LpUsers::user('someone');
	my %calls = (lp_create_users => "lp_create_users('12345678', '$user')", lp_update_users => "lp_update_users('12345678', '$user')",
		lp_delete_users => "lp_delete_users('12345678', '{5}')", lp_reset_password => "lp_reset_password('12345678', 5, 'Start-1234')");
	foreach my $function (sort keys %calls)
	{
		fails($_, "SELECT * FROM $calls{$function}", '42501', "$function as $_") foreach 'nobody', 'reader';
		$root->query("GRANT EXECUTE ON FUNCTION $function TO nobody");
		fails('nobody', "SELECT * FROM $calls{$function}", '42501', "$function with EXECUTE but without USAGE");
		$root->query("REVOKE EXECUTE ON FUNCTION $function FROM nobody");
	}
	works('reader', "SELECT * FROM lp_check('12345678')", 'lp_check with USAGE');
	fails('nobody', "SELECT * FROM lp_check('12345678')", '42501', 'lp_check without USAGE');
	works('nobody', "SELECT * FROM lp_validate_users('{}')", 'lp_validate_users by anybody');
	fails('writer', $_, '42501', substr($_, 0, 40)) foreach 'SELECT * FROM lp_requests', 'DELETE FROM lp_requests', 'TRUNCATE lp_requests',
		'UPDATE lp_requests SET error = NULL', "SELECT nextval('lp_batch_seq')", "SELECT setval('lp_requests_id_seq', 1)",
		'SELECT last_value FROM lp_batch_seq', 'ALTER TABLE lp_requests DISABLE TRIGGER ALL', 'BEGIN; LOCK TABLE lp_requests; ROLLBACK',
		'INSERT INTO lp_requests (account, operation, path, requested_by, send_as, state) VALUES (1, 1, 1, 1, 1, 1)',
		'CREATE TRIGGER t AFTER INSERT ON lp_requests FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()';
	fails('writer', 'DELETE FROM lp_results', '(42501|55000)', 'DELETE FROM lp_results');

	fails('writer', 'SET lpusers.log_calls = off', '42501', 'lpusers.log_calls is for superusers');
	fails('writer', 'ALTER ROLE writer SET lpusers.log_calls = off', '42501', '... also as default of a role');
	fails('writer', 'SET lpusers.no_such = 1', '42602', 'other settings of that name do not exist');
	works('writer', 'SHOW lpusers.log_calls', '... but everybody may read it');
};

subtest 'a role sees its own requests only' => sub {
	$root->query(q{
		CREATE ROLE owner_a; CREATE ROLE asker; CREATE ROLE sender; CREATE ROLE owner_b; CREATE ROLE stranger;
		CREATE ROLE member_owner IN ROLE owner_a; CREATE ROLE member_asker IN ROLE asker; CREATE ROLE member_sender IN ROLE sender;
		CREATE ROLE noinherit NOINHERIT IN ROLE asker, sender, owner_a;
		GRANT EXECUTE ON FUNCTION lp_create_users TO asker, sender, owner_b;
		GRANT USAGE ON FOREIGN DATA WRAPPER lpusers TO owner_a, owner_b;
		GRANT CREATE ON SCHEMA public TO sender});
	foreach my $set ([ 'acme_a', 'owner_a' ], [ 'acme_b', 'owner_b' ])
	{
		my ($server, $owner) = @$set;
		$root->query("CREATE SERVER $server FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url '" . $sim->url .
			"'); ALTER SERVER $server OWNER TO $owner");
	}
	$root->query(q{GRANT USAGE ON FOREIGN SERVER acme_a TO asker, sender; CREATE USER MAPPING FOR asker SERVER acme_a OPTIONS (token 'lp-token');
		CREATE USER MAPPING FOR sender SERVER acme_a OPTIONS (token 'lp-token'); CREATE USER MAPPING FOR owner_b SERVER acme_b OPTIONS (token 'lp-token');
		SET ROLE sender; CREATE FUNCTION as_sender(users jsonb) RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
		AS $$ SELECT status FROM lp_create_users('12345678', users) $$; RESET ROLE});
	is(works('asker', LpUsers::create_sql('direct'), 'asker for himself'), '201|', 'asker creates');
	is(works('asker', "SELECT as_sender('" . LpUsers::user('definer') . "')", 'asker through sender'), '201', 'asker lets sender create');
	is(works('owner_b', LpUsers::create_sql('tenant'), 'another tenant'), '201|', 'another tenant with the same account id creates');

	my %sees = (asker => 'definer direct', sender => 'definer', owner_a => 'definer direct', owner_b => 'tenant', stranger => '',
		member_owner => 'definer direct', member_asker => 'definer direct', member_sender => 'definer', noinherit => '', writer => '');
	foreach my $role (sort keys %sees)
	{
		is(works($role, "SELECT string_agg(split_part(login_name, '\@', 1), ' ' ORDER BY login_name) FROM lp_results", "$role reads lp_results"),
			join(' ', sort split(/ /, $sees{$role})), "$role sees '$sees{$role}'");
		is(works($role, 'SELECT coalesce(sum(requests), 0) FROM lp_summary', "$role reads lp_summary"), scalar(split(/ /, $sees{$role})),
			"$role has as many in lp_summary");
	}
	is($root->query("SELECT count(*) FROM lp_results"), '3', 'a superuser sees all');

	# A function that looks cheap is not given what the view hides.
	is($root->query(q{GRANT CREATE ON SCHEMA public TO owner_b; SET ROLE owner_b;
		CREATE FUNCTION peek(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'peek %', $1; RETURN true; END $$; RESET ROLE}), '', 'a spy');
	foreach my $view ('lp_results WHERE peek(login_name)', 'lp_results WHERE peek(server)', 'lp_summary WHERE peek(account || status)')
	{
		my ($out, $err) = $root->run("SET ROLE owner_b; SELECT count(*) FROM $view; RESET ROLE");
		is(scalar(() = $err =~ /NOTICE/g), 1, "$view: shown one row");
		unlike($err, qr/peek (?:direct|definer|acme_a)/, "$view: only the own");
	}
	# Rights that end.
	$root->query('REVOKE asker FROM member_asker');
	is(works('member_asker', 'SELECT count(*) FROM lp_results', 'no longer a member'), '0', 'who is no longer a member sees nothing');
	$root->query('ALTER SERVER acme_a OWNER TO stranger');
	is(works('owner_a', 'SELECT count(*) FROM lp_results', 'no longer owner'), '0', 'nor who is no longer owner');
	is(works('stranger', 'SELECT count(*) FROM lp_results', 'the new owner'), '2', 'the new owner does');
};

subtest 'objects planted in the search_path are not used' => sub {
	# Everything that our statements name, in a schema that comes first, also before pg_catalog.
	$root->query(q{CREATE ROLE eve; CREATE SCHEMA evil AUTHORIZATION eve; GRANT USAGE ON FOREIGN SERVER acme TO eve;
		CREATE USER MAPPING FOR eve SERVER acme OPTIONS (token 'lp-token');
		GRANT EXECUTE ON FUNCTION lp_create_users, lp_update_users, lp_delete_users, lp_reset_password TO eve;
		CREATE TABLE public.caught (what pg_catalog.text, who pg_catalog.text); GRANT ALL ON public.caught TO PUBLIC; SET ROLE eve;
		CREATE FUNCTION evil.spring(what pg_catalog.text) RETURNS void LANGUAGE sql AS
			$$ INSERT INTO public.caught VALUES (what, current_user::pg_catalog.text) $$;
		CREATE FUNCTION evil.nextval(regclass) RETURNS bigint LANGUAGE sql AS $$ SELECT evil.spring('nextval'); SELECT 1::bigint $$;
		CREATE FUNCTION evil.nextval(pg_catalog.text) RETURNS bigint LANGUAGE sql AS $$ SELECT evil.spring('nextval'); SELECT 1::bigint $$;
		CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT evil.spring('clock_timestamp'); SELECT pg_catalog.now() $$;
		CREATE FUNCTION evil.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE sql AS $$ SELECT evil.spring('unnest'); SELECT 1::bigint $$;
		CREATE FUNCTION evil.unnest(pg_catalog.text[]) RETURNS SETOF pg_catalog.text LANGUAGE sql AS $$ SELECT evil.spring('unnest'); SELECT 'x'::pg_catalog.text $$;
		CREATE FUNCTION evil.eq(bigint, bigint) RETURNS bool LANGUAGE sql AS $$ SELECT evil.spring('='); SELECT true $$;
		CREATE FUNCTION evil.eqt(pg_catalog.text, pg_catalog.text) RETURNS bool LANGUAGE sql AS $$ SELECT evil.spring('='); SELECT true $$;
		CREATE FUNCTION evil.eqn(name, name) RETURNS bool LANGUAGE sql AS $$ SELECT evil.spring('='); SELECT true $$;
		CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
		CREATE OPERATOR evil.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = evil.eqt);
		CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.eqn);
		CREATE TYPE evil.lp_response AS (status pg_catalog.text, ac_revision pg_catalog.text, body pg_catalog.text, error pg_catalog.text, more pg_catalog.text);
		CREATE TYPE evil.text AS (a int, b int);
		CREATE TYPE evil.int8 AS ENUM ('a');
		CREATE TYPE evil.regclass AS ENUM ('lp_batch_seq');
		CREATE TABLE evil.lp_requests (id bigint, state pg_catalog.text);
		CREATE SEQUENCE evil.lp_batch_seq;
		CREATE FUNCTION evil.pg_has_role(oid, pg_catalog.text) RETURNS bool LANGUAGE sql AS $$ SELECT evil.spring('pg_has_role'); SELECT true $$;
		CREATE FUNCTION evil.lp_create_users(pg_catalog.text, users jsonb) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
		RESET ROLE});
	foreach my $path ('evil, public', 'evil, pg_catalog, public', 'evil, pg_temp, pg_catalog, public')
	{
		my $eve = LpUsers::session($node);
		my ($name) = 'eve' . length($path);
		my $id;

		$eve->query("SET ROLE eve; SET search_path = $path");
		is($eve->query("SELECT status OPERATOR(pg_catalog.=) 201, body IS NOT NULL, error IS NULL FROM public.lp_create_users('12345678', '" .
				LpUsers::user($name) . "')"), 't|t|t', "search_path $path: a call works");
		is($eve->query("SELECT (public.lp_create_users('12345678', '" . LpUsers::user("$name-2") . "')).status"), '201',
			"search_path $path: its type is ours");
		is($eve->query("SELECT login_name, state, user_id > 4000 FROM public.lp_results WHERE login_name OPERATOR(pg_catalog.=) '$name\@example.com'"),
			"$name\@example.com|created|t", "search_path $path: on record");
		is($eve->query("SELECT count(*) FROM public.lp_results WHERE requested_by OPERATOR(pg_catalog.<>) 'eve'"), '0',
			"search_path $path: nothing of others");
		is($sim->users_with("$name\@example.com"), 1, "search_path $path: one user");
		$eve->query("CREATE TEMP TABLE lp_requests (id bigint); CREATE TEMP SEQUENCE lp_batch_seq") if $path =~ /temp/;
		is($eve->query("SELECT status FROM public.lp_delete_users('12345678', (SELECT pg_catalog.array_agg(user_id) FROM public.lp_results
			WHERE login_name OPERATOR(pg_catalog.~) '^$name'))"), '200', "search_path $path: another call works");
		$eve->quit;
	}
	is($root->query('SELECT count(*) FROM evil.lp_requests'), '0', 'the table in the other schema is empty');
	is($root->query("SELECT string_agg(DISTINCT what || ' as ' || who, ', ') FROM public.caught"), '', 'no trap sprang');
	# the traps are real
	is($root->query("SET search_path = evil, pg_catalog; SELECT evil.nextval('x'::pg_catalog.text); RESET search_path;
		SELECT count(*) FROM public.caught"), "1\n1", 'the traps would have sprung');
};

subtest 'options for superusers only' => sub {
	$root->query('CREATE ROLE tenant; GRANT USAGE ON FOREIGN DATA WRAPPER lpusers TO tenant');
	fails('nobody', "CREATE SERVER mine FOREIGN DATA WRAPPER lpusers OPTIONS (account '1')", '42501', 'CREATE SERVER without a right to the wrapper');
	works('tenant', "CREATE SERVER mine FOREIGN DATA WRAPPER lpusers OPTIONS (account '1')", 'CREATE SERVER with it');
	my %server_options = (base_url => 'https://example.com', domain_api_url => 'https://example.com', login_url => 'https://example.com',
		token_url => 'https://example.com/token', ca_file => '/etc/passwd', proxy => 'http://127.0.0.1:1', domain => 'example.com');
	foreach my $option (sort keys %server_options)
	{
		fails('tenant', "CREATE SERVER another FOREIGN DATA WRAPPER lpusers OPTIONS (account '1', $option '$server_options{$option}')", '42501',
			"CREATE SERVER with $option");
		fails('tenant', "ALTER SERVER mine OPTIONS (ADD $option '$server_options{$option}')", '42501', "ALTER SERVER ADD $option");
		$root->query("ALTER SERVER mine OPTIONS (ADD $option '$server_options{$option}')");
		fails('tenant', "ALTER SERVER mine OPTIONS (SET $option '$server_options{$option}')", '42501', "ALTER SERVER SET $option");
		works('tenant', "ALTER SERVER mine OPTIONS (DROP $option)", "ALTER SERVER DROP $option");
	}
	foreach my $domain ('liveperson.net', 'evilliveperson.net', 'liveperson.net.example.com', 'va.liveperson.net.', 'example.com', 'va.liveperson.net/x',
		'x@va.liveperson.net', 'va.liveperson.net:8443', '127.0.0.1', 'localhost', 'example.com#.liveperson.net', 'example.com\.liveperson.net')
	{
		fails('tenant', "ALTER SERVER mine OPTIONS (ADD domain '$domain')", '(42501|HV024)', "domain $domain of a tenant");
	}
	works('tenant', "ALTER SERVER mine OPTIONS (ADD domain 'va.ac.liveperson.net')", 'domain under liveperson.net of a tenant');
	works('tenant', "ALTER SERVER mine OPTIONS (SET domain 'VA.AC.LivePerson.NET')", '... in any case of letters');

	foreach my $option ('client_secret_file', 'token_file', 'password_file', 'proxy_password_file')
	{
		my %with = (client_secret_file => "client_id 'x', ", password_file => "username 'x', ", proxy_password_file => "proxy_user 'x', ", token_file => '');
		fails('tenant', "CREATE USER MAPPING FOR tenant SERVER mine OPTIONS ($with{$option}$option '/etc/passwd')", '42501', "CREATE USER MAPPING with $option");
		works('tenant', 'CREATE USER MAPPING FOR tenant SERVER mine', 'an empty mapping');
		fails('tenant', "ALTER USER MAPPING FOR tenant SERVER mine OPTIONS (ADD $option '/etc/passwd')", '42501', "ALTER USER MAPPING ADD $option");
		works('tenant', 'DROP USER MAPPING FOR tenant SERVER mine', 'dropped');
	}
	$root->query("CREATE USER MAPPING FOR tenant SERVER mine OPTIONS (token_file '/tmp/some-file-5512')");
	fails('tenant', "ALTER USER MAPPING FOR tenant SERVER mine OPTIONS (SET token_file '/etc/passwd')", '42501', 'the file of a superuser\'s mapping');
	fails('nobody', "CREATE USER MAPPING FOR nobody SERVER mine OPTIONS (token 'x')", '42501', 'a mapping without a right to the server');
	fails('nobody', "ALTER SERVER mine OPTIONS (SET account '2')", '42501', 'ALTER SERVER of somebody else');
	works('nobody', 'SELECT umoptions FROM pg_user_mappings', 'pg_user_mappings');
	is(works('nobody', "SELECT count(*) FROM pg_user_mappings WHERE umoptions IS NOT NULL AND srvname <> 'mine'", 'as nobody'), '0', 'credentials of others are not seen');

	# An account id never gets into a URL unchecked.
	foreach my $account ('../x', 'a/b', 'a?b', 'a b', '', 'x' x 65, "a\nb", 'ä', '%2e%2e')
	{
		fails('tenant', "ALTER SERVER mine OPTIONS (SET account '$account')", 'HV024', 'account ' . ($account =~ s/[^ -~]/?/gr));
	}
	$root->quit;
};

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

done_testing();
