-- service_discovery: the Domain API is asked where the services of the account live, and is not believed everything
\i sql/include/start.sql
ALTER SERVER acme OPTIONS (DROP base_url, ADD domain_api_url :'tls_url', ADD ca_file :'ca');
-- ports differ
CREATE FUNCTION domain_step(n integer DEFAULT 0) RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT regexp_replace(concat(CASE WHEN ok THEN 'ok: ' END, detail), '127\.0\.0\.1:\d+', '127.0.0.1:PORT')
	FROM lp_check('12345678') WHERE step = 'domain' $$;

-- Found, used, and kept: one question for all requests; lp_check() asks anew.
SELECT status FROM lp_create_users('12345678', person('ann'));
SELECT status FROM lp_create_users('12345678', person('bob'));
SELECT domain_step();
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -oE '"(method|path|query|bearer|tls)":("[^"]*"|true|false)' | paste - - - - -
-- a new session asks anew, of an answer in the other form; the same in a third
\c
\! curl -sSfo /dev/null -d '{"domain_shape":"many"}' $LPSIM_URL/_sim/config
SELECT domain_step(), domain_step();
\! curl -sSf "$LPSIM_URL/_sim/count?path=/service/"

-- What is not believed. The mapping is empty from here on, so that nothing would go there in any case.
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP token);
\set port `printf %s "${LPSIM_TLS_URL##*:}"`
CREATE FUNCTION answers(port text) RETURNS TABLE (n integer, answer text) LANGUAGE sql AS $$
	SELECT row_number() OVER ()::integer, a FROM unnest(ARRAY['example.com', 'evil-liveperson.net', 'liveperson.net',
		'va.ac.liveperson.net.example.com', 'va.ac.liveperson.net:8443', 'va.ac.liveperson.net/path', 'va.ac.liveperson.net?x=1',
		'va.ac.liveperson.net#x', 'example.com#.liveperson.net', 'example.com/.liveperson.net', 'example.com?.liveperson.net',
		'u@va.ac.liveperson.net', 'example.com\@va.ac.liveperson.net', 'x y.liveperson.net',
		E'va.ac.liveperson.net\r\nX-Evil: 1', '.liveperson.net', '', 'localhost', '127.0.0.2', '127.0.0.1/x',
		'u:p@127.0.0.1:' || port, '127.0.0.1:' || port || '?x']) a $$;
CREATE FUNCTION fault(body text) RETURNS text LANGUAGE sql AS $$
	SELECT jsonb_build_object('action', 'body', 'path', '/service/', 'status', 200, 'body', body)::text $$;
\c
\pset format unaligned
\t on
SELECT jsonb_agg(fault(jsonb_build_object('service', 'accountConfigReadWrite', 'baseURI', answer)::text)::jsonb ORDER BY n)
FROM answers(:'port') \g results/domain.tmp
\t off
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log; curl -sSfo /dev/null -d @results/domain.tmp $LPSIM_URL/_sim/faults; rm -f results/domain.tmp
SELECT replace(answer, :'port', 'PORT') AS answer, domain_step(n) FROM answers(:'port') ORDER BY n;
-- each was asked for
\! curl -sSf "$LPSIM_URL/_sim/count?path=/service/"
SELECT count(*) AS asked FROM answers(:'port');
\! curl -sSf "$LPSIM_URL/_sim/faults" | grep -c '"struck":1'

-- A scheme in front is no harm; hosts of the vendor are believed.
\! curl -sSfo /dev/null -d '{"domain_answer":"https://va.ac.liveperson.net"}' $LPSIM_URL/_sim/config
SELECT domain_step();
\c
\! curl -sSfo /dev/null -d '{"domain_answer":"VA.AC.LivePerson.NET"}' $LPSIM_URL/_sim/config
SELECT domain_step();
-- The option "domain" makes the question needless.
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
ALTER SERVER acme OPTIONS (ADD domain 'lp.example.com');
SELECT domain_step();
\! curl -sSf "$LPSIM_URL/_sim/count"
ALTER SERVER acme OPTIONS (DROP domain);
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (ADD token 'lp-token');

-- Answers that are none; failures are not kept.
\c
\! curl -sSfo /dev/null -d '{"domain_answer":null}' $LPSIM_URL/_sim/config
\! curl -sSfo /dev/null -d '[{"path":"/service/","action":"status","status":500},{"path":"/service/","action":"status","status":401},{"path":"/service/","action":"status","status":404},{"path":"/service/","action":"not_json","status":200},{"path":"/service/","action":"empty","status":200},{"path":"/service/","action":"body","body":"[]"},{"path":"/service/","action":"body","body":"{\"baseURI\":null}"},{"path":"/service/","action":"body","body":"{\"baseURIs\":[]}"},{"path":"/service/","action":"body","body":"{\"baseURIs\":[{\"service\":\"agentVep\",\"baseURI\":\"127.0.0.1\"},7,null,{\"baseURI\":\"127.0.0.1\"}]}"},{"path":"/service/","action":"deep"},{"path":"/service/","action":"redirect","location":"https://127.0.0.1:1/"}]' $LPSIM_URL/_sim/faults
SELECT n, domain_step(n) FROM generate_series(1, 11) n;
SELECT state, message, detail, hint FROM attempt($$SELECT lp_create_users('12345678', person('cid'))$$);
\! curl -sSfo /dev/null -d '{"path":"/service/","action":"status","status":401}' $LPSIM_URL/_sim/faults
\c
SELECT state, message, detail, hint FROM attempt($$SELECT lp_create_users('12345678', person('dan'))$$);
\! curl -sSf "$LPSIM_URL/_sim/count?login=dan@example.com"
DROP FUNCTION domain_step(integer);
DROP FUNCTION answers(text);
DROP FUNCTION fault(text);
\i sql/include/finish.sql
