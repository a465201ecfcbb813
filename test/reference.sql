-- reference.sql: docs/reference.md, written by test/make_reference from what a database with the extension says of itself.

\pset format unaligned
\pset tuples_only on
\pset fieldsep ''

\qecho '# Reference'
\qecho
\qecho 'Written by `test/make_reference` from the comments of the database objects; do not edit. What the calls and the queue do is in the [README](../README.md), with the options of [servers](../README.md#server-options), [user mappings](../README.md#user-mapping-options) and [foreign tables](../README.md#foreign-tables).'

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
			   WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE') AS everybody
FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

\qecho
\qecho '## Functions and procedures'
\qecho
\qecho '"Everybody": may PUBLIC execute it? What is not PUBLIC''s has to be granted; see [Security](../README.md#security).'
\qecho
\qecho '| name and arguments | returns | everybody | what it does |'
\qecho '|---|---|---|---|'
SELECT '| `' || CASE prokind WHEN 'p' THEN 'CALL ' ELSE '' END || pg_temp.cell(call) || '` | '
	   || coalesce('`' || pg_temp.cell(result) || '`', '') || ' | ' || CASE WHEN everybody THEN 'yes' ELSE 'no' END
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
\qecho 'Everybody may read them; each shows what the current user asked for, what is sent with its credentials, and what belongs to a server it owns.'
SELECT pg_temp.section('{v}');

\qecho
\qecho '## Tables'
\qecho
\qecho 'Only the owner of the extension has rights on them.'
SELECT pg_temp.section('{r}');

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
