# LpTraps.pm: copies, in a schema "evil", of the objects that a statement without schema names could
# find.
#
#	$session->query(LpTraps::sql('villain'));		# as superuser; the role exists
#
# A trap does what its model in pg_catalog does, and says so: a row of evil.sprung with the role it was run as, and a line of
# the log, "trap = sprung by postgres", which a rollback leaves.
package LpTraps;

use strict;
use warnings;

my $sql = <<'SQL';
CREATE SCHEMA evil AUTHORIZATION villain;
SET ROLE villain;
CREATE TABLE evil.sprung (who name, what text);
GRANT USAGE ON SCHEMA evil TO PUBLIC;
GRANT INSERT ON evil.sprung TO PUBLIC;
CREATE FUNCTION evil.spring(what pg_catalog.text) RETURNS void LANGUAGE plpgsql AS $f$
	BEGIN RAISE LOG 'trap % sprung by %', what, current_user; INSERT INTO evil.sprung VALUES (current_user, what); END $f$;
DO $do$
DECLARE
	o record;
BEGIN
	FOR o IN SELECT row_number() OVER () AS n, p.oprname, p.oprleft::regtype AS l, p.oprright::regtype AS r, p.oprresult::regtype AS result
		FROM pg_catalog.pg_operator p
		WHERE p.oprkind = 'b' AND p.oprname IN ('=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '/', '||', '~', '~~', '->>')
		  AND p.oprleft::regtype::text = ANY (ARRAY['text', 'name', 'integer', 'bigint', 'oid', 'double precision', 'interval', 'timestamp with time zone', 'boolean', 'json', 'jsonb'])
		  AND p.oprright::regtype::text = ANY (ARRAY['text', 'name', 'integer', 'bigint', 'oid', 'double precision', 'interval', 'timestamp with time zone', 'boolean', 'json', 'jsonb'])
	LOOP
		EXECUTE format('CREATE FUNCTION evil.op%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN $1 OPERATOR(pg_catalog.%s) $2; END $f$',
			o.n, o.l, o.r, o.result, o.oprname, o.oprname);
		EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.op%s, LEFTARG = %s, RIGHTARG = %s)', o.oprname, o.n, o.l, o.r);
	END LOOP;
	FOR o IN SELECT p.proname, p.oid::regprocedure::text AS signature, pg_get_function_identity_arguments(p.oid) AS args, p.pronargs, p.prorettype::regtype AS result, p.proretset
		FROM pg_catalog.pg_proc p
		WHERE p.proname IN ('lower', 'nextval', 'clock_timestamp', 'now', 'split_part', 'greatest', 'random', 'make_interval', 'current_database', 'pg_has_role', 'format', 'array_remove')
		  AND p.pronamespace = 'pg_catalog'::regnamespace AND p.provariadic = 0 AND p.prorettype::regtype::text NOT LIKE 'any%'
	LOOP
		EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN pg_catalog.%I(%s); END $f$',
			o.proname, o.args, o.result, o.proname, o.proname, (SELECT string_agg('$' || i, ', ') FROM generate_series(1, o.pronargs) i));
	END LOOP;
END $do$;
CREATE FUNCTION evil.trap(what pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(what); RETURN true; END $f$;
CREATE VIEW evil.pg_prepared_xacts AS SELECT * FROM pg_catalog.pg_prepared_xacts WHERE evil.trap('pg_prepared_xacts');
CREATE VIEW evil.pg_foreign_server AS SELECT * FROM pg_catalog.pg_foreign_server WHERE evil.trap('pg_foreign_server');
CREATE VIEW evil.lp_requests AS SELECT evil.trap('lp_requests');
RESET ROLE;
SQL

# The schema and its traps, owned by this role.
sub sql { my ($role) = @_; return $sql =~ s/\bvillain\b/$role/gr; }

1;
