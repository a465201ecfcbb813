-- bench.sql: the SQL side of run.sh.
CREATE SERVER plain FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'url');
CREATE SERVER tls FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'tls', ca_file :'ca');
CREATE ROLE bench_plain SUPERUSER;
CREATE ROLE bench_tls SUPERUSER;
CREATE USER MAPPING FOR bench_plain SERVER plain OPTIONS (token 'lp-token');
CREATE USER MAPPING FOR bench_tls SERVER tls OPTIONS (token 'lp-token');

-- Microseconds of a call that creates so many users, from one statement over a table of bodies made before.
CREATE FUNCTION bench(server text, prefix text, calls int, users int) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz;
	created int;
	stop timestamptz;
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', 'bench_' || server);
	CREATE TEMP TABLE bodies ON COMMIT DROP AS
		SELECT jsonb_agg(jsonb_build_object('loginName', format('%s%s.%s@example.com', prefix, c, i),
			'fullName', 'Full Name', 'nickname', 'nick', 'email', format('%s%s.%s@example.com', prefix, c, i),
			'passwordSh', 'Start-1234', 'isEnabled', true, 'maxChats', 3, 'profileIds', jsonb_build_array(1001))) AS body
		FROM generate_series(1, calls) c, generate_series(1, users) i GROUP BY c;
	PERFORM status FROM lp_delete_users('12345678', '{1}');	-- connected
	start := clock_timestamp();
	SELECT count(*) FILTER (WHERE status = 201) INTO created FROM bodies, LATERAL lp_create_users('12345678', body);
	stop := clock_timestamp();
	IF created <> calls THEN
		RAISE EXCEPTION '% of % calls succeeded', created, calls;
	END IF;
	RETURN round((extract(epoch FROM stop - start) * 1e6 / calls)::numeric, 1);
END;
$$;

-- TLS: the first call of a backend loads the certificates; a later connection of its own must not load them again. ALTER
-- of an option that is not used drops the connections.
CREATE FUNCTION bench_reconnect(n int) RETURNS TABLE (what text, microseconds numeric) LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz;
	times float8[] := '{}';
BEGIN
	SET LOCAL ROLE bench_tls;
	start := clock_timestamp();
	PERFORM status FROM lp_delete_users('12345678', '{1}');
	RETURN QUERY SELECT 'TLS, first call of a backend', round((extract(epoch FROM clock_timestamp() - start) * 1e6)::numeric, 1);
	FOR i IN 1 .. n LOOP
		start := clock_timestamp();
		PERFORM status FROM lp_delete_users('12345678', '{1}');
		times := times || extract(epoch FROM clock_timestamp() - start)::float8;
	END LOOP;
	RETURN QUERY SELECT 'TLS, later calls',
		round((percentile_cont(0.5) WITHIN GROUP (ORDER BY t) * 1e6)::numeric, 1) FROM unnest(times) t;
END;
$$;
