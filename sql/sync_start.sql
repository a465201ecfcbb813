\set ECHO none
-- sync_start.sql: what the tests of lp_sync begin with; itself not a test. No worker, the account of start.sql, staff in schema hr
-- with a view over it that is the source of the sync "staff", and "acct", a relation in place of the account.
\i sql/worker_off.sql
\i sql/start.sql
\set ECHO none
TRUNCATE _lp_sync, _lp_sync_plan, _lp_sync_item RESTART IDENTITY;
CREATE SCHEMA hr;
CREATE TABLE hr.staff (key text, login text, email text, name text, nick text, chats numeric, enabled boolean, profile_ids bigint[],
	team bigint, skill_ids bigint[], description text);
CREATE VIEW hr.people AS
	SELECT key, login AS login_name, email, name AS full_name, key AS employee_id, nick AS nickname, enabled AS is_enabled, chats AS max_chats,
		profile_ids, team AS member_of, skill_ids, description, 'Start-' || md5(key) AS password_sh FROM hr.staff;
CREATE TABLE hr.acct (id bigint, login_name text, email text, nickname text, is_enabled boolean, max_chats numeric, profile_ids bigint[],
	member_of bigint, skill_ids bigint[], description text, deleted boolean);

-- A person of the source, and a user who is as the source says; "more" overrides, null takes away.
CREATE FUNCTION hr.join(who text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
	INSERT INTO hr.staff SELECT * FROM jsonb_populate_record(NULL::hr.staff, jsonb_build_object('key', who, 'login', who || '@x.example',
		'email', who || '@x.example', 'name', 'Full ' || who, 'nick', who, 'chats', 3, 'enabled', true, 'profile_ids', '[1002]'::jsonb, 'team', 2001)
		|| more) $$;
CREATE FUNCTION hr.account(user_id bigint, who text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
	INSERT INTO hr.acct SELECT * FROM jsonb_populate_record(NULL::hr.acct, jsonb_build_object('id', user_id, 'login_name', who || '@x.example',
		'email', who || '@x.example', 'nickname', who, 'is_enabled', true, 'max_chats', 3, 'profile_ids', '[1002]'::jsonb, 'member_of', 2001) || more) $$;
-- The link between the two, as if the sync had last sent this.
CREATE FUNCTION hr.link(user_id bigint, who text, state text DEFAULT 'active', by_us boolean DEFAULT true, base jsonb DEFAULT '{}',
	hidden jsonb DEFAULT NULL, since timestamptz DEFAULT now()) RETURNS void LANGUAGE sql AS $$
	INSERT INTO _lp_sync_link (sync, source_key, user_id, login_name, state, by_us, base, hidden, since)
	SELECT id, who, user_id, who || '@x.example', link.state, by_us, base,
		coalesce(hidden, jsonb_build_object('fullName', 'Full ' || who, 'employeeId', who)), since FROM _lp_sync WHERE name = 'staff' $$;
CREATE FUNCTION hr.forget() RETURNS void LANGUAGE sql AS $$
	TRUNCATE hr.staff, hr.acct, _lp_sync_link, _lp_sync_plan, _lp_sync_item, _lp_sync_mark; DELETE FROM lp_payloads; DELETE FROM lp_requests $$;
\set ECHO all
