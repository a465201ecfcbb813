-- api_versions: later versions of the API, as far as is known: more attributes, dates in ISO 8601, an ETag besides the revision, another scope
\set with_queue on
\set with_tables on
\set with_people on
\i sql/include/start.sql
ALTER SERVER acme OPTIONS (ADD api_version '6.0');
SELECT status FROM lp_create_users('12345678', people('a', 3));
-- what it shows is read as usual; what this version does not know is in a column of its own
ALTER FOREIGN TABLE lp.users ADD COLUMN date_created timestamptz, ADD COLUMN skills jsonb, ADD COLUMN reset_mfa_secret boolean;
SET timezone = 'UTC';
SELECT login_name, member_of, skill_ids, skills, date_created, reset_mfa_secret, date_updated > '2020-01-01' AS updated FROM lp.users
	WHERE entity ? 'dateCreated' ORDER BY id;
SELECT r->>'query' AS query FROM lp.log() r WHERE r->>'method' = 'GET';
-- an update goes by the revision, whichever header has it; what is not set goes back as it came
UPDATE lp.users SET skill_ids = '{3001}', full_name = 'x' WHERE login_name ~ '^a1';
SELECT e->>'if_match' ~ '^\d+$' AS conditional, e->>'query' AS query FROM lp.log() e WHERE e->>'method' = 'PUT';
SELECT login_name, skill_ids, skills FROM lp.users WHERE login_name ~ '^a1' AND entity IS NOT NULL;
-- attributes that no column shows survive
SELECT lp.poke('a1@example.com', '{"badge": {"no": 7}}');
UPDATE lp.users SET nickname = 'again', full_name = 'x' WHERE login_name ~ '^a1';
SELECT u->'nickname' AS nickname, u->'badge' AS badge FROM lp.account WHERE login ~ '^a1';
SELECT lp.requests() \g /dev/null

-- An account that does not take back what it shows says so, once: it is left out from then on, and nothing else is.
CALL lp.config('{"refuse": "dateCreated,skills,profiles,resetMfaSecret"}');
UPDATE lp.users SET nickname = 'learned', full_name = 'x';
SELECT lp.requests();
UPDATE lp.users SET nickname = 'known', full_name = 'x';
SELECT lp.requests();
SELECT login, u->'nickname' AS nickname, u->'badge' AS badge FROM lp.account ORDER BY id;
SELECT operation, state, count(*) FROM lp_requests GROUP BY 1, 2 ORDER BY 1, 2;
-- what the statement sets is refused, and stays what goes back for others
CALL lp.config('{"refuse": "badge"}');
ALTER FOREIGN TABLE lp.users ADD COLUMN badge jsonb;
SELECT * FROM attempt($$UPDATE lp.users SET badge = '1', full_name = 'x' WHERE login_name ~ '^a1'$$);
CALL lp.config('{"refuse": ""}');
UPDATE lp.users SET nickname = 'last', full_name = 'x' WHERE login_name ~ '^a1';
SELECT u->'nickname' AS nickname, u->'badge' AS badge FROM lp.account WHERE login ~ '^a1';
-- what this version knows is never left out
SELECT lp.poke('a2@example.com', '{"lobIds": [4001]}');
CALL lp.config('{"refuse": "lobIds"}');
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE login_name ~ '^a2'$$);
CALL lp.config('{"refuse": ""}');

-- The queue learns likewise; another version is another matter.
SELECT forget();
SELECT lp.requests() \g /dev/null
ALTER SERVER acme OPTIONS (SET api_version '5.0');
CALL lp.config('{"refuse": "dateCreated"}');
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"loginName": "a1@example.com", "maxChats": 5, "fullName": "x"}, {"loginName": "a3@example.com", "maxChats": 6, "fullName": "x"}]');
CALL lp_deliver();
SELECT login_name, state, status, attempts, error FROM lp_requests ORDER BY id;
SELECT r FROM lp.requests() r WHERE r ~ 'PUT';
SELECT login, u->'maxChats' AS max_chats, u->'badge' AS badge FROM lp.account ORDER BY id;
CALL lp.config('{"refuse": ""}');

-- The scope of 6.0 is another one.
CALL lp.config('{"scope": "users.read users.write"}');
ALTER SERVER acme OPTIONS (SET api_version '6.0', ADD ca_file :'ca');
\set token_url :tls_url '/sentinel/api/v2/account/12345678/app/token'
ALTER SERVER acme OPTIONS (ADD token_url :'token_url');
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP token, ADD client_id 'lp-client', ADD client_secret 'lp-client-secret');
SELECT * FROM attempt('SELECT count(*) FROM lp.users');
ALTER SERVER acme OPTIONS (SET api_version '4.0');
SELECT count(*) FROM lp.users;
\i sql/include/finish.sql
