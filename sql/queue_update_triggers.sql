-- queue_update_triggers: triggers and columns of an administrator see claim and settlement as any UPDATE
\set with_queue on
\i sql/include/start.sql
SET client_min_messages = warning;
CREATE TABLE seen (n serial, what text);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen (what) VALUES (concat_ws(' ', TG_TABLE_NAME, TG_OP, OLD.state, NEW.state, NEW.login_name));
	RETURN NULL;
END $$;
CREATE FUNCTION watch_payload() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen (what) VALUES (concat_ws(' ', TG_TABLE_NAME, TG_OP, OLD.body ->> 'loginName'));
	RETURN OLD;
END $$;
-- triggers that come after
CREATE TRIGGER watch AFTER UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TRIGGER watch AFTER DELETE ON lp_payloads FOR EACH ROW EXECUTE FUNCTION watch_payload();
SELECT count(*) FROM lp_enqueue_users('12345678', people('a', 2));
CALL lp_deliver();
SELECT what FROM seen ORDER BY what COLLATE "C";
TRUNCATE seen;
SELECT forget();
DROP TRIGGER watch ON lp_requests;
DROP TRIGGER watch ON lp_payloads;
TRUNCATE seen;
-- triggers that come before: they may change a row
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.reason := 'seen as ' || NEW.state;
	RETURN NEW;
END $$;
CREATE TRIGGER change BEFORE UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION change();
CREATE TRIGGER watch BEFORE DELETE ON lp_payloads FOR EACH ROW EXECUTE FUNCTION watch_payload();
SELECT count(*) FROM lp_enqueue_users('12345678', people('b', 2));
CALL lp_deliver();
SELECT * FROM queue;
SELECT what FROM seen ORDER BY what COLLATE "C";
SELECT count(*) FROM lp_payloads;
DROP TRIGGER change ON lp_requests;
DROP TRIGGER watch ON lp_payloads;
SELECT forget();
-- or keep it from being claimed: then it is not sent
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.login_name ~ 'c2' THEN
		RETURN NULL;
	END IF;
	IF NEW.login_name ~ 'c3' THEN
		NEW.state := 'held';
		NEW.hold := 'setup';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER keep BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.state = 'sending') EXECUTE FUNCTION keep();
SELECT count(*) FROM lp_enqueue_users('12345678', people('c', 4));
CALL lp_deliver();
SELECT * FROM queue;
\! for i in 1 2 3 4; do curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=c$i@example.com"; echo; done
DROP TRIGGER keep ON lp_requests;
CALL lp_deliver();
SELECT * FROM queue;
SELECT forget();
-- or keep it from being settled: then it is looked up by the next deliverer
CREATE TRIGGER keep BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.state = 'created') EXECUTE FUNCTION keep();
SELECT count(*) FROM lp_enqueue_users('12345678', person('c2x'));
CALL lp_deliver();
SELECT q.*, (SELECT count(*) FROM lp_payloads) AS payloads FROM queue q;
DROP TRIGGER keep ON lp_requests;
CALL lp_deliver();
UPDATE lp_requests SET next_attempt_at = clock_timestamp() WHERE state = 'uncertain';
CALL lp_deliver();
SELECT login_name, state, evidence, (SELECT count(*) FROM lp_payloads) AS payloads FROM lp_requests;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=c2x@example.com"; echo
SELECT forget();
-- a column that an administrator added
ALTER TABLE lp_payloads ADD regress_more integer;
SELECT count(*) FROM lp_enqueue_users('12345678', person('d1'));
CALL lp_deliver();
SELECT * FROM queue;
SELECT count(*) FROM lp_payloads;
ALTER TABLE lp_payloads DROP regress_more;
ALTER TABLE lp_requests ADD regress_more text GENERATED ALWAYS AS (state || attempts) STORED;
SELECT count(*) FROM lp_enqueue_users('12345678', person('d2'));
CALL lp_deliver();
SELECT login_name, state, regress_more FROM lp_requests ORDER BY id;
ALTER TABLE lp_requests DROP regress_more;
RESET client_min_messages;
DROP TABLE seen;
DROP FUNCTION watch(), watch_payload(), change(), keep();
\i sql/include/finish.sql
