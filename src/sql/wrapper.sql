/* wrapper.sql: the foreign-data wrapper. */

\echo Use "CREATE EXTENSION lpusers" to load this file. \quit

/*
 * Until the end of the script only operators, functions and types of pg_catalog are found. Otherwise an object in the
 * extension's schema with better matching types would be preferred, executed now and stored for later; roles that may
 * create objects there are not trusted.
 */
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE FUNCTION @extschema@.lpusers_handler() RETURNS fdw_handler
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION @extschema@.lpusers_handler() IS 'handler of the foreign-data wrapper lpusers';

CREATE FUNCTION @extschema@.lpusers_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION @extschema@.lpusers_validator(text[], oid) IS 'checks the options of servers, user mappings and foreign tables of lpusers';

CREATE FOREIGN DATA WRAPPER lpusers HANDLER @extschema@.lpusers_handler VALIDATOR @extschema@.lpusers_validator;
COMMENT ON FOREIGN DATA WRAPPER lpusers IS 'users of LivePerson accounts: one server is one account';

