-- create_users_result: the users that the answer to a create names
\set with_tables on
\i sql/include/start.sql
-- What is recorded when the account answers like this to a call that creates a and b, and what the row says.
CREATE FUNCTION answered(body text, login text DEFAULT NULL) RETURNS TABLE (name text, state text, user_id bigint, error text) LANGUAGE plpgsql AS $$
DECLARE
	complaint text;
BEGIN
	PERFORM lp.sim('reset', method => 'POST');
	DELETE FROM lp_requests;
	CALL lp.fault(jsonb_build_object('method', 'POST', 'action', 'status', 'status', 201, 'body', body)::text);
	SELECT c.error INTO complaint FROM lp_create_users('12345678',
		CASE WHEN login IS NULL THEN people('', 2) ELSE people(login, 1) END) c;
	RETURN QUERY SELECT split_part(r.login_name, '@', 1), r.state, r.user_id, complaint FROM lp_requests r ORDER BY r.id;
END $$;

-- in the order of the request, and not
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": 12, "loginName": "2@example.com"}]');
SELECT * FROM answered('[{"id": 12, "loginName": "2@example.com"}, {"id": 11, "loginName": "1@example.com"}]');
-- others between them, in another case, ids as strings, more attributes
SELECT * FROM answered('[{"loginName": "x@example.com", "id": 1}, {"loginName": "2@EXAMPLE.com", "skills": [{"id": 3}], "id": "12"}, {"loginName": "y@example.com", "id": 2}, {"id": 11, "loginName": "1@example.com"}]');
-- not all of them
SELECT * FROM answered('[{"id": 12, "loginName": "2@example.com"}]');
SELECT * FROM answered('{"id": 11, "loginName": "1@example.com"}');
-- no user, or none with an id
SELECT * FROM answered('[]');
SELECT * FROM answered('{}');
SELECT * FROM answered('[{"loginName": "1@example.com"}, {"loginName": null, "id": 12}]');
SELECT * FROM answered('[{"loginName": "1@example.com", "id": null}, {"loginName": "2@example.com", "id": {"id": 5}}]');
-- an error is no user, even one with an id
SELECT * FROM answered('[{"loginName": "1@example.com", "error": {"message": "nope"}}, {"id": 12, "loginName": "2@example.com", "error": null}]');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com", "error": "nope"}, {"id": 12, "loginName": "2@example.com"}]');
-- the user that is left over: another one, one again, and one whose login the account has shortened
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": 77, "loginName": "stranger@example.com"}]');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": 11, "loginName": "1@example.com"}]');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": 12, "loginName": "2@exampl"}]');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": 12, "loginName": "2@e"}]');
SELECT * FROM answered('{"id": 11, "loginName": "shop@example.com"}', 'shop+till');
SELECT * FROM answered('{"id": 11, "loginName": "boss@example.com"}', 'shop+till');
-- ids that cannot be: not positive, one of two users, two of one login
SELECT * FROM answered('[{"id": 0, "loginName": "1@example.com"}, {"id": -12, "loginName": "2@example.com"}]');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": "11", "loginName": "2@example.com"}]');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": 12, "loginName": "2@example.com"}, {"id": 11, "loginName": "x@example.com"}]');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": 12, "loginName": "2@example.com"}, {"id": 13, "loginName": "2@example.com"}]');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": 12, "loginName": "2@example.com"}, {"id": 11, "loginName": "1@example.com"}]');
-- wrong somewhere: believed nowhere
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, {"id": 12, "loginName": "2@example.com"}');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}, 12]');
SELECT * FROM answered('[{"id": 11, "loginName": "1@example.com"}] x');
SELECT * FROM answered('"1@example.com"');
SELECT * FROM answered('');
DROP FUNCTION answered;
-- many, in the opposite order: the time is linear, and a cancel ends it
SELECT lp.sim('reset', method => 'POST') \g /dev/null
DELETE FROM lp_requests;
CALL lp.fault('{"method": "POST", "action": "misname", "form": "reversed", "times": 0}');
SET statement_timeout = '60s';
SELECT c.status FROM lp_create_users('12345678', people('', 20000)) c;
RESET statement_timeout;
SELECT count(*), count(DISTINCT user_id), count(DISTINCT user_id - split_part(login_name, '@', 1)::integer) AS shifts FROM lp_requests WHERE state = 'created';
SELECT lp.sim('faults', method => 'DELETE') \g /dev/null
\i sql/include/finish.sql
