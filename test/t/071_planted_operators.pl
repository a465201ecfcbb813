# Operators and functions that a role without rights plants where the extension is going to be: CREATE EXTENSION by a superuser
# neither runs one nor stores one for later.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\n");

# What the script, its views and functions could take instead of what pg_catalog has: every operator that pg_catalog does not have
# for exactly these types, and every function that the sources name, for one and two arguments of these types.
my @types = qw(text name "char" oid regclass int2 int4 int8 float8 numeric interval timestamptz timestamp date bool json jsonb text[] int8[]
	numeric[]);
my $sources = join('', map { slurp_file($_) } glob("$LpUsers::top/src/sql/*.sql"));
my %called  = map { lc($_) => 1 } $sources =~ /\b([a-z_]\w*)\s*\(/gi;
my $plant   = sprintf(<<'SQL', join(',', map { "'$_'" } @types), join(',', sort keys %called));
SET check_function_bodies = off;
CREATE FUNCTION pg_temp.body(what text) RETURNS text LANGUAGE sql AS $f$
	SELECT format('BEGIN RAISE LOG ''planted %%%%: ran as %%%%'', %%L, current_user;
		IF (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user)
		THEN EXECUTE ''ALTER ROLE planter SUPERUSER''; END IF; RETURN NULL; END', what) $f$;
DO $do$
DECLARE
	types regtype[] := ARRAY[%s]::regtype[];
	names text[] := '{%s}';
	l regtype;
	r regtype;
	f text;
	result regtype;
	op text;
BEGIN
	FOREACH l IN ARRAY types LOOP
		FOREACH r IN ARRAY types LOOP
			FOREACH op IN ARRAY '{=,<>,<,>,<=,>=,+,-,*,/,^,||,~,!~,~~,!~~,->,->>,@>}'::text[] LOOP
				CONTINUE WHEN EXISTS (SELECT FROM pg_operator o WHERE o.oprname = op AND o.oprleft = l AND o.oprright = r
					AND o.oprnamespace = 'pg_catalog'::regnamespace);
				result := CASE WHEN op IN ('+', '-', '*', '/', '^') THEN CASE WHEN 'interval'::regtype IN (l, r) THEN 'interval'
							WHEN 'float8'::regtype IN (l, r) THEN 'float8' ELSE 'numeric' END
					WHEN op IN ('||', '->', '->>') THEN 'text' ELSE 'bool' END;
				f := format('%%I', 'plant_' || op);
				EXECUTE format('CREATE FUNCTION public.%%s(%%s, %%s) RETURNS %%s LANGUAGE plpgsql AS %%L', f, l, r, result,
					pg_temp.body(format('%%s %%s %%s', l, op, r)));
				EXECUTE format('CREATE OPERATOR public.%%s (FUNCTION = public.%%s, LEFTARG = %%s, RIGHTARG = %%s)', op, f, l, r);
			END LOOP;
		END LOOP;
	END LOOP;
	FOREACH f IN ARRAY names LOOP
		CONTINUE WHEN NOT EXISTS (SELECT FROM pg_proc p WHERE p.proname = f AND p.pronamespace = 'pg_catalog'::regnamespace);
		FOREACH l IN ARRAY types LOOP
			EXECUTE format('CREATE FUNCTION public.%%I(%%s) RETURNS %%s LANGUAGE plpgsql AS %%L', f, l, 'text', pg_temp.body(format('%%s(%%s)', f, l)));
			CONTINUE WHEN l::text ~ '\[\]';
			FOREACH r IN ARRAY '{text,int4,int8,numeric,float8,bool,oid,regclass,name,timestamptz,interval}'::regtype[] LOOP
				EXECUTE format('CREATE FUNCTION public.%%I(%%s, %%s) RETURNS %%s LANGUAGE plpgsql AS %%L', f, l, r, 'text',
					pg_temp.body(format('%%s(%%s, %%s)', f, l, r)));
			END LOOP;
		END LOOP;
	END LOOP;
END $do$;
CREATE DOMAIN public.regclass AS pg_catalog.oid; CREATE DOMAIN public.jsonb AS pg_catalog.text;
SQL

$node->safe_psql('postgres', 'DROP EXTENSION lpusers; CREATE ROLE planter LOGIN; CREATE ROLE reader LOGIN');

subtest 'planted operators and functions are not run' => sub {
	# Who may create objects in the schema: the database's owner, in public, and a role that was granted it.
	foreach my $case ([ 'planted', 'public' ], [ 'granted', '"My Schema"' ])
	{
		my ($db, $schema) = @$case;
		my $what = "schema $schema";
		my $is_super = sub { return $node->safe_psql('postgres', "SELECT rolsuper FROM pg_roles WHERE rolname = 'planter'") };

		$node->safe_psql('postgres', $db eq 'planted' ? "CREATE DATABASE $db OWNER planter" : "CREATE DATABASE $db");
		my $root = LpUsers::session($node, db => $db);
		$root->query('SET search_path = pg_catalog');
		$root->query("CREATE SCHEMA $schema; GRANT USAGE, CREATE ON SCHEMA $schema TO planter") unless $schema eq 'public';
		my $planter = LpUsers::session($node, db => $db, role => 'planter');
		my $sql = $plant =~ s/public\./$schema./gr;
		$planter->query($sql);
		cmp_ok($root->query("SELECT count(*) FROM pg_operator WHERE oprnamespace = '$schema'::regnamespace"), '>', 5000, "$what: operators are planted");
		cmp_ok($root->query("SELECT count(*) FROM pg_proc WHERE pronamespace = '$schema'::regnamespace AND proname !~ '^plant'"), '>', 1000,
			"$what: functions are planted");
		is($planter->query("SET search_path = $schema; SELECT (1::pg_catalog.oid = 'pg_class'::pg_catalog.regclass) IS NULL,
			(2.0::pg_catalog.numeric * 3) IS NULL"), 't|t',
			"$what: what is planted is taken where the search_path is not pinned");

		my $offset = -s $node->logfile;
		$root->query("BEGIN; SET LOCAL search_path = pg_temp, pg_catalog; CREATE EXTENSION lpusers SCHEMA $schema");
		is($root->query('SHOW search_path'), 'pg_temp, pg_catalog', "$what: the script's search_path ends with it");
		$root->query('COMMIT');
		is($is_super->(), 'f', "$what: not a superuser after CREATE EXTENSION");

		# nothing is stored for later: what our objects refer to is in pg_catalog, or ours
		is($root->query(q{
			WITH member AS (SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
				WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'lpusers' AND d.deptype = 'e'),
			ours AS (SELECT classid, objid FROM member
				UNION SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = r.ev_class
				UNION SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = i.indrelid
				UNION SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.conrelid
				UNION SELECT 'pg_attrdef'::regclass, a.oid FROM pg_attrdef a JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = a.adrelid
				UNION SELECT 'pg_type'::regclass, t.oid FROM pg_type t JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = t.typrelid
				UNION SELECT 'pg_type'::regclass, t.typarray FROM pg_type t JOIN member m ON (m.classid = 'pg_class'::regclass AND m.objid = t.typrelid)
					OR (m.classid = 'pg_type'::regclass AND m.objid = t.oid))
			SELECT pg_describe_object(d.classid, d.objid, d.objsubid), pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
			FROM pg_depend d JOIN ours o ON o.classid = d.classid AND o.objid = d.objid
			WHERE d.refclassid NOT IN ('pg_extension'::regclass, 'pg_namespace'::regclass, 'pg_language'::regclass) AND d.refobjid >= 16384
			  AND NOT EXISTS (SELECT FROM ours x WHERE x.classid = d.refclassid AND x.objid = d.refobjid)}), '',
			"$what: nothing refers to what is outside of pg_catalog and the extension");

		# nor run when it is used: by the worker's statements, and by those who read the views
		$root->query(qq{CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim->{url}');
			CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token')});
		$root->query("SELECT * FROM $schema.lp_enqueue_users('$account', '[" . LpUsers::user("a-$db") . "]')");
		$root->query("CALL $schema.lp_deliver()");
		$root->query("SELECT * FROM $schema.$_") foreach qw(lp_results lp_summary lp_progress lp_report());
		is($root->query("SELECT state FROM $schema.lp_results"), 'created', "$what: the queue works");
		is($is_super->(), 'f', "$what: not a superuser after use");
		unlike(LpUsers::log_since($node, $offset), qr/LOG:  planted [^%]*: ran as (?!planter)/, "$what: nothing planted ran");
		$_->quit foreach $root, $planter;
	}
};

$sim->stop;
done_testing();
