-- grants.sql: the role that the exporter connects as: psql DATABASE < monitoring/grants.sql, as a superuser, in each database.
--
-- It sees how many requests and how many users of syncs are in which state and when, and no login, no error, no payload. Choose how it logs in. If the
-- extension is not in public: ALTER ROLE lp_monitor IN DATABASE … SET search_path = …, and GRANT USAGE on that schema.

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lp_monitor') THEN
        CREATE ROLE lp_monitor LOGIN CONNECTION LIMIT 3;
    END IF;
END $$;
GRANT SELECT (account, path, state, server_oid, next_attempt_at, enqueued_at, finished_at) ON lp_requests TO lp_monitor;
GRANT SELECT (id, name, account, state, failures, last_run, differing, waiting, blocked, unverifiable, origin) ON _lp_sync TO lp_monitor;
GRANT SELECT (id, sync, made_at, state) ON _lp_sync_plan TO lp_monitor;
GRANT SELECT (plan, state) ON _lp_sync_item TO lp_monitor;
