/* sync.sql: the desired state: a relation that lists the people who should have a user. */

/*
 * One row for each sync. Role, server and source are stored by OID, which is authoritative in the database where the row
 * was written (origin), and by name, for display and for dumps.
 */
CREATE TABLE @extschema@._lp_sync (
	id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name           text COLLATE "C" NOT NULL UNIQUE CHECK (char_length(name) BETWEEN 1 AND 63),
	account        text COLLATE "C" NOT NULL,
	server         text NOT NULL,
	server_oid     oid NOT NULL,
	owner          text NOT NULL,
	owner_oid      oid NOT NULL,
	source         text NOT NULL,
	source_oid     oid NOT NULL,
	key            text NOT NULL,
	create_only    text[] NOT NULL,
	add_only       text[] NOT NULL,
	leavers        text NOT NULL CHECK (leavers IN ('disable', 'delete', 'report')),
	delete_after   interval CHECK (delete_after >= interval '0'),
	drift          text NOT NULL CHECK (drift IN ('overwrite', 'report', 'accept')),
	limits         jsonb NOT NULL CHECK (jsonb_typeof(limits) = 'object'),
	state          text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'quarantined')),
	why            text,
	failures       integer NOT NULL DEFAULT 0,
	failed         boolean NOT NULL DEFAULT false,
	last_run       timestamptz,
	last_plan      bigint,
	base_rows      bigint,
	base_listed    bigint,
	source_rows    bigint,
	listed         bigint,
	differing      bigint,
	waiting        bigint,
	blocked        bigint,
	unverifiable   bigint,
	origin         text NOT NULL,
	version        bigint NOT NULL DEFAULT 1
);
COMMENT ON TABLE @extschema@._lp_sync IS 'one row for each sync: its definition, its state and the results of its last run';
COMMENT ON COLUMN @extschema@._lp_sync.id IS 'number of the sync';
COMMENT ON COLUMN @extschema@._lp_sync.name IS 'name of the sync';
COMMENT ON COLUMN @extschema@._lp_sync.account IS 'LivePerson account id';
COMMENT ON COLUMN @extschema@._lp_sync.server IS 'foreign server whose options are used';
COMMENT ON COLUMN @extschema@._lp_sync.server_oid IS 'its OID in the database of origin';
COMMENT ON COLUMN @extschema@._lp_sync.owner IS 'role that reads the source and whose user mapping is used';
COMMENT ON COLUMN @extschema@._lp_sync.owner_oid IS 'its OID in the database of origin';
COMMENT ON COLUMN @extschema@._lp_sync.source IS 'relation that lists the people who should have a user';
COMMENT ON COLUMN @extschema@._lp_sync.source_oid IS 'its OID in the database of origin';
COMMENT ON COLUMN @extschema@._lp_sync.key IS 'column of the source that identifies a person';
COMMENT ON COLUMN @extschema@._lp_sync.create_only IS 'columns that are sent only with a create';
COMMENT ON COLUMN @extschema@._lp_sync.add_only IS 'columns of sets from which only what the sync added is removed';
COMMENT ON COLUMN @extschema@._lp_sync.leavers IS 'action on users without a row in the source: disable, delete or report';
COMMENT ON COLUMN @extschema@._lp_sync.delete_after IS 'users that the sync disabled are deleted after this time; null: never';
COMMENT ON COLUMN @extschema@._lp_sync.drift IS 'policy for attributes that were changed in the account: overwrite, report or accept';
COMMENT ON COLUMN @extschema@._lp_sync.limits IS 'limits that differ from the defaults, by action';
COMMENT ON COLUMN @extschema@._lp_sync.state IS 'active, paused or quarantined';
COMMENT ON COLUMN @extschema@._lp_sync.why IS 'why the last run was held or failed, or checked all keys instead of the marked ones';
COMMENT ON COLUMN @extschema@._lp_sync.failures IS 'number of consecutive runs that were held or failed';
COMMENT ON COLUMN @extschema@._lp_sync.failed IS 'true if the last run was held or failed, and is not counted: it was one of marked keys, or waited for a lock';
COMMENT ON COLUMN @extschema@._lp_sync.last_run IS 'when the last plan of all keys was made';
COMMENT ON COLUMN @extschema@._lp_sync.last_plan IS 'that plan; null: it was not made by this definition';
COMMENT ON COLUMN @extschema@._lp_sync.base_rows IS 'rows of the source in the last applied plan of all keys';
COMMENT ON COLUMN @extschema@._lp_sync.base_listed IS 'users in the last listing of the account that was not too short; after a short listing: the previous number, adjusted for users created and deleted since';
COMMENT ON COLUMN @extschema@._lp_sync.source_rows IS 'rows of the source in the last plan of all keys';
COMMENT ON COLUMN @extschema@._lp_sync.listed IS 'users of the account in that plan';
COMMENT ON COLUMN @extschema@._lp_sync.differing IS 'users in that plan that differ from the source';
COMMENT ON COLUMN @extschema@._lp_sync.waiting IS 'users in that plan with an unfinished request';
COMMENT ON COLUMN @extschema@._lp_sync.blocked IS 'users in that plan that are blocked';
COMMENT ON COLUMN @extschema@._lp_sync.unverifiable IS 'users in that plan that were changed in the account, but not in a visible attribute';
COMMENT ON COLUMN @extschema@._lp_sync.origin IS 'system identifier/database OID/timeline where the sync was last defined or resumed';
COMMENT ON COLUMN @extschema@._lp_sync.version IS 'how often it was defined';

/* Pairs of source keys and users. Written with the settlement of a request, in its transaction (src/sync/link.c). */
CREATE TABLE @extschema@._lp_sync_link (
	sync           bigint NOT NULL,
	source_key     text COLLATE "C" NOT NULL CHECK (char_length(source_key) BETWEEN 1 AND 254),
	user_id        bigint NOT NULL,
	login_name     text,
	state          text NOT NULL CHECK (state IN ('active', 'disabled', 'gone')),
	since          timestamptz NOT NULL DEFAULT clock_timestamp(),
	by_us          boolean NOT NULL,
	base           jsonb NOT NULL DEFAULT '{}',
	hidden         jsonb NOT NULL DEFAULT '{}',
	unkept         jsonb NOT NULL DEFAULT '{}',
	date_updated   text,
	PRIMARY KEY (sync, source_key)
);
CREATE INDEX _lp_sync_link_user ON @extschema@._lp_sync_link (user_id);
COMMENT ON TABLE @extschema@._lp_sync_link IS 'one row for each pair of a source key and a user';
COMMENT ON COLUMN @extschema@._lp_sync_link.sync IS '_lp_sync.id';
COMMENT ON COLUMN @extschema@._lp_sync_link.source_key IS 'key in the source';
COMMENT ON COLUMN @extschema@._lp_sync_link.user_id IS 'LivePerson user id';
COMMENT ON COLUMN @extschema@._lp_sync_link.login_name IS 'loginName of the user when it was last written';
COMMENT ON COLUMN @extschema@._lp_sync_link.state IS 'active, disabled or gone (deleted)';
COMMENT ON COLUMN @extschema@._lp_sync_link.since IS 'when it entered this state';
COMMENT ON COLUMN @extschema@._lp_sync_link.by_us IS 'true if the sync caused this state';
COMMENT ON COLUMN @extschema@._lp_sync_link.base IS 'value of each owned attribute in the source when it was last sent or found equal';
COMMENT ON COLUMN @extschema@._lp_sync_link.hidden IS 'last sent values of the attributes that the API returns blank';
COMMENT ON COLUMN @extschema@._lp_sync_link.unkept IS 'attributes that the last request sent again, and what the account had instead';
COMMENT ON COLUMN @extschema@._lp_sync_link.date_updated IS 'dateUpdated of the user after the last write of the sync; null: unknown';

CREATE TABLE @extschema@._lp_sync_plan (
	id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	sync           bigint NOT NULL,
	made_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
	made_by        text NOT NULL,
	state          text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'applied', 'superseded', 'expired')),
	whole          boolean NOT NULL,
	keys           text[],
	source_rows    bigint NOT NULL,
	listed         bigint NOT NULL,
	guard          text CHECK (guard IN ('source', 'listing', 'duplicates')),
	reason         text,
	version        bigint NOT NULL
);
CREATE INDEX _lp_sync_plan_sync ON @extschema@._lp_sync_plan (sync, id);
COMMENT ON TABLE @extschema@._lp_sync_plan IS 'one row for each plan';
COMMENT ON COLUMN @extschema@._lp_sync_plan.id IS 'number of the plan';
COMMENT ON COLUMN @extschema@._lp_sync_plan.sync IS '_lp_sync.id';
COMMENT ON COLUMN @extschema@._lp_sync_plan.made_at IS 'when it was made';
COMMENT ON COLUMN @extschema@._lp_sync_plan.made_by IS 'role that made it';
COMMENT ON COLUMN @extschema@._lp_sync_plan.state IS 'draft, applied, superseded or expired';
COMMENT ON COLUMN @extschema@._lp_sync_plan.whole IS 'true if it checked all keys';
COMMENT ON COLUMN @extschema@._lp_sync_plan.keys IS 'keys that it checked; null: all';
COMMENT ON COLUMN @extschema@._lp_sync_plan.source_rows IS 'rows of the source';
COMMENT ON COLUMN @extschema@._lp_sync_plan.listed IS 'users of the account';
COMMENT ON COLUMN @extschema@._lp_sync_plan.guard IS 'why the whole plan is held: source, listing or duplicates';
COMMENT ON COLUMN @extschema@._lp_sync_plan.reason IS 'the same as text';
COMMENT ON COLUMN @extschema@._lp_sync_plan.version IS '_lp_sync.version of the definition by which it was made';

/*
 * One row for each user that differs. "changes" is an array of objects with attribute, old, new, reason,, "reported"
 * if the change is not sent, and "again" if the source has not changed since it was sent before. "source" is the row of the source, "base" and "hidden" are the values of the link after
 * success. The action "follow" changes the state of the link only, to "link" in the first of its changes; "relink" its
 * key, from "from" there. "delete" has "disabled" there if the user was disabled when the item was planned, and fails if the
 * user is enabled meanwhile.
 */
CREATE TABLE @extschema@._lp_sync_item (
	id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	plan           bigint NOT NULL,
	sync           bigint NOT NULL,
	action         text NOT NULL CHECK (action IN ('wait', 'blocked', 'reopen', 'recreate', 'enable', 'disable', 'rename',
										   'adopt', 'update', 'create', 'delete', 'relink', 'report', 'follow')),
	source_key     text COLLATE "C",
	user_id        bigint,
	login_name     text,
	changes        jsonb NOT NULL DEFAULT '[]',
	source         jsonb,
	base           jsonb,
	hidden         jsonb,
	date_updated   text,
	reason         text,
	state          text NOT NULL CHECK (state IN ('planned', 'queued', 'done', 'failed', 'superseded', 'held', 'stale', 'blocked',
										  'wait', 'reported')),
	request        bigint,
	queued_at      timestamptz,
	unlinked       boolean NOT NULL DEFAULT false
);
CREATE INDEX _lp_sync_item_plan ON @extschema@._lp_sync_item (plan);
CREATE INDEX _lp_sync_item_request ON @extschema@._lp_sync_item (request) WHERE request IS NOT NULL;
CREATE INDEX _lp_sync_item_queued ON @extschema@._lp_sync_item (sync, queued_at) WHERE queued_at IS NOT NULL;
COMMENT ON TABLE @extschema@._lp_sync_item IS 'one row for each user of a plan that differs from the source';
COMMENT ON COLUMN @extschema@._lp_sync_item.id IS 'number of the item';
COMMENT ON COLUMN @extschema@._lp_sync_item.plan IS '_lp_sync_plan.id';
COMMENT ON COLUMN @extschema@._lp_sync_item.sync IS '_lp_sync.id';
COMMENT ON COLUMN @extschema@._lp_sync_item.action IS 'action on the user';
COMMENT ON COLUMN @extschema@._lp_sync_item.source_key IS 'key in the source';
COMMENT ON COLUMN @extschema@._lp_sync_item.user_id IS 'LivePerson user id; null: none yet';
COMMENT ON COLUMN @extschema@._lp_sync_item.login_name IS 'loginName in the account, or, without a user, in the source';
COMMENT ON COLUMN @extschema@._lp_sync_item.changes IS 'changes: an array of objects, one for each attribute';
COMMENT ON COLUMN @extschema@._lp_sync_item.source IS 'row of the source as it was planned; null: none';
COMMENT ON COLUMN @extschema@._lp_sync_item.base IS '_lp_sync_link.base after success';
COMMENT ON COLUMN @extschema@._lp_sync_item.hidden IS '_lp_sync_link.hidden after success';
COMMENT ON COLUMN @extschema@._lp_sync_item.date_updated IS 'dateUpdated of the user when it was planned';
COMMENT ON COLUMN @extschema@._lp_sync_item.reason IS 'why';
COMMENT ON COLUMN @extschema@._lp_sync_item.state IS 'planned, queued, done, failed, superseded, held, stale, blocked, wait or reported';
COMMENT ON COLUMN @extschema@._lp_sync_item.request IS 'lp_requests.id; of a request that was replaced by another: of that one';
COMMENT ON COLUMN @extschema@._lp_sync_item.queued_at IS 'when it was applied';
COMMENT ON COLUMN @extschema@._lp_sync_item.unlinked IS 'the link was given up before its request was settled: none is written';

/*
 * Watched tables. The triggers of a table have the id of a row here, which has the columns that they copy and the
 * expression that runs of the sync evaluate over these columns. Only lp_sync_watch() writes it.
 */
CREATE TABLE @extschema@._lp_sync_watch (
	id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	sync           bigint NOT NULL,
	relation       text NOT NULL,
	relation_oid   oid NOT NULL,
	alias          text NOT NULL,
	columns        text[] NOT NULL,
	types          text[] NOT NULL,
	expression     text NOT NULL
);
COMMENT ON TABLE @extschema@._lp_sync_watch IS 'one row for each table that a sync watches';
COMMENT ON COLUMN @extschema@._lp_sync_watch.id IS 'number of the watch';
COMMENT ON COLUMN @extschema@._lp_sync_watch.sync IS '_lp_sync.id';
COMMENT ON COLUMN @extschema@._lp_sync_watch.relation IS 'table that is watched, with its schema';
COMMENT ON COLUMN @extschema@._lp_sync_watch.relation_oid IS 'its OID in the database where it was first watched';
COMMENT ON COLUMN @extschema@._lp_sync_watch.alias IS 'its name in the expression';
COMMENT ON COLUMN @extschema@._lp_sync_watch.columns IS 'columns that the expression uses';
COMMENT ON COLUMN @extschema@._lp_sync_watch.types IS 'their types';
COMMENT ON COLUMN @extschema@._lp_sync_watch.expression IS 'key in the source, of a row of the table';

/*
 * Append only: no unique key, so that no transaction waits for another, and a mark is never merged into an older one. A
 * mark has a key, or rows of a watched table from which a run finds the keys, or the reason to check all keys.
 */
CREATE TABLE @extschema@._lp_sync_mark (
	id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	sync           bigint NOT NULL,
	watch          bigint,
	source_key     text COLLATE "C",
	changed        jsonb,
	marked_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE @extschema@._lp_sync_mark IS 'changes of watched tables that no run has processed yet';
COMMENT ON COLUMN @extschema@._lp_sync_mark.id IS 'number of the mark';
COMMENT ON COLUMN @extschema@._lp_sync_mark.sync IS '_lp_sync.id';
COMMENT ON COLUMN @extschema@._lp_sync_mark.watch IS '_lp_sync_watch.id';
COMMENT ON COLUMN @extschema@._lp_sync_mark.source_key IS 'key in the source, once it is known';
COMMENT ON COLUMN @extschema@._lp_sync_mark.changed IS 'an array of rows, each the values of the columns of the watch; or a string: why all keys have to be checked';
COMMENT ON COLUMN @extschema@._lp_sync_mark.marked_at IS 'when it was marked';

COMMENT ON SEQUENCE @extschema@._lp_sync_id_seq IS 'numbers of syncs';
COMMENT ON SEQUENCE @extschema@._lp_sync_plan_id_seq IS 'numbers of plans';
COMMENT ON SEQUENCE @extschema@._lp_sync_item_id_seq IS 'numbers of items';
COMMENT ON SEQUENCE @extschema@._lp_sync_watch_id_seq IS 'numbers of watches';
COMMENT ON SEQUENCE @extschema@._lp_sync_mark_id_seq IS 'numbers of marks';

SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_link', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_plan', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_item', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_watch', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_mark', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_plan_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_item_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_watch_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@._lp_sync_mark_id_seq', '');

/* ----- values, limits, rights: functions that access no table ----- */

/* A login in the form that all its spellings share, as the source and the account are read. */
CREATE FUNCTION @extschema@._lp_sync_fold(login text) RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@._lp_sync_fold(text) IS 'internal: a login in the form in which a sync compares logins';

/*
 * The set after a change of an add_only attribute: the current and the desired elements, without those that the sync
 * added and that are no longer desired.
 */
CREATE FUNCTION @extschema@._lp_set_target(there bigint[], wanted bigint[], added jsonb) RETURNS bigint[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT coalesce(array_agg(t.id ORDER BY t.id), '{}'::bigint[])
		FROM (SELECT unnest(there)
			  EXCEPT SELECT a.e::bigint FROM jsonb_array_elements_text(coalesce(added, '[]'::jsonb)) a (e) WHERE a.e::bigint <> ALL (wanted)
			  UNION SELECT unnest(wanted)) t (id);
	END;
COMMENT ON FUNCTION @extschema@._lp_set_target(bigint[], bigint[], jsonb) IS 'internal: the value of an add_only attribute that a sync sends';

/* The desired elements that the sync has added. */
CREATE FUNCTION @extschema@._lp_set_added(there bigint[], wanted bigint[], added jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT coalesce(jsonb_agg(w.id ORDER BY w.id), '[]'::jsonb)
		FROM unnest(wanted) w (id)
		WHERE w.id <> ALL (coalesce(there, '{}'::bigint[])) OR coalesce(added, '[]'::jsonb) @> to_jsonb(w.id);
	END;
COMMENT ON FUNCTION @extschema@._lp_set_added(bigint[], bigint[], jsonb) IS 'internal: the part of an add_only attribute that a sync has added';

/* The elements that the sync has added and that are no longer desired. */
CREATE FUNCTION @extschema@._lp_set_taken(wanted bigint[], added jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT jsonb_agg(a.e ORDER BY a.e::bigint)
		FROM jsonb_array_elements(coalesce(added, '[]'::jsonb)) a (e) WHERE a.e::bigint <> ALL (wanted);
	END;
COMMENT ON FUNCTION @extschema@._lp_set_taken(bigint[], jsonb) IS 'internal: the part of an add_only attribute that a sync removes';

/*
 * Changes of an item as attributes of the API: their new or old values ("side"). Reported changes and partial changes of
 * sets are omitted.
 */
CREATE FUNCTION @extschema@._lp_sync_entity(changes jsonb, side text) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT coalesce(jsonb_object_agg(
			CASE c.change ->> 'attribute' WHEN 'agentGroupId' THEN 'memberOf' ELSE c.change ->> 'attribute' END,
			CASE WHEN jsonb_typeof(c.change -> side) = 'null' THEN 'null'::jsonb
				 WHEN c.change ->> 'attribute' = 'agentGroupId' THEN jsonb_build_object('agentGroupId', c.change -> side)
				 WHEN c.change ->> 'attribute' = 'managerOf' THEN
					(SELECT coalesce(jsonb_agg(jsonb_build_object('agentGroupId', g.id)), '[]'::jsonb) FROM jsonb_array_elements(c.change -> side) g (id))
				 ELSE c.change -> side END), '{}'::jsonb)
		FROM jsonb_array_elements(changes) c (change)
		WHERE NOT jsonb_exists(c.change, 'reported') AND NOT jsonb_exists(c.change, 'add') AND jsonb_exists(c.change, side);
	END;
COMMENT ON FUNCTION @extschema@._lp_sync_entity(jsonb, text) IS 'internal: changes of a plan as attributes of the API';

/* Elements added to sets, or removed from them ("side"), by attribute. */
CREATE FUNCTION @extschema@._lp_sync_parts(changes jsonb, side text) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT coalesce(jsonb_object_agg(c.change ->> 'attribute', c.change -> side), '{}'::jsonb)
		FROM jsonb_array_elements(changes) c (change)
		WHERE jsonb_exists(c.change, side) AND NOT jsonb_exists(c.change, 'reported');
	END;
COMMENT ON FUNCTION @extschema@._lp_sync_parts(jsonb, text) IS 'internal: the parts of sets that a plan changes';

/* The state of an item, from the state of its request; null if the request was discarded. */
CREATE FUNCTION @extschema@._lp_sync_item_state(item text, request text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT CASE WHEN item = 'queued' AND request IS NULL THEN 'failed'
					WHEN item = 'queued' AND request IN ('superseded', 'failed') THEN request
					WHEN item = 'queued' AND request IN ('created', 'done') THEN 'done'
					WHEN item = 'failed' AND request IN ('pending', 'sending', 'uncertain', 'held') THEN 'queued'
					ELSE item END;
	END;
COMMENT ON FUNCTION @extschema@._lp_sync_item_state(text, text) IS 'internal: state of an item of a plan, from the state of its request';

/* Number of users to which an action may be applied without confirmation; null: any number. */
CREATE FUNCTION @extschema@._lp_sync_limit(limits jsonb, action text, linked bigint) RETURNS bigint
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT CASE jsonb_typeof(l.value)
			WHEN 'number' THEN (l.value #>> '{}')::numeric::bigint
			WHEN 'string' THEN greatest(3, ceil(linked::numeric * rtrim(l.value #>> '{}', '%')::numeric / 100::numeric)::bigint) END
		FROM (SELECT ('{"create": 100, "adopt": 0, "update": "10%", "rename": 20, "enable": 20, "disable": "2%", "delete": 0,
						"reopen": 0, "recreate": 0, "relink": 0}'::jsonb || limits) -> action) l (value);
	END;
COMMENT ON FUNCTION @extschema@._lp_sync_limit(jsonb, text, bigint) IS 'internal: limit of an action of a sync; null: none';

/*
 * Return true if the current user may see this sync: its owner and the owner of its server may.
 */
CREATE FUNCTION @extschema@._lp_sync_is_mine(origin text, owner oid, owner_name text, server oid, server_name text, account text)
	RETURNS boolean
	LANGUAGE sql STABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT coalesce(pg_catalog.pg_has_role(@extschema@._lp_role_here(origin, @extschema@.lp_origin(), owner, owner_name), 'USAGE'), false)
			OR EXISTS (SELECT FROM pg_catalog.pg_foreign_server s
					   JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
					   WHERE s.oid = @extschema@._lp_server_here(origin, @extschema@.lp_origin(), server, server_name)
						 AND w.fdwname = 'lpusers'::name AND 'account=' || account = ANY (s.srvoptions)
						 AND pg_catalog.pg_has_role(s.srvowner, 'USAGE'));
	END;
COMMENT ON FUNCTION @extschema@._lp_sync_is_mine(text, oid, text, oid, text, text) IS 'internal: true if the current user may see a sync';

/* ----- functions ----- */

CREATE FUNCTION @extschema@.lp_sync_define(sync text, account text, source regclass, key name,
		create_only name[] DEFAULT '{password_sh,change_pwd_next_login}', add_only name[] DEFAULT '{}', leavers text DEFAULT 'disable',
		delete_after interval DEFAULT NULL, drift text DEFAULT 'overwrite', limits jsonb DEFAULT '{}',
		OUT column_name name, OUT attribute text, OUT understood_as text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_sync_define(text, text, regclass, name, name[], name[], text, interval, text, jsonb)
	IS 'declares a sync of an account with a relation, or replaces its definition; returns the interpretation of each column';

CREATE FUNCTION @extschema@.lp_sync_diff(sync text, keys text[] DEFAULT NULL, against regclass DEFAULT NULL,
		OUT action text, OUT source_key text, OUT user_id bigint, OUT login_name text, OUT attribute text, OUT old jsonb, OUT new jsonb,
		OUT reason text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 COST 10000;
COMMENT ON FUNCTION @extschema@.lp_sync_diff(text, text[], regclass)
	IS 'shows how the account (or a relation with the columns of lp.users, read as the caller) differs from the source; stores and sends nothing';

CREATE FUNCTION @extschema@.lp_sync_plan(sync text, keys text[] DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION @extschema@.lp_sync_plan(text, text[]) IS 'stores the result of lp_sync_diff() as a plan; returns its number';

CREATE FUNCTION @extschema@.lp_sync_apply(plan bigint, confirm jsonb DEFAULT NULL,
		OUT action text, OUT queued bigint, OUT held bigint, OUT stale bigint, OUT blocked bigint, OUT waiting bigint)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 5 COST 10000;
COMMENT ON FUNCTION @extschema@.lp_sync_apply(bigint, jsonb)
	IS 'queues the items of a plan that are within the limits or confirmed by their number; returns counts by action';

CREATE PROCEDURE @extschema@.lp_sync(sync text DEFAULT NULL, watched boolean DEFAULT false)
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.lp_sync(text, boolean)
	IS 'makes a plan of a sync (or of all) and applies the items within the limits; commits after each sync';

CREATE FUNCTION @extschema@.lp_sync_watch(target regclass, sync text, key_expression text) RETURNS SETOF text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 3 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_sync_watch(regclass, text, text)
	IS 'creates triggers that mark changed rows for CALL lp_sync(watched => true), which finds their keys by the expression; returns the executed statements';

CREATE FUNCTION @extschema@.lp_sync_unwatch(target regclass) RETURNS SETOF text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 3 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_sync_unwatch(regclass) IS 'drops the triggers that lp_sync_watch() made; returns the executed statements';

CREATE FUNCTION @extschema@._lp_sync_mark_trigger() RETURNS trigger
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON FUNCTION @extschema@._lp_sync_mark_trigger() IS 'internal: marks the rows that a statement changes';

CREATE FUNCTION @extschema@.lp_sync_unlink(sync text, keys text[]) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_sync_unlink(text, text[]) IS 'removes links without changing the users, and withdraws their queued requests; returns the number of links';

CREATE FUNCTION @extschema@.lp_sync_pause(sync text) RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_sync_pause(text) IS 'pauses a sync: plans can be made, but not applied; queued requests continue';

CREATE FUNCTION @extschema@.lp_sync_resume(sync text) RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_sync_resume(text) IS 'resumes a sync that is paused, quarantined, or in a copy of its database';

CREATE FUNCTION @extschema@.lp_sync_drop(sync text) RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_sync_drop(text) IS 'drops a sync with its links and plans, and withdraws its queued requests; users are not changed';

/* ----- views ----- */

CREATE VIEW @extschema@.lp_syncs WITH (security_barrier) AS
	WITH counted AS (
		SELECT l.sync, count(*) FILTER (WHERE l.state <> 'gone') AS linked FROM @extschema@._lp_sync_link l GROUP BY l.sync
	)
	SELECT s.name AS sync, s.account, s.server, s.owner, s.source, s.key,
		   CASE WHEN s.state <> 'active' THEN s.state
				WHEN s.origin <> @extschema@.lp_origin()
					 AND NOT (@extschema@._lp_is_here(s.origin, @extschema@.lp_origin())
							  AND lower(coalesce(pg_catalog.current_setting('lpusers.after_promotion'::text, true), ''::text)) = 'resume'::text)
					THEN 'copy'
				WHEN s.failures > 0 OR s.failed THEN 'failing'
				WHEN s.last_plan IS NULL THEN 'new'
				WHEN w.plan IS NOT NULL THEN 'waiting for confirmation'
				WHEN s.differing + s.waiting + s.blocked + o.differing + o.waiting + o.blocked = 0 THEN 'in sync'
				ELSE 'differing' END AS state,
		   nullif(concat_ws('; ', s.why, 'plan ' || w.plan::text || ': apply with confirm => ''' || w.confirm::text || ''''), '') AS why,
		   s.last_run, s.source_rows, s.listed, coalesce(c.linked, 0::bigint) AS linked,
		   s.differing + o.differing AS differing, s.waiting + o.waiting AS waiting, s.blocked + o.blocked AS blocked,
		   s.unverifiable
	FROM @extschema@._lp_sync s LEFT JOIN counted c ON c.sync = s.id
	LEFT JOIN LATERAL (
		/* the newest plan that may be applied further */
		SELECT p.id AS plan, jsonb_object_agg(h.action, h.users) AS confirm
		FROM @extschema@._lp_sync_plan p
		CROSS JOIN LATERAL (SELECT i.action, count(*) AS users FROM @extschema@._lp_sync_item i WHERE i.plan = p.id
							GROUP BY i.action HAVING bool_or(i.state = 'held')) h
		WHERE p.sync = s.id AND s.failures = 0 AND p.state = 'applied' AND p.version = s.version
			AND p.made_at >= clock_timestamp() - interval '24 hours'
		GROUP BY p.id ORDER BY p.id DESC LIMIT 1) w ON true
	CROSS JOIN LATERAL (
		/*
		 * What plans of some keys have found since the last one of all keys, and no later plan has checked again. Users that
		 * differed in the plan of all keys are counted already.
		 */
		SELECT count(*) FILTER (WHERE i.state NOT IN ('wait', 'queued', 'blocked')) AS differing,
			   count(*) FILTER (WHERE i.state IN ('wait', 'queued')) AS waiting, count(*) FILTER (WHERE i.state = 'blocked') AS blocked
		FROM @extschema@._lp_sync_plan p
		CROSS JOIN LATERAL (
			SELECT g.source_key, @extschema@._lp_sync_item_state(g.state, (SELECT r.state FROM @extschema@.lp_requests r WHERE r.id = g.request)) AS state
			FROM @extschema@._lp_sync_item g
			WHERE g.plan = p.id AND g.state NOT IN ('done', 'superseded') AND g.action <> 'follow' OFFSET 0) i
		WHERE p.sync = s.id AND p.id > coalesce(s.last_plan, 0::bigint) AND NOT p.whole AND p.guard IS NULL
			AND i.state NOT IN ('done', 'superseded')
			AND (SELECT n.id FROM @extschema@._lp_sync_plan n
				 WHERE n.sync = p.sync AND n.id > p.id AND n.guard IS NULL AND i.source_key = ANY (n.keys) LIMIT 1) IS NULL
			AND (s.differing + s.waiting + s.blocked = 0
				 OR (SELECT f.id FROM @extschema@._lp_sync_item f
					 WHERE f.plan = s.last_plan AND f.source_key = i.source_key AND f.action <> 'follow' LIMIT 1) IS NULL)) o
	WHERE @extschema@._lp_sync_is_mine(s.origin, s.owner_oid, s.owner, s.server_oid, s.server, s.account);
COMMENT ON VIEW @extschema@.lp_syncs IS 'syncs that the current user owns or whose server it owns, and the results of their last run';
COMMENT ON COLUMN @extschema@.lp_syncs.sync IS 'name of the sync';
COMMENT ON COLUMN @extschema@.lp_syncs.state IS 'new (no plan of all keys since it was defined), in sync, differing, waiting for confirmation (of the plan that "why" names), failing (the last run was held or failed), paused, quarantined, or copy (of the database, or promoted: lp_sync_resume())';
COMMENT ON COLUMN @extschema@.lp_syncs.why IS 'why the last run was held or failed, or checked all keys; or which plan waits, and the numbers that confirm it';
COMMENT ON COLUMN @extschema@.lp_syncs.differing IS 'users in that plan that differ from the source, and those in later plans of some keys that no plan has checked again since';
COMMENT ON COLUMN @extschema@.lp_syncs.waiting IS 'likewise, users with an unfinished request';
COMMENT ON COLUMN @extschema@.lp_syncs.blocked IS 'likewise, users that are blocked';
COMMENT ON COLUMN @extschema@.lp_syncs.linked IS 'users that are linked to a source key, including disabled ones';

CREATE VIEW @extschema@.lp_sync_links WITH (security_barrier) AS
	WITH mine AS MATERIALIZED (
		SELECT s.id, s.name FROM @extschema@._lp_sync s
		WHERE @extschema@._lp_sync_is_mine(s.origin, s.owner_oid, s.owner, s.server_oid, s.server, s.account)
	)
	SELECT m.name AS sync, l.source_key, l.user_id, l.login_name, l.state, l.since, l.by_us
	FROM mine m JOIN @extschema@._lp_sync_link l ON l.sync = m.id;
COMMENT ON VIEW @extschema@.lp_sync_links IS 'pairs of source keys and users of the current user''s syncs';
COMMENT ON COLUMN @extschema@.lp_sync_links.sync IS 'name of the sync';

CREATE VIEW @extschema@.lp_sync_plans WITH (security_barrier) AS
	WITH mine AS MATERIALIZED (
		SELECT s.id, s.name, s.limits, s.version,
			   (SELECT count(*) FROM @extschema@._lp_sync_link l WHERE l.sync = s.id AND l.state <> 'gone') AS linked
		FROM @extschema@._lp_sync s
		WHERE @extschema@._lp_sync_is_mine(s.origin, s.owner_oid, s.owner, s.server_oid, s.server, s.account)
	), classes AS (
		SELECT i.plan, i.action, count(*) AS users, count(*) FILTER (WHERE i.state IN ('planned', 'held')) AS left_over,
			   count(*) FILTER (WHERE i.state = 'stale') AS stale,
			   min(i.reason COLLATE "C") FILTER (WHERE i.action = 'blocked') AS blocked,
			   max(i.reason COLLATE "C") FILTER (WHERE i.action = 'blocked') AS last_blocked
		FROM @extschema@._lp_sync_item i
		WHERE i.sync IN (SELECT m.id FROM mine m) AND i.action <> 'follow'
		GROUP BY i.plan, i.action
	), used AS (
		SELECT i.sync, i.action, count(*) AS n
		FROM @extschema@._lp_sync_item i
		LEFT JOIN @extschema@.lp_requests r ON r.id = i.request
		WHERE i.sync IN (SELECT m.id FROM mine m) AND i.queued_at > clock_timestamp() - interval '24 hours'
			AND @extschema@._lp_sync_item_state(i.state, r.state) IN ('queued', 'done')
		GROUP BY i.sync, i.action
	)
	SELECT p.id AS plan, m.name AS sync, p.made_at, p.made_by,
		   CASE WHEN p.state = 'draft' AND (p.version <> m.version OR p.made_at < clock_timestamp() - interval '24 hours')
				THEN 'expired' ELSE p.state END AS state,
		   c.action, coalesce(c.users, 0::bigint) AS users, l.n AS "limit",
		   coalesce(o.may_apply AND c.left_over > 0 AND c.left_over + coalesce(u.n, 0::bigint) > l.n, false) AS over,
		   concat_ws('; ', p.reason,
					 CASE WHEN NOT o.may_apply AND c.left_over > 0 THEN c.left_over::text || ' not applied: plan again'
						  WHEN c.left_over > 0 AND c.left_over + coalesce(u.n, 0::bigint) > l.n
						  THEN 'over its limit' || CASE WHEN u.n > 0 THEN ', ' || u.n::text || ' applied in 24 hours' ELSE '' END
							   || ': apply with confirm => ''{"' || c.action || '": ' || c.users::text || '}'''
						  WHEN p.state = 'applied' AND c.left_over > 0
						  THEN c.left_over::text || ' held: they need the loginName of users who are held or stale' END,
					 CASE WHEN c.stale > 0 THEN c.stale::text || ' stale: plan again' END,
					 c.blocked || CASE WHEN c.last_blocked <> c.blocked THEN ', and other reasons: see lp_sync_changes' ELSE '' END)
			   AS reason
	FROM @extschema@._lp_sync_plan p
	JOIN mine m ON m.id = p.sync
	LEFT JOIN classes c ON c.plan = p.id
	LEFT JOIN used u ON u.sync = p.sync AND u.action = c.action
	CROSS JOIN LATERAL (SELECT p.state IN ('draft', 'applied') AND p.version = m.version
						AND p.made_at >= clock_timestamp() - interval '24 hours') o (may_apply)
	LEFT JOIN LATERAL (SELECT @extschema@._lp_sync_limit(m.limits, c.action, m.linked)) l (n) ON true
	ORDER BY p.id, c.action;
COMMENT ON VIEW @extschema@.lp_sync_plans IS 'the plans of the current user''s syncs: one row for each plan and action';
COMMENT ON COLUMN @extschema@.lp_sync_plans.plan IS 'number of the plan';
COMMENT ON COLUMN @extschema@.lp_sync_plans.sync IS 'name of the sync';
COMMENT ON COLUMN @extschema@.lp_sync_plans.made_at IS 'when it was made';
COMMENT ON COLUMN @extschema@.lp_sync_plans.made_by IS 'role that made it';
COMMENT ON COLUMN @extschema@.lp_sync_plans.state IS 'draft, applied, superseded or expired';
COMMENT ON COLUMN @extschema@.lp_sync_plans.action IS 'action; null: the account is in sync';
COMMENT ON COLUMN @extschema@.lp_sync_plans.users IS 'number of users';
COMMENT ON COLUMN @extschema@.lp_sync_plans."limit" IS 'maximum number in 24 hours without confirmation; null: any number';
COMMENT ON COLUMN @extschema@.lp_sync_plans.over IS 'true if the rest of the action exceeds its limit and waits for confirmation';
COMMENT ON COLUMN @extschema@.lp_sync_plans.reason IS 'why the plan or the action is held, or users are blocked';

CREATE VIEW @extschema@.lp_sync_changes WITH (security_barrier) AS
	WITH mine AS MATERIALIZED (
		SELECT s.id FROM @extschema@._lp_sync s
		WHERE @extschema@._lp_sync_is_mine(s.origin, s.owner_oid, s.owner, s.server_oid, s.server, s.account)
	)
	SELECT i.plan, i.action, i.source_key, i.user_id, i.login_name, c.change ->> 'attribute' AS attribute,
		   nullif(c.change -> 'old', 'null'::jsonb) AS old, nullif(c.change -> 'new', 'null'::jsonb) AS new,
		   coalesce(c.change ->> 'reason', i.reason) AS reason,
		   CASE WHEN (c.change -> 'reported')::boolean THEN 'reported'
				ELSE @extschema@._lp_sync_item_state(i.state, r.state) END AS state
	FROM mine m
	JOIN @extschema@._lp_sync_item i ON i.sync = m.id AND i.action <> 'follow'
	LEFT JOIN @extschema@.lp_requests r ON r.id = i.request
	LEFT JOIN LATERAL jsonb_array_elements(i.changes) WITH ORDINALITY c (change, n) ON true
	ORDER BY i.plan, i.action, i.source_key, i.id, c.n;
COMMENT ON VIEW @extschema@.lp_sync_changes IS 'changes in the plans of the current user''s syncs: one row for each user and attribute';
COMMENT ON COLUMN @extschema@.lp_sync_changes.plan IS 'number of the plan';
COMMENT ON COLUMN @extschema@.lp_sync_changes.action IS 'action on the user';
COMMENT ON COLUMN @extschema@.lp_sync_changes.attribute IS 'the API''s name of the attribute; null: the user as a whole';
COMMENT ON COLUMN @extschema@.lp_sync_changes.old IS 'its value in the account';
COMMENT ON COLUMN @extschema@.lp_sync_changes.new IS 'its value in the source';
COMMENT ON COLUMN @extschema@.lp_sync_changes.reason IS 'why';
COMMENT ON COLUMN @extschema@.lp_sync_changes.state IS 'planned, queued, done, failed, superseded, held, stale, blocked, wait or reported';
