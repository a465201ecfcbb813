-- peer_http.sql: the account by pgsql-http, over a kept connection.
LOAD 'http';
ALTER DATABASE postgres SET http.keepalive = on;
ALTER DATABASE postgres SET http.timeout_msec = 600000;

CREATE FUNCTION http_account(method text, uri text, body text DEFAULT NULL) RETURNS http_response LANGUAGE sql AS $$
	SELECT http((method, uri, ARRAY[http_header('Authorization', 'Bearer lp-token')],
		CASE WHEN body IS NOT NULL THEN 'application/json' END, body)::http_request)
$$;
