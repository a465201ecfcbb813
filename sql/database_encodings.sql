-- database_encodings: databases that are not UTF-8 (text.c); excerpts are shown by response_status
\i sql/include/start.sql
-- an excerpt of what is not JSON: one line, of whole characters, bad bytes made harmless
\! printf '{"action":"body","status":400,"body":"a\\tb\\r\\n  c\\u0001\\u007fd \\u00e4 \\u4e2d \\ud83d\\ude00"}' | curl -sSfo /dev/null -d @- $LPSIM_URL/_sim/faults
SELECT status, error FROM lp_delete_users('12345678', '{1}');
-- nor characters that are not seen or turn the text around: NEL, zero width, bidi controls, line separator, byte order mark
\! printf '{"action":"body","status":400,"body":"a\\u0085b \\u200bc \\u202ed\\u2066e \\u2028f \\ufeffg\\udb40\\udc41h \\u00a0i"}' | curl -sSfo /dev/null -d @- $LPSIM_URL/_sim/faults
SELECT status, error FROM lp_delete_users('12345678', '{1}');
\! printf '{"action":"body","status":400,"body":"{\\"message\\":\\"x\\\\u202ey\\u202ez\\"}"}' | curl -sSfo /dev/null -d @- $LPSIM_URL/_sim/faults
SELECT status, error FROM lp_delete_users('12345678', '{1}');
\! curl -sSfo /dev/null -d '{"action":"bad_utf8","status":400}' $LPSIM_URL/_sim/faults
SELECT status, error FROM lp_delete_users('12345678', '{1}');
SELECT 'cut in whole characters' AS case, jsonb_build_object('action', 'body', 'status', 400, 'body', repeat('é', 300))::text AS fault \gset
\setenv FAULT :fault
\! curl -sSfo /dev/null -d "$FAULT" $LPSIM_URL/_sim/faults
SELECT length(error), error = repeat('é', 200) || '...' AS right FROM lp_delete_users('12345678', '{1}');
-- a document with characters of two, three and four bytes, as they are and as escapes; and one that is none
SELECT 'beyond ASCII' AS case, jsonb_build_object('action', 'body', 'status', 400, 'body', E'{"message":"é 中 😀 \\\\é \\u00e9 \\ud83d\\ude00"}')::text AS fault \gset
\setenv FAULT :fault
\! curl -sSfo /dev/null -d "$FAULT" $LPSIM_URL/_sim/faults
SELECT status, error FROM lp_delete_users('12345678', '{1}');
SELECT 'not an escape' AS case, jsonb_build_object('action', 'body', 'status', 400, 'body', E'{"message":"\\é"}')::text AS fault \gset
\setenv FAULT :fault
\! curl -sSfo /dev/null -d "$FAULT" $LPSIM_URL/_sim/faults
SELECT status, error FROM lp_delete_users('12345678', '{1}');
\i sql/include/finish.sql

\set main :DBNAME
-- LATIN1: what it has is converted both ways, what it lacks is a question mark in a message, and no error.
CREATE DATABASE regress_latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc TEMPLATE template0;
\c regress_latin1
\i sql/include/start.sql
SHOW server_encoding;
SET client_encoding = 'UTF8';
SELECT status, body->>'loginName' AS login, error FROM lp_create_users('12345678', person('zoë', '{"nickname": "Zoë \u00df"}'));
\! curl -sSf "$LPSIM_URL/_sim/user?login=zo%C3%AB@example.com" | grep -oE '"(loginName|nickname)":"[^"]*"'
SELECT login_name, state FROM lp_results;
SELECT status, error FROM lp_create_users('12345678', person('zoë'));
SELECT status, body FROM lp_reset_password('12345678', 4000000001, 'Änderung-1');
\! curl -sSf "$LPSIM_URL/_sim/user?login=zo%C3%AB@example.com" | grep -oE '"passwordSh":"[^"]*"'
\! curl -sSfo /dev/null -d '[{"action":"body","status":400,"body":"{\"message\":\"Zo\u00eb \u4e2d\u6587 \u20ac\"}"},{"action":"body","status":400,"body":"Zo\u00eb \u4e2d\u6587"},{"action":"body","status":201,"body":"{\"loginName\":\"\u4e2d\",\"id\":5}"},{"action":"body","status":201,"body":"{\"loginName\":\"zo\\u00eb\",\"x\":\"\\u4e2d\",\"id\":6}"}]' $LPSIM_URL/_sim/faults
-- PostgreSQL's words for an escape that LATIN1 does not have changed in 16
SELECT n, r.status, r.body, regexp_replace(r.error, '(as JSON): .*', '\1: ...') AS error
FROM generate_series(1, 4) n, LATERAL lp_create_users('12345678', person('l' || n)) r;
\i sql/include/finish.sql
DROP EXTENSION lpusers;
-- SQL_ASCII: bytes that are not UTF-8 are not sent
CREATE DATABASE regress_ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc TEMPLATE template0;
\c regress_ascii
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
\i sql/include/start.sql
SELECT status, body->>'loginName' AS login FROM lp_create_users('12345678', person('ann', '{"nickname": "Zoë"}'));
SELECT state, message FROM attempt($$SELECT lp_create_users('12345678', person('bob', jsonb_build_object('nickname', E'Zo\xeb')))$$);
SELECT state, message FROM attempt($$SELECT lp_reset_password('12345678', 1, E'Zo\xeb')$$);
\! curl -sSf "$LPSIM_URL/_sim/count?login=bob@example.com"; curl -sSf "$LPSIM_URL/_sim/count?method=PUT"
\i sql/include/finish.sql
DROP EXTENSION lpusers;
\c :main
DROP DATABASE regress_latin1;
DROP DATABASE regress_ascii;
