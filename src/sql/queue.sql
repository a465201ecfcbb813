/* queue.sql: the queue. Its statements are in src/queue/; the functions here do not access the extension's tables. */

/*
 * Time until attempt number n + 1 after a failure of the network or the service: 5, 10, 15 s, then 2, 4, 8 min, give or
 * take a tenth.
 */
CREATE FUNCTION @extschema@._lp_backoff(attempts integer) RETURNS interval
	LANGUAGE sql VOLATILE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT ((ARRAY[5, 10, 15, 120, 240, 480])[greatest(1, least(attempts, 6))]::double precision
				* (0.9::double precision + 0.2::double precision * random())) * interval '1 second';
	END;
COMMENT ON FUNCTION @extschema@._lp_backoff(integer) IS 'internal: retry delay after this number of failures of the network or the service';

/*
 * Return true if this origin has the same system and database as "here", on any timeline: then OIDs are comparable.
 */
CREATE FUNCTION @extschema@._lp_is_here(origin text, here text) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT coalesce(split_part(origin, '/', 1) = split_part(here, '/', 1)
						AND split_part(origin, '/', 2) = split_part(here, '/', 2), false);
	END;
COMMENT ON FUNCTION @extschema@._lp_is_here(text, text) IS 'internal: true if two origins are of the same database';

/*
 * Return the OID of a row's role or server in this database: the stored OID if the row was written here, else the OID of
 * the object with its name, or null.
 */
CREATE FUNCTION @extschema@._lp_role_here(origin text, here text, role oid, name text) RETURNS oid
	LANGUAGE sql STABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT CASE WHEN @extschema@._lp_is_here(origin, here)
					THEN (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.oid = role)
					ELSE (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = name::name) END;
	END;
COMMENT ON FUNCTION @extschema@._lp_role_here(text, text, oid, text) IS 'internal: the role of a row of lp_requests in this database';

CREATE FUNCTION @extschema@._lp_server_here(origin text, here text, server oid, name text) RETURNS oid
	LANGUAGE sql STABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT CASE WHEN @extschema@._lp_is_here(origin, here)
					THEN (SELECT s.oid FROM pg_catalog.pg_foreign_server s WHERE s.oid = server)
					ELSE (SELECT s.oid FROM pg_catalog.pg_foreign_server s WHERE s.srvname = name::name) END;
	END;
COMMENT ON FUNCTION @extschema@._lp_server_here(text, text, oid, text) IS 'internal: the server of a row of lp_requests in this database';

/*
 * Merge a newer payload of an update over an older one (src/queue/enqueue_change.h): the newer values take precedence,
 * but the older base is kept, since it has the values before both updates.
 */
CREATE FUNCTION @extschema@._lp_lay_change(older jsonb, newer jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT older || newer || jsonb_build_object(
			'set', coalesce(older -> 'set', '{}'::jsonb) || coalesce(newer -> 'set', '{}'::jsonb),
			'add', (coalesce(older -> 'add', '{}'::jsonb) - w.wished) || coalesce(newer -> 'add', '{}'::jsonb),
			'take', (coalesce(older -> 'take', '{}'::jsonb) - w.wished) || coalesce(newer -> 'take', '{}'::jsonb),
			'base', coalesce(newer -> 'base', '{}'::jsonb) || coalesce(older -> 'base', '{}'::jsonb),
			'hidden', coalesce(older -> 'hidden', '{}'::jsonb) || coalesce(newer -> 'hidden', '{}'::jsonb))
		FROM (SELECT ARRAY(SELECT k FROM jsonb_object_keys(coalesce(newer -> 'set', '{}'::jsonb)) k) AS wished) w;
	END;
COMMENT ON FUNCTION @extschema@._lp_lay_change(jsonb, jsonb) IS 'internal: a payload of an update merged with a newer one';

CREATE FUNCTION @extschema@.lp_enqueue_users(account text, users jsonb) RETURNS SETOF bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_enqueue_users(text, jsonb)
	IS 'queues users to be created after commit with the caller''s credentials; returns the ids of their requests in order';

CREATE FUNCTION @extschema@.lp_enqueue_changes(account text, users jsonb) RETURNS SETOF bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_enqueue_changes(text, jsonb)
	IS 'queues changes of users, named by id or else by loginName, to be merged with the account''s data; returns the ids of their requests in order';

CREATE FUNCTION @extschema@.lp_enqueue_deletes(account text, ids bigint[]) RETURNS SETOF bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_enqueue_deletes(text, bigint[])
	IS 'queues users to be deleted, by id; returns the ids of their requests in order';

CREATE PROCEDURE @extschema@.lp_deliver(account text DEFAULT NULL)
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.lp_deliver(text) IS 'delivers the due requests of one account or of all; commits between batches';

CREATE FUNCTION @extschema@.lp_create_users_trigger() RETURNS trigger
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON FUNCTION @extschema@.lp_create_users_trigger() IS 'queues (or, mode=sync, creates) a user for each row that a statement inserts or updates';

CREATE FUNCTION @extschema@.lp_attach_trigger(target regclass, account text, attributes jsonb, condition text DEFAULT NULL,
								  on_update boolean DEFAULT false, mode text DEFAULT 'queue', name text DEFAULT NULL)
	RETURNS SETOF text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 2 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_attach_trigger(regclass, text, jsonb, text, boolean, text, text)
	IS 'checks a mapping against a table and its owner''s rights, and creates the triggers; returns the executed statements';

CREATE FUNCTION @extschema@.lp_detach_trigger(target regclass, account text DEFAULT NULL, name text DEFAULT NULL) RETURNS SETOF text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 2 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_detach_trigger(regclass, text, text)
	IS 'drops the triggers that lp_attach_trigger() made for an account or under a name; returns the executed statements';

CREATE FUNCTION @extschema@.lp_enqueue_rows(target regclass, condition text DEFAULT NULL, name text DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION @extschema@.lp_enqueue_rows(regclass, text, text)
	IS 'queues existing rows of a table, as its trigger would; returns the number of requests';

