-- queue.sql: the SQL side of the queue's rows in run.sh; worker off, hold_above 0.
CREATE SERVER queue FOREIGN DATA WRAPPER lpusers
	OPTIONS (account '12345678', base_url :'url', hold_above '0', max_connections '8', batch_size '100');
CREATE ROLE bench_queue SUPERUSER;
CREATE USER MAPPING FOR bench_queue SERVER queue OPTIONS (token 'lp-token');
SET ROLE bench_queue;
CREATE TABLE plain (id int PRIMARY KEY, email text, name text, team int, active boolean);
CREATE TABLE hooked (LIKE plain INCLUDING ALL);
SELECT FROM lp_attach_trigger('hooked', '12345678', '{"loginName": "email", "fullName": "name", "nickname": "name",
	"email": "email", "passwordSh": "''Start-1234''", "isEnabled": "active", "maxChats": "3", "profileIds": "ARRAY[1001]"}');

-- Milliseconds of an INSERT of so many rows.
CREATE FUNCTION bench_insert(target text, prefix text, n int) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz := clock_timestamp();
BEGIN
	EXECUTE format('INSERT INTO %I SELECT (SELECT coalesce(max(id), 0) FROM %I) + i, %L || i || ''@example.com'','
				   '''Full Name'', 1, true FROM generate_series(1, $1) i', target, target, prefix) USING n;
	RETURN round((extract(epoch FROM clock_timestamp() - start) * 1e3)::numeric, 1);
END;
$$;

/*
 * What the trigger's job costs at least in SQL: the same INSERT, then the same rows into tables like those of the queue,
 * with no more than the indexes that are needed and nothing to work out. Milliseconds.
 */
CREATE TABLE floor_requests (LIKE lp_requests INCLUDING INDEXES);
DROP INDEX floor_requests_enqueued_at_idx;
CREATE TABLE floor_payloads (LIKE lp_payloads INCLUDING INDEXES);
CREATE FUNCTION bench_floor(prefix text, n int) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	here text := lp_origin();
	key jsonb := '{"id": 10000}';
	body json := '{"loginName":"p1.10000@example.com","fullName":"Full Name","nickname":"Full Name","email":"p1.10000@example.com",'
		'"passwordSh":"Start-1234","isEnabled":true,"maxChats":3,"profileIds":[1001]}';
	start timestamptz;
	ms numeric;
BEGIN
	ms := bench_insert('plain', prefix, n);
	start := clock_timestamp();
	INSERT INTO floor_requests (id, account, operation, path, server, requested_by, send_as, login_name, state, attempts,
		next_attempt_at, origin, source_table, source_key, enqueued_at)
		SELECT i, '12345678', 'create', 'queue', 'queue', 'bench_queue', 'bench_queue', prefix || i || '@example.com',
			'pending', 0, start, here, 'public.hooked', key, start
		FROM generate_series((SELECT coalesce(max(id), 0) + 1 FROM floor_requests),
							 (SELECT coalesce(max(id), 0) + n FROM floor_requests)) i;
	INSERT INTO floor_payloads SELECT i, body FROM generate_series((SELECT coalesce(max(request_id), 0) + 1 FROM floor_payloads),
																	(SELECT coalesce(max(request_id), 0) + n FROM floor_payloads)) i;
	RETURN ms + round((extract(epoch FROM clock_timestamp() - start) * 1e3)::numeric, 1);
END;
$$;
