/* wrapper.sql: the foreign-data wrapper. */

\echo Use "CREATE EXTENSION lpusers" to load this file. \quit

CREATE FUNCTION lpusers_handler() RETURNS fdw_handler
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION lpusers_handler() IS 'handler of the foreign-data wrapper lpusers';

CREATE FUNCTION lpusers_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION lpusers_validator(text[], oid) IS 'checks the options of servers, user mappings and foreign tables of lpusers';

CREATE FOREIGN DATA WRAPPER lpusers HANDLER lpusers_handler VALIDATOR lpusers_validator;
COMMENT ON FOREIGN DATA WRAPPER lpusers IS 'users of LivePerson accounts: one server is one account';

