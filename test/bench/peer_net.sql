-- peer_net.sql: the account by pg_net, whose worker sends what a transaction has left in its table. Table batch has
-- the bodies.
CREATE PROCEDURE net_send(uri text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM net.http_post(uri, body, headers => '{"Authorization": "Bearer lp-token", "Content-Type": "application/json"}')
	FROM batch;
	COMMIT;
	WHILE (SELECT count(*) FROM net._http_response) < (SELECT count(*) FROM batch) LOOP
		PERFORM pg_sleep(0.002);
		COMMIT;
	END LOOP;
END;
$$;
