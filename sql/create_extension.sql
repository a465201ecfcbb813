-- create_extension: what CREATE EXTENSION makes, who may use it, and that all of it is described
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS lpusers CASCADE;
CREATE ROLE regress_clerk;
SET ROLE regress_clerk;
CREATE EXTENSION lpusers; -- ERROR
RESET ROLE;
CREATE EXTENSION lpusers;
RESET client_min_messages;
\pset format unaligned
\pset null NULL

SELECT extrelocatable FROM pg_extension WHERE extname = 'lpusers';
ALTER EXTENSION lpusers SET SCHEMA pg_catalog; -- ERROR

-- What belongs to it. From 17 on, row and array types are members too: they are left out.
CREATE VIEW members AS
	SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS object
	FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
	LEFT JOIN pg_class c ON c.oid = t.typrelid
	WHERE e.extname = 'lpusers' AND d.deptype = 'e' AND (t.oid IS NULL OR c.relkind = 'c');
SELECT object FROM members ORDER BY object COLLATE "C";

-- All of it has a comment, columns included.
SELECT object FROM members WHERE obj_description(objid, classid::regclass::name) IS NULL;
SELECT m.object, a.attname FROM members m
JOIN pg_class c ON (m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind = 'r')
	OR (m.classid = 'pg_type'::regclass AND c.reltype = m.objid)
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE col_description(c.oid, a.attnum) IS NULL;

-- Internal functions, and only these, are named _lp_...: \df lp_* shows the interface.
SELECT p.oid::regprocedure AS function FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
WHERE starts_with(p.proname, '_lp_') <> starts_with(obj_description(p.oid, 'pg_proc'), 'internal: ') ORDER BY 1;

-- Functions: a call that writes must not be folded, repeated, or run in a worker.
SELECT p.oid::regprocedure AS function, p.provolatile, p.proparallel, p.procost, p.prorows, p.proretset, p.proisstrict,
	p.prosecdef, has_function_privilege('regress_clerk', p.oid, 'EXECUTE') AS clerk_may
FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";
SELECT p.oid::regprocedure AS function, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";

-- Relations: only the owner has rights on the table; the views are for all, and cannot be looked behind.
SELECT c.relname, c.relkind, c.relpersistence, c.reloptions, has_table_privilege('regress_clerk', c.oid, 'SELECT') AS clerk_reads,
	has_table_privilege('regress_clerk', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS clerk_writes
FROM members m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
WHERE c.relkind IN ('r', 'v') ORDER BY c.relname COLLATE "C";
SELECT has_sequence_privilege('regress_clerk', 'lp_batch_seq', 'USAGE, SELECT, UPDATE') AS clerk_may;
SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute
WHERE attrelid = 'lp_requests'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = 'lp_response'::regclass AND attnum > 0 ORDER BY attnum;
-- the view has every column of the table, in an order for readers
SELECT array_agg(attname ORDER BY attname) FILTER (WHERE attrelid = 'lp_requests'::regclass)
	= array_agg(attname ORDER BY attname) FILTER (WHERE attrelid = 'lp_results'::regclass) AS same_columns
FROM pg_attribute WHERE attrelid IN ('lp_requests'::regclass, 'lp_results'::regclass) AND attnum > 0;
-- a dump has the records and the sequences behind them
SELECT unnest(extconfig)::regclass AS dumped FROM pg_extension WHERE extname = 'lpusers';

SET ROLE regress_clerk;
SELECT count(*) FROM lp_requests; -- ERROR
INSERT INTO lp_results (account) VALUES ('x'); -- ERROR
SELECT nextval('lp_batch_seq'); -- ERROR
SELECT * FROM lp_create_users('12345678', '{}'); -- ERROR
SELECT * FROM lp_update_users('12345678', '{}'); -- ERROR
SELECT * FROM lp_delete_users('12345678', '{1}'); -- ERROR
SELECT * FROM lp_reset_password('12345678', 1, 'x'); -- ERROR
SELECT count(*) FROM lp_results;
SELECT count(*) FROM lp_summary;
SELECT count(*) FROM lp_validate_users('{}');
-- a server needs USAGE on the wrapper, which no role was given
CREATE SERVER mine FOREIGN DATA WRAPPER lpusers OPTIONS (account '1'); -- ERROR
RESET ROLE;

-- It works in a schema of any name, whatever the search_path of the caller.
DROP VIEW members;
DROP EXTENSION lpusers;
CREATE SCHEMA "Odd schema";
CREATE EXTENSION lpusers SCHEMA "Odd schema";
\getenv url LPSIM_URL
CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
SET search_path = '';
SELECT status, error FROM "Odd schema".lp_delete_users('12345678', '{42}');
-- nor can the caller put things in the way
CREATE FUNCTION pg_temp.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION pg_temp.never(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE OPERATOR pg_temp.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = pg_temp.never);
CREATE TEMP TABLE lp_requests (account text);
SET search_path = pg_temp, pg_catalog;
SELECT status, error FROM "Odd schema".lp_delete_users('12345678', '{43}');
RESET search_path;
DROP TABLE pg_temp.lp_requests;
DROP OPERATOR pg_temp.= (bigint, bigint);
DROP FUNCTION pg_temp.never(bigint, bigint);
DROP FUNCTION pg_temp.unnest(anyarray);
SELECT operation, state, status, user_id FROM "Odd schema".lp_results ORDER BY id;
SELECT state, status, requests FROM "Odd schema".lp_summary;

DROP USER MAPPING FOR CURRENT_USER SERVER acme;
DROP SERVER acme;
DROP EXTENSION lpusers;
DROP SCHEMA "Odd schema";
DROP ROLE regress_clerk;

-- The same backend goes on with an extension that was made anew.
CREATE EXTENSION lpusers;
