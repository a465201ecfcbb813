-- queue_table_extended: the queue's tables with columns, constraints, triggers and indexes that an administrator has added
\set with_queue on
\i sql/include/start.sql
CREATE FUNCTION by_index(condition text, OUT plan text, OUT rows bigint, OUT really bigint) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL enable_seqscan = off;
	SET LOCAL enable_bitmapscan = off;
	EXECUTE 'EXPLAIN (COSTS off) SELECT * FROM lp_requests WHERE ' || condition INTO plan;
	EXECUTE 'SELECT count(*) FROM lp_requests WHERE ' || condition INTO rows;
	SET LOCAL enable_seqscan = on;
	SET LOCAL enable_indexscan = off;
	EXECUTE 'SELECT count(*) FROM lp_requests WHERE ' || condition INTO really;
	RESET enable_seqscan;
	RESET enable_bitmapscan;
	RESET enable_indexscan;
END $$;
CREATE TABLE conditions (name text, condition text);
INSERT INTO conditions VALUES
	('id', 'id > 0'),
	('due', $$account = '12345678' AND state = 'pending' AND NOT look_first$$),
	('login', $$account = '12345678' AND lower(login_name COLLATE "C") = 'a7@example.com' AND login_name IS NOT NULL AND state IN ('pending', 'held')$$),
	('in flight', $$account = '12345678' AND state IN ('sending', 'uncertain')$$);
-- those of the extension, while rows are queued, and failed, and when some have been sent
SELECT count(*) FROM lp_enqueue_users('12345678', people('a', 120) || jsonb_build_array(person('A1'), person('b1', '{"email": null}'), '{}'));
SELECT c.name, i.* FROM conditions c, by_index(condition) i;
\! printf '{"method":"POST","action":"status","status":503,"login":"a7@example.com"}' | curl -sSfo /dev/null -d @- $LPSIM_URL/_sim/faults
ALTER SERVER acme OPTIONS (ADD batch_size '10');
SET client_min_messages = warning;
CALL lp_deliver();
SELECT state, count(*) FROM lp_requests GROUP BY 1 ORDER BY 1;
SELECT c.name, i.rows, i.really FROM conditions c, by_index(condition) i;
-- blocks that are summed up
SET enable_seqscan = off;
SELECT count(*) = (SELECT count(*) FROM lp_requests WHERE id > 0) AS all_found FROM lp_requests WHERE enqueued_at > now() - interval '1 day';
RESET enable_seqscan;
SELECT forget();
-- an index that an administrator added, also one with a condition, an expression, or a constraint that waits
CREATE INDEX regress_a ON lp_requests (upper(login_name)) WHERE state <> 'failed';
CREATE INDEX regress_b ON lp_requests (attempts, state);
ALTER TABLE lp_payloads ADD CONSTRAINT regress_c UNIQUE (request_id) DEFERRABLE INITIALLY DEFERRED;
SELECT count(*) FROM lp_enqueue_users('12345678', people('c', 50) || jsonb_build_array(person('C1')));
SELECT * FROM by_index($$upper(login_name) LIKE 'C%' AND state <> 'failed'$$);
SELECT * FROM by_index($$attempts = 0 AND state = 'pending'$$);
CALL lp_deliver();
SELECT * FROM by_index($$upper(login_name) LIKE 'C%' AND state <> 'failed'$$);
SELECT * FROM by_index($$attempts = 1$$);
SELECT c.name, i.rows, i.really FROM conditions c, by_index(condition) i;
ALTER TABLE lp_payloads DROP CONSTRAINT regress_c;
DROP INDEX regress_a, regress_b;
SELECT forget();
\set VERBOSITY terse
-- a constraint that an administrator added, when rows are queued and when they are claimed
ALTER TABLE lp_requests ADD CONSTRAINT regress_login CHECK (login_name !~ 'bad');
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('e1'), person('bad1'))); -- ERROR
ALTER TABLE lp_requests DROP CONSTRAINT regress_login;
ALTER TABLE lp_requests ALTER source_table SET NOT NULL;
SELECT count(*) FROM lp_enqueue_users('12345678', person('e2')); -- ERROR
ALTER TABLE lp_requests ALTER source_table DROP NOT NULL;
SELECT count(*) FROM lp_enqueue_users('12345678', person('e3'));
ALTER TABLE lp_requests ADD CONSTRAINT regress_attempts CHECK (attempts < 1);
CALL lp_deliver();
ALTER TABLE lp_requests DROP CONSTRAINT regress_attempts;
SELECT login_name, state, hold, reason FROM lp_requests ORDER BY id;
\! curl -sSf "$LPSIM_URL/_sim/count?login=e3@example.com"; echo
SELECT lp_release('12345678');
CALL lp_deliver();
SELECT * FROM queue;
-- a trigger that refuses a change of one row, with the SQLSTATE of a missing right: the others are sent
SELECT forget();
CREATE FUNCTION regress_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'not this one' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER regress_refuse BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.login_name ~ 'bad' AND NEW.state = 'sending') EXECUTE FUNCTION regress_refuse();
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('h1'), person('bad2'), person('h2')));
CALL lp_deliver();
SELECT login_name, state, hold, reason FROM lp_requests ORDER BY id;
-- the same for a change, by its login, and when it is settled
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"loginName": "h1@example.com", "nickname": "h", "fullName": "F", "employeeId": "1"}, {"loginName": "bad3@example.com", "nickname": "h"}]');
CALL lp_deliver();
SELECT login_name, state, hold, reason FROM lp_requests WHERE operation = 'update' ORDER BY id;
DROP TRIGGER regress_refuse ON lp_requests;
SELECT forget();
CREATE TRIGGER regress_refuse BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.login_name ~ 'bad' AND NEW.state = 'created') EXECUTE FUNCTION regress_refuse();
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('i1'), person('bad4'), person('i2')));
SET client_min_messages = error;
CALL lp_deliver();
SET client_min_messages = warning;
SELECT login_name, state FROM lp_requests ORDER BY id;
DROP TRIGGER regress_refuse ON lp_requests;
DROP FUNCTION regress_refuse();
SELECT forget();
-- a column that is generated, and a trigger that changes a row before it is written, or drops it: queued, and by a call
ALTER TABLE lp_requests ADD regress_upper text GENERATED ALWAYS AS (upper(login_name)) STORED;
CREATE FUNCTION regress_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.source_table := 'changed';
	RETURN CASE WHEN NEW.login_name !~ 'gone' THEN NEW END;
END $$;
CREATE TRIGGER regress_change BEFORE INSERT ON lp_requests FOR EACH ROW EXECUTE FUNCTION regress_change();
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('f1'), person('gone1'), person('f2')));
SELECT status FROM lp_create_users('12345678', person('f3'));
SELECT status FROM lp_create_users('12345678', person('gone2')); -- ERROR
CALL lp_deliver();
SELECT login_name, regress_upper, source_table, state FROM lp_requests WHERE login_name ~ '^(f|gone)' ORDER BY id;
SELECT count(*) AS payloads FROM lp_payloads;
\! curl -sSf "$LPSIM_URL/_sim/count?login=gone2@example.com"; echo
DROP TRIGGER regress_change ON lp_requests;
DROP FUNCTION regress_change();
ALTER TABLE lp_requests DROP regress_upper;
-- a column with a default that must not be null, and statement triggers, also with transition tables: each enqueueing, claim and result
ALTER TABLE lp_requests ADD regress_ticket text NOT NULL DEFAULT 'none';
CREATE TABLE seen (n serial, what text);
CREATE FUNCTION regress_see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_LEVEL = 'ROW' THEN
		INSERT INTO public.seen (what) SELECT 'row ' || TG_OP || ' ' || NEW.state || ' of ' || count(*) FROM fresh;
	ELSE
		INSERT INTO public.seen (what) SELECT 'statement ' || TG_OP || ' ' || string_agg(DISTINCT state, ' ') || ' ' || count(*) FROM fresh HAVING count(*) > 0;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER see_insert AFTER INSERT ON lp_requests REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION regress_see();
CREATE TRIGGER see_update AFTER UPDATE ON lp_requests REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION regress_see();
CREATE TRIGGER see_row AFTER INSERT ON lp_requests REFERENCING NEW TABLE AS fresh FOR EACH ROW EXECUTE FUNCTION regress_see();
CREATE TABLE hired (email text, name text);
SELECT hook('hired', 'STATEMENT');
INSERT INTO hired VALUES ('g1@example.com', 'G'), ('g2@example.com', NULL);
CALL lp_deliver();
SELECT what FROM seen ORDER BY n;
TRUNCATE seen;
SELECT status FROM lp_create_users('12345678', person('g3'));
SELECT what FROM seen ORDER BY n;
SELECT login_name, state, regress_ticket FROM lp_requests WHERE login_name ~ '^g[0-9]' ORDER BY id;
DROP TABLE hired, seen;
DROP TRIGGER see_insert ON lp_requests;
DROP TRIGGER see_update ON lp_requests;
DROP TRIGGER see_row ON lp_requests;
DROP FUNCTION regress_see();
ALTER TABLE lp_requests DROP regress_ticket;
\set VERBOSITY default
RESET client_min_messages;
DROP TABLE conditions;
DROP FUNCTION by_index(text);
\i sql/include/finish.sql
