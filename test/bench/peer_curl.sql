-- peer_curl.sql: the account by pg_curl, over a kept connection.
CREATE FUNCTION curl_account(method text, uri text, body text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM curl_easy_reset();
	PERFORM curl_header_append('Authorization', 'Bearer lp-token');
	PERFORM curl_header_append('Content-Type', 'application/json');
	PERFORM curl_easy_setopt_url(uri);
	PERFORM curl_easy_setopt_customrequest(method);
	PERFORM curl_easy_setopt_postfields(convert_to(body, 'UTF8'));
	PERFORM curl_easy_perform();
	RETURN convert_from(curl_easy_getinfo_data_in(), 'UTF8');
END;
$$;
