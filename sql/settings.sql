-- settings: the settings of the module
\i sql/include/start.sql
LOAD 'lpusers';
-- one more is there if the library is preloaded
SELECT name, setting, unit, context, vartype, short_desc FROM pg_settings WHERE name ~ '^lpusers\.' AND name <> 'lpusers.databases'
	ORDER BY name;
SET lpusers.nonsense = 1; -- ERROR
CREATE ROLE regress_clerk;
SET ROLE regress_clerk;
SHOW lpusers.log_calls;
SET lpusers.log_calls = off; -- ERROR
RESET ROLE;
SET lpusers.log_calls = perhaps; -- ERROR
SET lpusers.log_calls = off;
SHOW lpusers.log_calls;
SELECT status FROM lp_create_users('12345678', person('unrecorded'));
RESET lpusers.log_calls;
SELECT status FROM lp_create_users('12345678', person('recorded'));
SELECT login_name, state FROM lp_results;
DROP ROLE regress_clerk;
\i sql/include/finish.sql
