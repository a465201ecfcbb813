-- queue_duplicate_logins: which logins are unfinished in the queue, however many are asked for
\set with_queue on
\i sql/include/start.sql
CREATE FUNCTION wrong() RETURNS TABLE (login_name text, error text) LANGUAGE sql AS $$ SELECT login_name, error FROM lp_requests WHERE state = 'failed' ORDER BY id $$;
SELECT count(*) FROM lp_enqueue_users('12345678', people('a', 3));
-- few: looked up one by one
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('A2'), person('b1')));
SELECT * FROM wrong();
-- many, for an index of so few pages: it is read through. Twice in the statement, too.
SELECT count(*) FROM lp_enqueue_users('12345678', people('c', 300) || jsonb_build_array(person('a3'), person('B1'), person('C7')));
SELECT * FROM wrong();
-- many pages, few logins, and many
SELECT count(*) FROM lp_enqueue_users('12345678', people('d', 1000));
SELECT pg_relation_size('lp_requests_logins') > 4 * 8192 AS pages;
DELETE FROM lp_requests WHERE state = 'failed';
SELECT count(*) FROM lp_enqueue_users('12345678', people('d', 3));
SELECT count(*) FROM lp_enqueue_users('12345678', people('C', 300) || people('e', 300));
SELECT error, count(*) FROM wrong() GROUP BY 1;
-- what is finished, discarded, or was rolled back is free again
DELETE FROM lp_requests WHERE state = 'failed';
UPDATE lp_requests SET state = 'created', finished_at = now(), next_attempt_at = NULL WHERE login_name = 'a1@example.com';
SELECT lp_discard(ARRAY(SELECT id FROM lp_requests WHERE login_name = 'a2@example.com'));
BEGIN;
SELECT count(*) FROM lp_enqueue_users('12345678', person('f1'));
ROLLBACK;
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('a1'), person('a2'), person('a3'), person('f1')));
SELECT * FROM wrong();
SELECT forget();
-- in any state that is unfinished
SELECT count(*) FROM lp_enqueue_users('12345678', people('g', 4));
UPDATE lp_requests SET state = s, hold = CASE WHEN s = 'held' THEN 'threshold' END
	FROM (SELECT id AS i, (ARRAY['pending', 'sending', 'uncertain', 'held'])[substring(login_name FROM '\d')::integer] AS s FROM lp_requests) x WHERE id = i;
SELECT count(*) FROM lp_enqueue_users('12345678', people('G', 4));
SELECT login_name, error FROM wrong();
DELETE FROM lp_requests WHERE state = 'failed';
SELECT count(*) FROM lp_enqueue_users('12345678', people('y', 100) || people('G', 4));
SELECT login_name, error FROM wrong();
SELECT forget();
-- two logins with one hash are two logins
\set left 'u140954@example.com'
\set right 'u64190@example.com'
SELECT hashtext(:'left') = hashtext(:'right') AS same;
SELECT count(*) FROM lp_enqueue_users('12345678', person('x', jsonb_build_object('loginName', :'left')));
SELECT count(*) FROM lp_enqueue_users('12345678', person('x', jsonb_build_object('loginName', :'right')));
SELECT count(*) FROM lp_enqueue_users('12345678', people('h', 100) || person('x', jsonb_build_object('loginName', upper(:'right'))));
SELECT * FROM wrong();
SELECT forget();
SELECT count(*) FROM lp_enqueue_users('12345678', person('x', jsonb_build_object('loginName', :'left')));
SELECT count(*) FROM lp_enqueue_users('12345678', people('h', 100) || person('x', jsonb_build_object('loginName', :'right')));
SELECT * FROM wrong();
SELECT forget();
-- another account has logins of its own
CREATE SERVER other FOREIGN DATA WRAPPER lpusers OPTIONS (account 'other', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (token 'lp-token');
SELECT count(*) FROM lp_enqueue_users('12345678', people('i', 2));
SELECT count(*) FROM lp_enqueue_users('other', people('i', 100));
SELECT * FROM wrong();
SELECT forget();
SET client_min_messages = warning;
DROP SERVER other CASCADE;
RESET client_min_messages;
-- what is not ASCII is written in lower case as lower() does
SELECT count(*) FROM lp_enqueue_users('12345678', person('x', '{"loginName": "Ärger"}'));
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('x', '{"loginName": "ÄRGER"}'), person('x', '{"loginName": "ärger"}')));
SELECT count(*) = count(*) FILTER (WHERE state = CASE WHEN twin THEN 'failed' ELSE 'pending' END) AS agree
	FROM (SELECT r.state, EXISTS (SELECT FROM lp_requests o WHERE o.id < r.id AND lower(o.login_name) = lower(r.login_name)) AS twin FROM lp_requests r) x;
DROP FUNCTION wrong();
\i sql/include/finish.sql
