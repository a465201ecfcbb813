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
