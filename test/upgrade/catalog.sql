-- catalog.sql: all that belongs to the extension, one line for each property of each object, without OIDs. Two
-- installations that give the same lines are alike.
WITH member AS (
	SELECT d.classid, d.objid, i.type || ' ' || i.identity AS object
	FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass,
		LATERAL pg_identify_object(d.classid, d.objid, 0) i
	WHERE e.extname = 'lpusers' AND d.deptype = 'e'
), owned AS (
	SELECT m.*, o.owner, o.acl, acldefault(o.kind, o.owner) AS usual FROM member m, LATERAL (
		SELECT 'f'::"char", proowner, proacl FROM pg_proc WHERE m.classid = 'pg_proc'::regclass AND oid = m.objid
		UNION ALL SELECT (CASE relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char", relowner, relacl FROM pg_class
			WHERE m.classid = 'pg_class'::regclass AND oid = m.objid
		UNION ALL SELECT 'T', typowner, typacl FROM pg_type WHERE m.classid = 'pg_type'::regclass AND oid = m.objid
		UNION ALL SELECT 'F', fdwowner, fdwacl FROM pg_foreign_data_wrapper
			WHERE m.classid = 'pg_foreign_data_wrapper'::regclass AND oid = m.objid) o(kind, owner, acl)
), relation AS (
	SELECT m.object, c.* FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
	UNION ALL
	SELECT m.object, c.* FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
	JOIN pg_class c ON c.oid = t.typrelid WHERE c.relkind = 'c'
), "column" AS (
	-- dropped columns do not count
	SELECT r.object, a.*, row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum) AS place, r.relkind
	FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid WHERE a.attnum > 0 AND NOT a.attisdropped
), property(object, property, value) AS (
	SELECT 'extension', 'version', extversion FROM pg_extension WHERE extname = 'lpusers'
	UNION ALL SELECT 'extension', 'relocatable', extrelocatable::text FROM pg_extension WHERE extname = 'lpusers'
	UNION ALL SELECT 'extension', 'comment', obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'lpusers'
	UNION ALL SELECT 'extension', 'dumps', c.id::regclass || ': ' || e.extcondition[c.n]
		FROM pg_extension e, unnest(e.extconfig) WITH ORDINALITY c(id, n) WHERE e.extname = 'lpusers'
	UNION ALL SELECT object, 'member', 'yes' FROM member
	UNION ALL SELECT object, 'comment', obj_description(objid, classid::regclass::name) FROM member
	UNION ALL SELECT object, 'owner', owner::regrole::text FROM owned
	-- no rights are the usual ones; the order in which they were given does not matter
	UNION ALL SELECT object, 'rights', (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(coalesce(acl, usual)) a) FROM owned
	UNION ALL SELECT o.object, 'rights not dumped', (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(coalesce(p.initprivs, o.usual)) a)
		FROM owned o LEFT JOIN pg_init_privs p ON p.classoid = o.classid AND p.objoid = o.objid AND p.objsubid = 0

	UNION ALL SELECT m.object, 'definition', pg_get_functiondef(m.objid) FROM member m WHERE m.classid = 'pg_proc'::regclass

	-- tables, views, sequences, composite types
	UNION ALL SELECT r.object, p.property, p.value FROM relation r,
		LATERAL (VALUES ('options', r.reloptions::text),
			('kind', concat_ws(' ', r.relkind, r.relpersistence, r.relreplident)), ('row security', concat_ws(' ', r.relrowsecurity, r.relforcerowsecurity)),
			('definition', CASE WHEN r.relkind = 'v' THEN pg_get_viewdef(r.oid) END)) p(property, value)
	UNION ALL SELECT object, 'column ' || place, concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
		attstorage, attcompression, attcollation::regcollation, attacl,
		-- minor releases of 2026 number the columns of views there
		(SELECT array_agg(o ORDER BY o) FROM unnest(attoptions) o WHERE o !~ '^pg_attver='),
		-- not set is -1, and from 17 on null
		nullif(to_jsonb(c)->>'attstattarget', '-1'), pg_get_expr(d.adbin, d.adrelid), col_description(c.attrelid, c.attnum))
		FROM "column" c LEFT JOIN pg_attrdef d ON d.adrelid = c.attrelid AND d.adnum = c.attnum
		WHERE relkind <> 'S'
	UNION ALL SELECT r.object, 'constraint ' || conname, concat_ws(' ', pg_get_constraintdef(k.oid), convalidated, obj_description(k.oid, 'pg_constraint'))
		FROM relation r JOIN pg_constraint k ON k.conrelid = r.oid
	UNION ALL SELECT r.object, 'index ' || i.indexrelid::regclass, concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisreplident,
		obj_description(i.indexrelid, 'pg_class')) FROM relation r JOIN pg_index i ON i.indrelid = r.oid
	UNION ALL SELECT r.object, 'trigger ' || t.tgname, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
		FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
	UNION ALL SELECT r.object, 'rule ' || u.rulename, pg_get_ruledef(u.oid) FROM relation r JOIN pg_rewrite u ON u.ev_class = r.oid WHERE r.relkind <> 'v'
	UNION ALL SELECT r.object, 'policy ' || p.polname, concat_ws(' ', p.polcmd, p.polpermissive, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid),
		pg_get_expr(p.polwithcheck, p.polrelid)) FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
	UNION ALL SELECT r.object, 'statistics ' || s.stxname, pg_get_statisticsobjdef(s.oid) FROM relation r JOIN pg_statistic_ext s ON s.stxrelid = r.oid
	UNION ALL SELECT r.object, 'sequence', ((to_jsonb(s) - 'seqrelid') || jsonb_build_object('owned by', o.refobjid::regclass,
		'column', (SELECT attname FROM pg_attribute WHERE attrelid = o.refobjid AND attnum = o.refobjsubid))) #>> '{}'
		FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
		LEFT JOIN pg_depend o ON o.classid = 'pg_class'::regclass AND o.objid = r.oid AND o.refclassid = 'pg_class'::regclass AND o.deptype IN ('a', 'i')

	UNION ALL SELECT m.object, 'wrapper', concat_ws(' ', f.fdwhandler::regproc, f.fdwvalidator::regproc, f.fdwoptions)
		FROM member m JOIN pg_foreign_data_wrapper f ON m.classid = 'pg_foreign_data_wrapper'::regclass AND f.oid = m.objid
	-- what this query does not know would be compared by its name alone
	UNION ALL SELECT object, 'NOT COMPARED', classid::regclass::text FROM member WHERE classid NOT IN
		('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_foreign_data_wrapper'::regclass)
)
SELECT line FROM property, LATERAL (SELECT replace(object || ' | ' || property || ' | ' || value, E'\n', '\n')) l(line)
WHERE line IS NOT NULL ORDER BY line COLLATE "C";
