-- reference.sql: docs/reference.md, written by test/make_reference from what a database with the extension says of itself,
-- and from table "option_defs", which test/make_reference fills with the options of src/options/option.c.

\pset format unaligned
\pset tuples_only on
\pset fieldsep ''

\qecho '# Reference'
\qecho
\qecho 'Written by `test/make_reference` from the comments of the database objects, the table of options in `src/options/option.c` and the settings of the server. Do not edit it. How the parts work together: [functions](functions.md), [queue](queue.md), [foreign tables](foreign-tables.md).'
\qecho
\qecho '[Functions](#functions-and-procedures) · [Types](#types) · [Views](#views) · [Tables](#tables) · [Server options](#server-options) · [User-mapping options](#user-mapping-options) · [Foreign-table options](#options-of-foreign-tables-and-their-columns) · [Settings](#settings) · [SQLSTATEs](#sqlstates)'

-- text that stands in a cell of a table
CREATE FUNCTION pg_temp.cell(words text) RETURNS text LANGUAGE sql
	RETURN replace(replace(coalesce(words, ''), '|', '\|'), E'\n', ' ');

-- what belongs to the extension
CREATE TEMPORARY VIEW members AS
SELECT d.classid, d.objid
FROM pg_depend d
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'lpusers');

CREATE TEMPORARY VIEW routines AS
SELECT p.oid, p.proname, p.prokind,
	   -- as one writes it: no casts of defaults, no IN
	   p.proname || '(' || regexp_replace(pg_get_function_arguments(p.oid), '::[a-z]+|\mIN ', '', 'g') || ')' AS call,
	   nullif(pg_get_function_result(p.oid), '') AS result,
	   obj_description(p.oid, 'pg_proc') AS comment,
	   EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
			   WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE') AS is_public
FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

\qecho
\qecho '## Functions and procedures'
\qecho
\qecho 'PUBLIC: may every role execute it? Other functions have to be granted; see [Security](security.md#who-may-do-what).'
\qecho
\qecho '| name and arguments | returns | PUBLIC | what it does |'
\qecho '|---|---|---|---|'
SELECT '| `' || CASE prokind WHEN 'p' THEN 'CALL ' ELSE '' END || pg_temp.cell(call) || '` | '
	   || coalesce('`' || pg_temp.cell(result) || '`', '–') || ' | ' || CASE WHEN is_public THEN 'yes' ELSE 'no' END
	   || ' | ' || pg_temp.cell(comment) || ' |'
FROM routines
WHERE comment NOT LIKE 'internal:%'
ORDER BY proname COLLATE "C", call COLLATE "C";

\qecho
\qecho 'Internal, and free to change:'
SELECT string_agg('`' || proname || '`', ', ' ORDER BY proname COLLATE "C") || '.'
FROM (SELECT DISTINCT proname FROM routines WHERE comment LIKE 'internal:%') i;

-- tables, views and composite types: a heading, the comment, the columns
CREATE TEMPORARY VIEW relations AS
SELECT c.oid, c.relname, c.relkind, obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
WHERE c.relkind IN ('r', 'v')
UNION ALL
SELECT t.typrelid, t.typname, 'c', obj_description(t.oid, 'pg_type')
FROM pg_type t JOIN members m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
WHERE t.typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c');

CREATE FUNCTION pg_temp.section(kinds "char"[]) RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC
	SELECT format(E'\n### %s\n\n%s.\n\n| column | type | meaning |\n|---|---|---|\n', r.relname, regexp_replace(r.comment, '^[a-z](?!p_)', upper(left(r.comment, 1))))
		   || string_agg(format('| `%s` | %s | %s |', a.attname, format_type(a.atttypid, a.atttypmod),
								pg_temp.cell(col_description(r.oid, a.attnum))), E'\n' ORDER BY a.attnum)
	FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
	WHERE r.relkind = ANY (kinds)
	GROUP BY r.relname, r.comment
	ORDER BY r.relname COLLATE "C";
END;

\qecho
\qecho '## Types'
SELECT pg_temp.section('{c}');

\qecho
\qecho '## Views'
\qecho
\qecho 'Every role may read them. Each shows the requests that the current user made, that are sent with its credentials, or that belong to a server it owns.'
SELECT pg_temp.section('{v}');

\qecho
\qecho '## Tables'
\qecho
\qecho 'Only the owner of the extension has rights on them.'
SELECT pg_temp.section('{r}');

-- what the options mean; a name is there once for each kind of object that has it
CREATE TEMPORARY TABLE option_meanings (catalog text, name text, meaning text);
INSERT INTO option_meanings VALUES
	('server', 'account', 'Account id (site id).'),
	('server', 'domain', 'Host of the account-config service. Default: the Domain API is asked, and its response is kept for an hour. A role that is not a superuser may only name a host under `liveperson.net`.'),
	('server', 'base_url', 'Origin that is used instead of a domain, for a gateway or a test. Only here is `http://` allowed.'),
	('server', 'domain_api_url', 'Origin of the Domain API.'),
	('server', 'login_url', 'Origin of the Login service. Default: looked up.'),
	('server', 'token_url', 'URL of the OAuth 2.0 token endpoint. Default: looked up.'),
	('server', 'api_version', 'Value of `v=` in each request.'),
	('server', 'connect_timeout', 'Maximum time to connect.'),
	('server', 'timeout', 'Maximum time of a whole request; a delivery uses at most 5 min. For the listing of a foreign table: maximum time without data.'),
	('server', 'batch_size', 'Users in one request. Queue and foreign tables.'),
	('server', 'max_connections', 'Requests at the same time. Queue and foreign tables.'),
	('server', 'rate_limit', 'Requests per second of a delivery; 0: no limit.'),
	('server', 'max_retries', 'Retries of a queued request after a failure that may pass.'),
	('server', 'max_response_size', 'Maximum size of a response that is kept in memory. A larger body is dropped; `status` is still returned.'),
	('server', 'max_list_size', 'Maximum size of a listing of a foreign table. A larger one is an error.'),
	('server', 'hold_above', 'Number of users that triggers may queue for the account in one transaction. The statement that exceeds it, and later ones of the transaction, are held; 0: no limit.'),
	('server', 'delivery', '`paused`: the queue is kept, and nothing is delivered.'),
	('server', 'require_password', '`off`: `passwordSh` may be missing when a user is created, for accounts with single sign-on.'),
	('server', 'if_match', '`off`: UPDATE and DELETE of a foreign table are sent although the responses of the account carry no revision. Changes by other clients in the meantime are then not noticed.'),
	('server', 'updatable', '`off`: foreign tables are read-only, unless the table has the option with `on`.'),
	('server', 'ca_file', 'Certificate authorities, PEM. Default: those of the system.'),
	('server', 'proxy', 'Proxy. Environment variables such as `https_proxy` are ignored.'),
	('mapping', 'client_id', 'OAuth 2.0 client credentials (recommended): the client id.'),
	('mapping', 'client_secret', 'OAuth 2.0 client credentials: the secret.'),
	('mapping', 'client_secret_file', 'File with the secret.'),
	('mapping', 'token', 'A bearer token that was obtained elsewhere.'),
	('mapping', 'token_file', 'File with the bearer token.'),
	('mapping', 'username', 'Login service: name of the user.'),
	('mapping', 'password', 'Login service: password.'),
	('mapping', 'password_file', 'File with the password.'),
	('mapping', 'proxy_user', 'User name for the proxy of the server.'),
	('mapping', 'proxy_password', 'Password for the proxy.'),
	('mapping', 'proxy_password_file', 'File with the password for the proxy.'),
	('table', 'resource', 'What the table shows. All but `users` are read-only.'),
	('table', 'updatable', '`off`: INSERT, UPDATE and DELETE are refused. Default: that of the server.'),
	('column', 'attribute', 'Attribute of the API. Default: the name of the column, `login_name` as `loginName`. `*`: the whole entity, as jsonb.');

CREATE FUNCTION pg_temp.options(of_catalog text) RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC
	SELECT format('| `%s` | %s | %s | %s | %s |', coalesce(d.name, m.name || ' (no such option)'), coalesce('`' || d.start || '`', CASE WHEN name IN ('account', 'resource') THEN 'required' ELSE '–' END), d.range,
				  CASE WHEN d.superuser THEN 'yes' ELSE 'no' END, pg_temp.cell(m.meaning))
	FROM (SELECT * FROM option_defs WHERE catalog = of_catalog) d
		FULL JOIN (SELECT * FROM option_meanings WHERE catalog = of_catalog) m USING (name)
	ORDER BY d.ordinal;
END;

\qecho
\qecho '## Server options'
\qecho
\qecho 'Durations and sizes need a unit: `500ms`, `5s`, `64MB`. An option with "superuser only" may only be set by a superuser; while a server has one, only a superuser may change any option of that server.'
\qecho
\qecho '| option | default | values | superuser only | meaning |'
\qecho '|---|---|---|---|---|'
SELECT pg_temp.options('server');

\qecho
\qecho '## User-mapping options'
\qecho
\qecho 'Use one complete way to authenticate: `client_id` and `client_secret`, or `token`, or `username` and `password`. Give each secret as a value or as a file, not both. A file has one line, at most 64 kB, and must be readable by the operating-system user of the server. It is read when a bearer token is needed.'
\qecho
\qecho '| option | default | values | superuser only | meaning |'
\qecho '|---|---|---|---|---|'
SELECT pg_temp.options('mapping');

\qecho
\qecho '## Options of foreign tables and their columns'
\qecho
\qecho '| option | default | values | superuser only | meaning |'
\qecho '|---|---|---|---|---|'
SELECT pg_temp.options('table');
SELECT pg_temp.options('column');

\qecho
\qecho '## Settings'
\qecho
\qecho '`lpusers.databases` exists only when the library is in `shared_preload_libraries`. Example: `lpusers.databases = ''hr, "HR2"''`.'
\qecho
\qecho '| setting | type | default | values | changed by | meaning |'
\qecho '|---|---|---|---|---|---|'
LOAD 'lpusers';
-- a number with its unit, the largest that fits
CREATE FUNCTION pg_temp.amount(n text, unit text) RETURNS text LANGUAGE sql
	RETURN CASE WHEN n = '0' THEN '0' WHEN unit = 's' AND n::bigint % 86400 = 0 THEN n::bigint / 86400 || 'd'
				WHEN unit = 'ms' AND n::bigint % 1000 = 0 THEN n::bigint / 1000 || 's' ELSE n || coalesce(unit, '') END;
SELECT format('| `%s` | %s | %s | %s | %s | %s |', name, vartype,
			  CASE WHEN boot_val = '' THEN 'none' WHEN vartype = 'integer' THEN '`' || pg_temp.amount(boot_val, unit) || '`'
				   ELSE '`' || pg_temp.cell(boot_val) || '`' END,
			  CASE WHEN enumvals IS NOT NULL THEN array_to_string(enumvals, ', ')
				   WHEN vartype = 'integer' THEN pg_temp.amount(min_val, unit) || ' to ' || pg_temp.amount(max_val, unit)
				   WHEN vartype = 'bool' THEN 'on, off' ELSE 'names of databases' END,
			  CASE context WHEN 'user' THEN 'any user, SET' WHEN 'superuser' THEN 'superuser, SET' WHEN 'sighup' THEN 'reload' WHEN 'postmaster' THEN 'restart' ELSE context END,
			  pg_temp.cell(concat_ws(' ', short_desc, extra_desc)))
FROM pg_settings
WHERE name LIKE 'lpusers.%'
ORDER BY name COLLATE "C";

\qecho
\qecho '## SQLSTATEs'
\qecho
\qecho 'Of errors that `lpusers` raises. "Sent": was anything sent to the account? What a row of `status` and `error` means is in [functions](functions.md#results-and-errors).'
\qecho
\qecho '| SQLSTATE | meaning | sent | what to do |'
\qecho '|---|---|---|---|'
SELECT format('| %s | %s | %s | %s |', code, pg_temp.cell(meaning), pg_temp.cell(sent), pg_temp.cell(action))
FROM (VALUES
	('0A000', 'PREPARE TRANSACTION after a call; `mode=sync` in logical replication; a column, statement or system column (`ctid`, `xmin`) that a foreign table does not support; a libcurl that is too old', 'nothing, or see the WARNING', 'See the HINT.'),
	('08001', 'no connection, or the hosts of the account could not be found or are not trusted', 'nothing', 'Run `lp_check`, then repeat.'),
	('08006', 'no response, or a broken one', 'outcome unknown', 'Check the account before repeating.'),
	('22004', 'an argument is null, or a user of a foreign table has no id', 'nothing', 'See the message.'),
	('22021', 'text that cannot be sent as UTF-8', 'nothing', 'Correct the data.'),
	('22023', 'invalid users, ids, account id, `if_match`, mapping or interval; a request in a state that does not allow the operation', 'nothing', 'The DETAIL names user and attribute.'),
	('22P02', 'a value of the account does not fit the type of its column', '–', 'Declare the column with another type.'),
	('25001', '`CALL lp_deliver()` in a transaction block or a function', 'nothing', 'Send it alone, with autocommit.'),
	('25006', 'a READ ONLY transaction or a standby', 'nothing', 'Use the primary.'),
	('28000', 'no server or no user mapping for the account, or refused credentials', 'nothing', 'See the HINT; run `lp_check`.'),
	('39P01', '`lp_create_users_trigger()` is not called as an AFTER trigger for INSERT or UPDATE', 'nothing', 'Use `lp_attach_trigger`.'),
	('40001', 'a write of a foreign table: another client changed the user, or changed the account at every try', 'see the WARNING', 'Repeat the statement.'),
	('42501', 'no EXECUTE, no USAGE on the server, not the owner, an option for superusers, or a trigger of another role on the tables of the queue', 'nothing', 'GRANT, or see the HINT.'),
	('42602', 'a name for a trigger that is empty', 'nothing', 'Give a name.'),
	('42622', 'a name for a trigger that is too long', 'nothing', 'See the HINT.'),
	('42704', 'no such role, server, trigger or extension', 'nothing', 'See the message.'),
	('42710', 'the table has such a trigger already', 'nothing', '`lp_detach_trigger` first, or give another `name`.'),
	('42809', 'a view or a temporary table cannot have the trigger', 'nothing', 'Use an ordinary or a partitioned table.'),
	('42703', 'the key of a sync is no column of its source', 'nothing', 'Name a column of the source.'),
	('42883', 'a function of the extension is missing', 'nothing', 'DROP EXTENSION and create it again.'),
	('42P01', 'a table of the extension is missing, or the queue was dropped during a delivery', 'see the message', 'DROP EXTENSION and create it again.'),
	('42P08', 'more than one server for the account, or several triggers that fit', 'nothing', 'Keep one server for the role; name the trigger.'),
	('44000', 'a row violates the WITH CHECK OPTION of a view', 'see the WARNING', 'Correct the data.'),
	('53000', 'no file descriptor is left for a connection', 'nothing', 'Raise `max_files_per_process` or the limit of the operating system.'),
	('53200', 'out of memory', 'see the WARNING', 'Lower `batch_size` or `max_response_size`.'),
	('53400', 'the Domain API or the token service asks to wait', 'nothing', 'Repeat later.'),
	('54000', 'more users than `lpusers.max_changes`, or a list larger than `max_list_size`', 'nothing, or see the DETAIL', 'Check the condition; then `SET lpusers.max_changes`.'),
	('55000', 'an UPDATE that would erase attributes that the API hides; a deleted user; a read-only foreign table; responses without a revision', 'nothing', 'See the HINT.'),
	('55P03', 'the revision of the account was not free within `timeout`', 'nothing, or see the DETAIL', 'Repeat the statement.'),
	('57014', 'cancel or `statement_timeout`', 'see the WARNING; without one, nothing', 'Check the account before repeating.'),
	('57P01', 'the session was terminated', 'see the log of the server', 'Check the account before repeating.'),
	('HV000', 'a foreign table: the account refused the request', 'see the DETAIL', 'The DETAIL names the user.'),
	('HV00D', 'unknown option', 'nothing', 'See the HINT.'),
	('HV00J', 'a required option is missing', 'nothing', 'See the HINT.'),
	('HV00Q', 'IMPORT FOREIGN SCHEMA of another schema than `liveperson`', 'nothing', 'Use `liveperson`.'),
	('HV00R', 'IMPORT FOREIGN SCHEMA … LIMIT TO a table that does not exist', 'nothing', 'See the message.'),
	('HV024', 'invalid value of an option', 'nothing', 'See the DETAIL.')) s (code, meaning, sent, action)
ORDER BY code COLLATE "C";
