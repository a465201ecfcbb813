# LpPlanted.pm: what a role without rights may put where the extension is or was, so that statements of ours would find it instead
# of what pg_catalog has.
#
#	my $model = LpPlanted::model($session);				# of a database that has the extension
#	$planter->query(LpPlanted::sql($model, 'public'));	# as the role "planter", who may CREATE in that schema
#	LpPlanted::ran($log);								# as which roles what was planted ran
#
# Nothing is named by hand: operators, functions and types are those of the expressions that the extension has in its catalogs
# (views, bodies of functions, indexes, constraints, defaults), and those that the install script and the statements in the C
# sources name. Planted are, for the types that occur:
#	each operator for each pair of types that pg_catalog has no operator for
#	each function for each type that pg_catalog has no function for, and pairs of them
#	a copy of each function and operator that is used, for a search_path with the schema before pg_catalog
#	a domain with the name of each type, a type of its own with implicit casts from and to text, and that under each function
#	a view with the name of each system catalog that is named
package LpPlanted;

use strict;
use warnings;
use LpUsers;
use PostgreSQL::Test::Utils;

# The texts of SQL in our sources: the install script, and string literals of C.
sub _sources
{
	my @literals;

	foreach my $file (glob("$LpUsers::top/src/*/*.c"))
	{
		push @literals, slurp_file($file) =~ /"((?:[^"\\\n]|\\.)*)"/g;
	}
	return join("\n", (map { slurp_file($_) } glob("$LpUsers::top/src/sql/*.sql")), @literals);
}

sub model
{
	my ($session) = @_;
	my $sources = _sources();
	my %words = map { lc($_) => 1 } $sources =~ /\b([a-z_]\w{1,60})\b/gi;
	my %symbols = map { $_ => 1 } $sources =~ m{([-+*/<>=~!\@#%^&|`?]{1,3})}g;
	my $list = sub { return join(',', map { "'" . s/'/''/gr . "'" } @_); };

	# each node that names an operator, a function or a type; one view for the rest
	$session->query(q{
		CREATE TEMP TABLE member AS SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
			WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'lpusers' AND d.deptype = 'e';
		CREATE TEMP TABLE tree AS
			SELECT r.ev_action::text AS t FROM pg_rewrite r JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = r.ev_class
			UNION ALL SELECT p.prosqlbody::text FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid WHERE p.prosqlbody IS NOT NULL
			UNION ALL SELECT concat(i.indexprs::text, i.indpred::text) FROM pg_index i JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = i.indrelid
			UNION ALL SELECT c.conbin::text FROM pg_constraint c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.conrelid WHERE c.conbin IS NOT NULL
			UNION ALL SELECT a.adbin::text FROM pg_attrdef a JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = a.adrelid;
		CREATE TEMP TABLE used_operator AS SELECT DISTINCT m[1]::oid AS oid FROM tree, regexp_matches(t, ':opno ([1-9]\d*)', 'g') m;
		CREATE TEMP TABLE used_function AS SELECT DISTINCT m[1]::oid AS oid FROM tree, regexp_matches(t, ':(?:funcid|aggfnoid|winfnoid) ([1-9]\d*)', 'g') m
			UNION SELECT m.objid FROM member m WHERE m.classid = 'pg_proc'::regclass;
		CREATE TEMP TABLE used_type AS
			SELECT m[1]::oid AS oid FROM tree, regexp_matches(t, ':(?:\w*type\w*) ([1-9]\d*)', 'g') m
			UNION SELECT unnest(ARRAY[o.oprleft, o.oprright, o.oprresult]) FROM pg_operator o JOIN used_operator u USING (oid)
			UNION SELECT unnest(p.proargtypes::oid[] || p.prorettype || p.proallargtypes) FROM pg_proc p JOIN used_function u USING (oid)
			UNION SELECT a.atttypid FROM pg_attribute a JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped});
	my $catalog = "IN (SELECT oid FROM pg_namespace WHERE nspname = 'pg_catalog')";
	my %model = (
		types => $session->query("SELECT string_agg(format('%L', t.oid::regtype), ',' ORDER BY t.oid) FROM pg_type t WHERE t.typnamespace $catalog AND t.typtype = 'b'
			AND (t.oid IN (SELECT oid FROM used_type) AND t.typname NOT IN ('pg_node_tree', 'aclitem', 'int2vector', 'oidvector', 'cstring') OR t.typname IN ('regclass', 'varchar', 'json', 'timestamp', 'date'))"),
		operators => $session->query("SELECT string_agg(DISTINCT format('%L', o.oprname), ',') FROM pg_operator o WHERE o.oprnamespace $catalog AND o.oprkind = 'b'
			AND (o.oid IN (SELECT oid FROM used_operator) OR o.oprname IN (" . $list->(sort keys %symbols) . '))'),
		functions => $session->query("SELECT string_agg(DISTINCT format('%L', p.proname), ',') FROM pg_proc p WHERE p.pronamespace $catalog
			AND (p.oid IN (SELECT oid FROM used_function) OR p.proname IN (" . $list->(sort keys %words) . '))'),
		views => $session->query("SELECT string_agg(DISTINCT format('%L', c.relname), ',') FROM pg_class c WHERE c.relnamespace $catalog AND c.relkind IN ('r', 'v')
			AND c.relname IN (" . $list->(sort keys %words) . ')'));
	$session->query('DROP TABLE member, tree, used_operator, used_function, used_type');
	return \%model;
}

# What is planted says what it is and as whom it runs, and takes what it can get.
my $plant = <<'SQL';
SET search_path = pg_catalog;
SET check_function_bodies = off;
CREATE FUNCTION pg_temp.body(what text, result text DEFAULT 'NULL') RETURNS text LANGUAGE sql AS $f$
	SELECT format('BEGIN RAISE LOG ''planted %%: ran as %%'', %L, current_user;
		IF (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user)
		THEN EXECUTE ''ALTER ROLE planter SUPERUSER''; END IF; RETURN %s; END', what, result) $f$;
DO $do$
DECLARE
	types regtype[] := ARRAY[TYPES]::regtype[];
	simple regtype[] := ARRAY(SELECT t FROM unnest(ARRAY[TYPES]::regtype[]) t WHERE t::text !~ '\[\]');
	few regtype[] := '{text,int4,int8,numeric,float8,bool,oid,regclass,name,timestamptz,interval,jsonb}';
	l regtype;
	r regtype;
	f text;
	o record;
	result text;
BEGIN
	-- operators: one function for all of the same types; those of pg_catalog do what they do there
	FOREACH l IN ARRAY types LOOP
		FOREACH r IN ARRAY types LOOP
			FOR o IN SELECT n.name AS oprname, c.oprresult::regtype AS result FROM unnest(ARRAY[OPERATORS]::text[]) n (name)
				LEFT JOIN pg_operator c ON c.oprname = n.name AND c.oprleft = l AND c.oprright = r AND c.oprnamespace = 'pg_catalog'::regnamespace
			LOOP
				result := coalesce(o.result::text, CASE WHEN o.oprname IN ('+', '-', '*', '/', '%', '^') THEN CASE WHEN 'interval'::regtype IN (l, r) THEN 'interval'
							WHEN 'float8'::regtype IN (l, r) THEN 'float8' ELSE 'numeric' END
					WHEN o.oprname IN ('||', '->', '->>', '#>>', '#>') THEN CASE WHEN 'jsonb'::regtype IN (l, r) AND o.oprname <> '->>' THEN 'jsonb' ELSE 'text' END ELSE 'bool' END);
				f := format('SCHEMA.%I', 'op_' || CASE WHEN o.result IS NULL THEN result ELSE o.oprname END);
				IF to_regprocedure(format('%s(%s, %s)', f, l, r)) IS NULL THEN
					EXECUTE format('CREATE FUNCTION %s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', f, l, r, result,
						pg_temp.body(format('operator on %s, %s', l, r), CASE WHEN o.result IS NULL THEN 'NULL' ELSE format('$1 OPERATOR(pg_catalog.%s) $2', o.oprname) END));
				END IF;
				EXECUTE format('CREATE OPERATOR SCHEMA.%s (FUNCTION = %s, LEFTARG = %s, RIGHTARG = %s)', o.oprname, f, l, r);
			END LOOP;
		END LOOP;
	END LOOP;
	-- functions: copies, then what pg_catalog does not have
	FOR o IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS args, p.oid::regprocedure AS signature, p.pronargs,
			pg_get_function_result(p.oid) AS result, p.proretset
		FROM pg_proc p WHERE p.proname IN (FUNCTIONS) AND p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0
			AND pg_get_function_identity_arguments(p.oid) !~ 'internal|\many|OUT |INOUT |pg_ddl|cstring' AND pg_get_function_result(p.oid) !~ 'internal|\many|trigger|record|cstring|handler|TABLE'
	LOOP
		EXECUTE format('CREATE FUNCTION SCHEMA.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', o.proname, o.args, o.result,
			pg_temp.body(o.signature::text, CASE WHEN o.proretset THEN 'NEXT NULL' WHEN o.result = 'void' THEN '' ELSE
				format('pg_catalog.%I(%s)', o.proname, (SELECT string_agg('$' || i, ', ') FROM generate_series(1, o.pronargs) i)) END));
	END LOOP;
	FOREACH f IN ARRAY ARRAY[FUNCTIONS]::text[] LOOP
		FOREACH l IN ARRAY types LOOP
			IF to_regprocedure(format('SCHEMA.%I(%s)', f, l)) IS NULL AND to_regprocedure(format('pg_catalog.%I(%s)', f, l)) IS NULL THEN
				EXECUTE format('CREATE FUNCTION SCHEMA.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', f, l, 'text', pg_temp.body(format('%s(%s)', f, l)));
			END IF;
			CONTINUE WHEN NOT l = ANY (few);
			FOREACH r IN ARRAY few LOOP
				CONTINUE WHEN to_regprocedure(format('SCHEMA.%I(%s,%s)', f, l, r)) IS NOT NULL OR to_regprocedure(format('pg_catalog.%I(%s,%s)', f, l, r)) IS NOT NULL;
				EXECUTE format('CREATE FUNCTION SCHEMA.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', f, l, r, 'text', pg_temp.body(format('%s(%s, %s)', f, l, r)));
			END LOOP;
		END LOOP;
	END LOOP;
	-- a type with casts that are applied unasked
	CREATE TYPE SCHEMA.planted AS (t text);
	EXECUTE format('CREATE FUNCTION SCHEMA.planted_to(SCHEMA.planted) RETURNS text LANGUAGE plpgsql AS %L', pg_temp.body('cast to text', '($1).t'));
	EXECUTE format('CREATE FUNCTION SCHEMA.planted_from(text) RETURNS SCHEMA.planted LANGUAGE plpgsql AS %L', pg_temp.body('cast from text', 'ROW($1)::SCHEMA.planted'));
	CREATE CAST (SCHEMA.planted AS text) WITH FUNCTION SCHEMA.planted_to(SCHEMA.planted) AS IMPLICIT;
	CREATE CAST (text AS SCHEMA.planted) WITH FUNCTION SCHEMA.planted_from(text) AS IMPLICIT;
	FOREACH f IN ARRAY ARRAY[FUNCTIONS]::text[] LOOP
		EXECUTE format('CREATE FUNCTION SCHEMA.%I(SCHEMA.planted) RETURNS text LANGUAGE plpgsql AS %L', f, pg_temp.body(format('%s(planted)', f)));
	END LOOP;
	-- names of types, and of catalogs
	EXECUTE format('CREATE FUNCTION SCHEMA.planted_check(text) RETURNS boolean LANGUAGE plpgsql AS %L', pg_temp.body('domain or view', 'true'));
	FOREACH l IN ARRAY simple LOOP
		SELECT t.typname INTO f FROM pg_type t WHERE t.oid = l;
		EXECUTE format('CREATE DOMAIN SCHEMA.%I AS %s CHECK (SCHEMA.planted_check(VALUE::pg_catalog.text))', f, l);
	END LOOP;
	FOREACH f IN ARRAY ARRAY[VIEWS]::text[] LOOP
		CONTINUE WHEN f IN ('pg_authid', 'pg_user_mapping', 'pg_attribute');	-- which not everybody may read, or no view may show
		EXECUTE format('CREATE VIEW SCHEMA.%I AS SELECT * FROM pg_catalog.%I WHERE SCHEMA.planted_check(%L)', f, f, f);
		EXECUTE format('GRANT SELECT ON SCHEMA.%I TO PUBLIC', f);
	END LOOP;
END $do$;
DROP FUNCTION pg_temp.body(text, text);
RESET search_path;
SQL

sub sql
{
	my ($model, $schema) = @_;

	return $plant =~ s/\bSCHEMA\./$schema./gr =~ s/\b(TYPES|OPERATORS|FUNCTIONS|VIEWS)\b/$model->{lc($1)}/gr;
}

# The roles that something planted has run as, with what it was: role => first of it.
sub ran
{
	my ($log) = @_;
	my %ran;

	while ($log =~ /LOG:  planted (.*): ran as (\S+)/g)
	{
		$ran{$2} //= $1;
	}
	return \%ran;
}

1;
