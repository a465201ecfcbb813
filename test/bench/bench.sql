-- bench.sql: the database of run.sh: servers, tables, and what is measured inside of a backend.
CREATE EXTENSION lpusers;

-- One account, reached in different ways by different roles; as bench_fast it is one that costs next to nothing.
CREATE SERVER fast FOREIGN DATA WRAPPER lpusers
	OPTIONS (account '12345678', base_url :'fast_url', hold_above '0', max_connections '8', batch_size '100');
CREATE SERVER plain FOREIGN DATA WRAPPER lpusers
	OPTIONS (account '12345678', base_url :'url', hold_above '0', max_connections '8', batch_size '100');
CREATE SERVER tls FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'tls_url', ca_file :'ca');
CREATE SERVER bundle FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'tls_url', ca_file :'bundle');
CREATE SERVER http2 FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'http2_url', ca_file :'ca');
SELECT format('CREATE ROLE bench_%s SUPERUSER', server),
	   format('CREATE USER MAPPING FOR bench_%s SERVER %1$s OPTIONS (token ''lp-token'')', server)
FROM unnest(ARRAY['fast', 'plain', 'tls', 'bundle', 'http2']) server
\gexec

-- Mebibytes of memory that this backend had at the most.
CREATE FUNCTION bench_peak() RETURNS numeric LANGUAGE sql AS $$
	SELECT round(substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')::numeric / 1024, 1)
$$;

-- Milliseconds that a processor has worked for this backend so far.
CREATE FUNCTION bench_worked() RETURNS numeric LANGUAGE sql AS $$
	SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::numeric / 1e6
$$;

-- Nothing is measured that is not right.
CREATE FUNCTION bench_expect(actual bigint, expected bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	IF actual <> expected THEN
		RAISE EXCEPTION 'found %, expected %', actual, expected;
	END IF;
	RETURN actual;
END;
$$;

-- Users of a call, as the limits write them.
CREATE FUNCTION bench_users(prefix text, call int, users int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_build_object('loginName', format('%s%s.%s@example.com', prefix, call, i),
		'fullName', 'Full Name', 'nickname', 'nick', 'email', format('%s%s.%s@example.com', prefix, call, i),
		'passwordSh', 'Start-1234', 'isEnabled', true, 'maxChats', 3, 'profileIds', jsonb_build_array(1001)))
	FROM generate_series(1, users) i
$$;

-- Microseconds of a call, and for how many of them a processor worked, when so many are made by one query over table
-- "bodies" that returns how many succeeded. The first call of the session is not counted: it connects.
CREATE FUNCTION bench_calls(prefix text, calls int, users int, query text, OUT took numeric, OUT worked numeric)
LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz;
	start_work numeric;
	created bigint;
BEGIN
	CREATE TEMP TABLE bodies ON COMMIT DROP AS SELECT bench_users(prefix, 0, users) AS body;
	EXECUTE query;
	TRUNCATE bodies;
	INSERT INTO bodies SELECT bench_users(prefix, call, users) FROM generate_series(1, calls) call;
	start := clock_timestamp();
	start_work := bench_worked();
	EXECUTE query INTO created;
	worked := round((bench_worked() - start_work) * 1e3 / calls, 1);
	took := round((extract(epoch FROM clock_timestamp() - start) * 1e6 / calls)::numeric, 1);
	PERFORM bench_expect(created, calls);
END;
$$;

-- The HR table, without the trigger and with it: for the fast account, and for the other.
CREATE FUNCTION bench_attach(hr_table regclass) RETURNS text LANGUAGE sql AS $$
	SELECT lp_attach_trigger(hr_table, '12345678', '{"loginName": "email", "fullName": "name", "nickname": "name",
		"email": "email", "passwordSh": "''Start-1234''", "isEnabled": "active", "maxChats": "3",
		"profileIds": "ARRAY[1001]"}')
$$;
SET ROLE bench_fast;
CREATE TABLE plain (id int PRIMARY KEY, email text, name text, team int, active boolean);
CREATE TABLE hooked (LIKE plain INCLUDING ALL);
SELECT FROM bench_attach('hooked');

/*
 * What the trigger's job costs at least in SQL: the same INSERT, then the same rows into tables like those of the queue,
 * with the same indexes and constraints, and nothing to work out.
 */
CREATE TABLE floor_requests (LIKE lp_requests INCLUDING ALL EXCLUDING IDENTITY);
CREATE TABLE floor_payloads (LIKE lp_payloads INCLUDING ALL);
CREATE PROCEDURE bench_floor(n int) LANGUAGE plpgsql AS $$
DECLARE
	here text := lp_origin();
BEGIN
	INSERT INTO plain SELECT i, 'q' || i || '@example.com', 'Full Name', 1, true FROM generate_series(1, n) i;
	INSERT INTO floor_requests (id, account, operation, path, server, server_oid, requested_by, requested_by_oid, send_as,
		send_as_oid, login_name, state, attempts, next_attempt_at, origin, source_table, source_table_oid, source_key, enqueued_at)
		SELECT i, '12345678', 'create', 'queue', 'fast', role, 'bench_fast', role, 'bench_fast', role, 'q' || i || '@example.com',
			'pending', 0, now(), here, 'public.hooked', role, '{"id": 10000}', now()
		FROM generate_series(1, n) i, (SELECT current_user::regrole::oid AS role) r;
	INSERT INTO floor_payloads SELECT i, '{"loginName":"p1.10000@example.com","fullName":"Full Name","nickname":"Full Name",'
		'"email":"p1.10000@example.com","passwordSh":"Start-1234","isEnabled":true,"maxChats":3,"profileIds":[1001]}'
		FROM generate_series(1, n) i;
END;
$$;

-- What a delivery writes down at least, in SQL and all at once: which rows are in flight, what became of them, no payload.
CREATE PROCEDURE bench_drain_floor() LANGUAGE plpgsql AS $$
BEGIN
	UPDATE floor_requests SET state = 'sending', attempts = 1, sent_at = now(), batch = 1;
	COMMIT;
	UPDATE floor_requests SET state = 'created', status = 201, user_id = id, evidence = 'answer', finished_at = now();
	DELETE FROM floor_payloads;
END;
$$;
CREATE SCHEMA fast;
IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER fast INTO fast;
SET ROLE bench_plain;
CREATE TABLE hooked_plain (LIKE plain INCLUDING ALL);
SELECT FROM bench_attach('hooked_plain');

-- The account as tables: as imported, and with the 12 columns that a report may want.
CREATE SCHEMA lp;
IMPORT FOREIGN SCHEMA liveperson FROM SERVER plain INTO lp;
CREATE FOREIGN TABLE lp.twelve (id bigint, login_name text, full_name text, nickname text, email text, is_enabled boolean,
	max_chats int, profile_ids bigint[], skill_ids bigint[], member_of bigint, employee_id text, date_updated timestamp)
	SERVER plain OPTIONS (resource 'users');

-- When each login was enqueued, and when it was seen at the account.
CREATE TABLE commits (login text, at timestamptz);
CREATE PROCEDURE bench_commits(prefix text, n int, pause float8) LANGUAGE plpgsql AS $$
DECLARE
	times timestamptz[];
BEGIN
	FOR i IN 1 .. n LOOP
		INSERT INTO hooked_plain SELECT 1 + count(*), prefix || i || '@example.com', 'Full Name', 1, true FROM hooked_plain;
		times[i] := clock_timestamp();
		COMMIT;
		PERFORM pg_sleep(pause);
	END LOOP;
	INSERT INTO commits SELECT prefix || i || '@example.com', times[i] FROM generate_series(1, n) i;
END;
$$;
