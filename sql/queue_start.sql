\i sql/worker_off.sql
\i sql/start.sql
\set ECHO none
-- queue_start.sql: what the tests of the queue begin with; itself not a test. No worker, the account of start.sql, and views of
-- and helpers for the queue. queue_finish.sql takes it all away again.
CREATE VIEW queue AS SELECT login_name, state, error, reason FROM lp_requests ORDER BY id;
CREATE VIEW bodies AS SELECT r.login_name, p.body FROM lp_requests r JOIN lp_payloads p ON p.request_id = r.id ORDER BY r.id;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS 'DELETE FROM lp_payloads; DELETE FROM lp_requests';

-- CREATE TRIGGER hook for a table with the columns email, name and job; "more" overrides and adds arguments, null takes one away.
CREATE FUNCTION hook(target regclass, form text, more jsonb DEFAULT '{}', event text DEFAULT 'INSERT') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER hook AFTER %s ON %s %s FOR EACH %s EXECUTE FUNCTION lp_create_users_trigger(%L, %s)', event, target,
		CASE form WHEN 'STATEMENT' THEN 'REFERENCING NEW TABLE AS hired' END, form, coalesce(more->>'account', '12345678'),
		(SELECT string_agg(quote_literal(key || '=' || value), ', ' ORDER BY key) FROM jsonb_each_text(jsonb_strip_nulls('{
			"loginName": "email", "fullName": "name", "nickname": "name", "email": "email", "passwordSh": "''Start-1234''", "isEnabled": "true",
			"maxChats": "3", "profileIds": "ARRAY[1002]", "memberOf": "jsonb_build_object(''agentGroupId'', 2001)"}' || (more - 'account')))));
END $$;

-- The ERROR of a command, and the argument that its context names.
CREATE FUNCTION mistake(command text, OUT state text, OUT message text, OUT detail text, OUT argument text) LANGUAGE plpgsql AS $$
DECLARE
	context text;
BEGIN
	EXECUTE command;
	state := '00000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state := RETURNED_SQLSTATE, message := MESSAGE_TEXT, detail := PG_EXCEPTION_DETAIL, context := PG_EXCEPTION_CONTEXT;
	detail := nullif(detail, '');
	argument := substring(context FROM 'argument "([^\n]*)" of lp_create_users_trigger');
END $$;
\set ECHO all
