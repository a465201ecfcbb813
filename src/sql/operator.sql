/* operator.sql: what operators do with requests. */

/*
 * The rows among "ids" that belong to the current user: it asked for them, or they are sent as it; a member of a role
 * may do what the role may. Whoever may do everything to the table may do this too. Called with the rights of the
 * table's owner, hence the role as a parameter.
 */
CREATE FUNCTION @extschema@.lp_own_rows(ids bigint[], caller name) RETURNS SETOF bigint
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT r.id FROM @extschema@.lp_requests r
		WHERE r.id = ANY (ids)
		  AND (r.requested_by = ANY (ARRAY(SELECT a.rolname FROM pg_catalog.pg_roles a
										   WHERE pg_catalog.pg_has_role(caller, a.oid, 'USAGE')))
			   OR r.send_as = ANY (ARRAY(SELECT a.rolname FROM pg_catalog.pg_roles a
										 WHERE pg_catalog.pg_has_role(caller, a.oid, 'USAGE'))));
	END;
COMMENT ON FUNCTION @extschema@.lp_own_rows(bigint[], name) IS 'internal: those of the requests that a role may retry or discard';

CREATE FUNCTION @extschema@.lp_worker_stop() RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_worker_stop() IS 'asks this database''s worker to leave; false if there is none';

CREATE FUNCTION @extschema@.lp_worker_pid() RETURNS integer
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.lp_worker_pid() IS 'process id of this database''s worker, null if there is none';

CREATE FUNCTION @extschema@._lp_worker_missing() RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@._lp_worker_missing() IS 'internal: why this database has no worker, null if it has one';

CREATE FUNCTION @extschema@.lp_wake() RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_wake() IS 'internal: has the worker woken when this transaction commits';

/*
 * lp_retry(): failed requests become pending again. Parameters: ids, the role that asks. Raises 42501 for a request that
 * is not its own, 22023 for one that is not failed or whose payload is gone. Writes lp_requests. Returns how many.
 */
CREATE FUNCTION @extschema@.lp_retry_rows(ids bigint[], caller name) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
	bad bigint;
BEGIN
	ids := array_remove(ids, NULL);
	SELECT x INTO bad FROM unnest(ids) x WHERE x NOT IN (SELECT @extschema@.lp_own_rows(ids, caller)) LIMIT 1;
	IF FOUND THEN
		RAISE insufficient_privilege USING MESSAGE = format('no request %s of yours', bad);
	END IF;
	/* somebody else may do the same just now, and a deliverer have claimed the row by then */
	PERFORM FROM @extschema@.lp_requests r WHERE r.id = ANY (ids) ORDER BY r.id FOR UPDATE;
	SELECT r.id INTO bad FROM @extschema@.lp_requests r WHERE r.id = ANY (ids) AND (r.state <> 'failed' OR r.path <> 'queue')
		LIMIT 1;
	IF FOUND THEN
		RAISE invalid_parameter_value USING MESSAGE = format('request %s is not a failed request of the queue', bad);
	END IF;
	SELECT x INTO bad FROM unnest(ids) x
		WHERE NOT EXISTS (SELECT FROM @extschema@.lp_payloads p WHERE p.request_id = x) LIMIT 1;
	IF FOUND THEN
		RAISE invalid_parameter_value USING MESSAGE = format('request %s cannot be sent again', bad),
			DETAIL = 'Its data were wrong, or its secrets are gone (see lpusers.keep_secrets).',
			HINT = 'Queue the user anew.';
	END IF;
	UPDATE @extschema@.lp_requests r
	SET state = 'pending', next_attempt_at = clock_timestamp(), error = NULL, finished_at = NULL, evidence = NULL,
		attempts = 0, origin = @extschema@.lp_origin()
	WHERE r.id = ANY (ids);
	GET DIAGNOSTICS n = ROW_COUNT;
	PERFORM @extschema@.lp_wake();
	RETURN n;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_retry_rows(bigint[], name) IS 'internal: lp_retry() for a role';

/* lp_discard(): pending, failed and held requests are dropped, with what was to be sent. As lp_retry_rows(). */
CREATE FUNCTION @extschema@.lp_discard_rows(ids bigint[], caller name) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
	bad bigint;
BEGIN
	ids := array_remove(ids, NULL);
	SELECT x INTO bad FROM unnest(ids) x WHERE x NOT IN (SELECT @extschema@.lp_own_rows(ids, caller)) LIMIT 1;
	IF FOUND THEN
		RAISE insufficient_privilege USING MESSAGE = format('no request %s of yours', bad);
	END IF;
	PERFORM FROM @extschema@.lp_requests r WHERE r.id = ANY (ids) ORDER BY r.id FOR UPDATE;
	SELECT r.id INTO bad FROM @extschema@.lp_requests r
		WHERE r.id = ANY (ids) AND (r.state NOT IN ('pending', 'failed', 'held') OR r.path <> 'queue') LIMIT 1;
	IF FOUND THEN
		RAISE invalid_parameter_value USING MESSAGE = format('request %s is not pending, failed or held in the queue', bad);
	END IF;
	DELETE FROM @extschema@.lp_payloads p WHERE p.request_id = ANY (ids);
	DELETE FROM @extschema@.lp_requests r WHERE r.id = ANY (ids);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_discard_rows(bigint[], name) IS 'internal: lp_discard() for a role';

CREATE FUNCTION @extschema@.lp_retry(ids bigint[]) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_retry(bigint[]) IS 'has failed requests of one''s own sent again; returns how many';

CREATE FUNCTION @extschema@.lp_discard(ids bigint[]) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_discard(bigint[]) IS 'drops pending, failed or held requests of one''s own; returns how many';

/*
 * What was held by hold_above or for its set-up becomes pending. After a failover (same system and database, another
 * timeline, lpusers.after_promotion = resume) it may have been released before, and the standby not know of it: then it is
 * looked up first. Writes lp_requests. Returns how many.
 */
CREATE FUNCTION @extschema@.lp_release(account text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here text := @extschema@.lp_origin();
	n bigint;
	doubtful bigint := 0;
BEGIN
	UPDATE @extschema@.lp_requests r
	SET state = 'pending', next_attempt_at = clock_timestamp(), reason = NULL
	WHERE hashtext(r.account) = hashtext(lp_release.account) AND r.account = lp_release.account
	  AND r.state = 'held' AND r.origin = here;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF current_setting('lpusers.after_promotion') = 'resume' THEN
		doubtful := @extschema@.lp_doubt(ARRAY(
			SELECT r.id FROM @extschema@.lp_requests r
			WHERE hashtext(r.account) = hashtext(lp_release.account) AND r.account = lp_release.account
			  AND r.state = 'held' AND r.reason NOT LIKE 'written elsewhere (%' AND r.origin <> here
			  AND split_part(r.origin, '/', 1) = split_part(here, '/', 1)
			  AND split_part(r.origin, '/', 2) = split_part(here, '/', 2)));
	END IF;
	PERFORM @extschema@.lp_wake();
	RETURN n + doubtful;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_release(text) IS 'lets what was held (by hold_above, or for its set-up) be sent; returns how many';

/* What was written in another database or on another timeline is taken on here: looked up first. Returns how many. */
CREATE FUNCTION @extschema@.lp_adopt() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	n := @extschema@.lp_doubt(ARRAY(
		SELECT r.id FROM @extschema@.lp_requests r
		WHERE (r.state IN ('pending', 'sending', 'uncertain') OR r.state = 'held' AND r.reason LIKE 'written elsewhere (%')
		  AND r.origin IS DISTINCT FROM @extschema@.lp_origin()));
	/* what was held there for another reason stays held, now by this database */
	UPDATE @extschema@.lp_requests r
	SET origin = @extschema@.lp_origin()
	WHERE r.state = 'held' AND r.origin IS DISTINCT FROM @extschema@.lp_origin();
	PERFORM @extschema@.lp_wake();
	RETURN n;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_adopt() IS 'takes on requests that were queued elsewhere (failover, restored copy): looked up, then sent if absent; returns how many';

/* Drops finished requests. Writes lp_requests, lp_payloads. Returns how many. */
CREATE FUNCTION @extschema@.lp_purge(older_than interval) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	WITH gone AS (
		DELETE FROM @extschema@.lp_requests r
		WHERE r.state IN ('created', 'done', 'failed') AND r.finished_at < clock_timestamp() - older_than
		RETURNING r.id
	), payloads AS (
		DELETE FROM @extschema@.lp_payloads p USING gone g WHERE p.request_id = g.id
	)
	SELECT count(*) INTO n FROM gone;
	RETURN n;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_purge(interval) IS 'drops requests that were finished longer ago than this; returns how many';

/*
 * What the worker does once an hour, and CALL if no worker may run: payloads with secrets leave failed and held requests
 * after keep_secrets, finished requests leave after retention.
 */
CREATE FUNCTION @extschema@.lp_housekeep(keep_secrets interval, retention interval) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM @extschema@.lp_payloads p
	USING @extschema@.lp_requests r
	WHERE r.id = p.request_id AND r.state IN ('failed', 'held')
	  AND coalesce(r.finished_at, r.held_at, r.enqueued_at) < clock_timestamp() - keep_secrets
	  AND p.body::text ~ '"(passwordSh|oldPassword|confirmPassword)"';
	PERFORM @extschema@.lp_purge(retention);
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_housekeep(interval, interval) IS 'internal: removes old secrets and old requests';

CREATE FUNCTION @extschema@.lp_account_is_paused(account text) RETURNS boolean
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT EXISTS (SELECT FROM pg_catalog.pg_foreign_server s
					   JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
					   WHERE w.fdwname = 'lpusers' AND 'account=' || account = ANY (s.srvoptions)
						 AND 'delivery=paused' = ANY (s.srvoptions));
	END;
COMMENT ON FUNCTION @extschema@.lp_account_is_paused(text) IS 'does a server of this account have the option delivery ''paused''?';

CREATE VIEW @extschema@.lp_progress WITH (security_barrier) AS
	SELECT p.account, p.pending, p.sending, p.uncertain, p.held, p.created, p.failed,
		   p.users_per_second,
		   CASE WHEN p.pending + p.sending + p.uncertain > 0 AND p.users_per_second > 0
				THEN date_trunc('second', clock_timestamp() + (p.pending + p.sending + p.uncertain) / p.users_per_second
													  * interval '1 second') END AS estimated_end,
		   p.oldest_pending, @extschema@.lp_account_is_paused(p.account) AS paused,
		   @extschema@.lp_worker_pid() AS worker_pid,
		   CASE WHEN p.waits_since < clock_timestamp() - interval '10 seconds'
					 AND NOT @extschema@.lp_account_is_paused(p.account)
				THEN coalesce('not delivered since ' || date_trunc('second', p.waits_since) || ': '
							  || @extschema@._lp_worker_missing(), p.last_error)
				ELSE p.last_error END AS last_error
	FROM (SELECT r.account,
				 count(*) FILTER (WHERE r.state = 'pending') AS pending,
				 count(*) FILTER (WHERE r.state = 'sending') AS sending,
				 count(*) FILTER (WHERE r.state = 'uncertain') AS uncertain,
				 count(*) FILTER (WHERE r.state = 'held') AS held,
				 count(*) FILTER (WHERE r.state = 'created') AS created,
				 count(*) FILTER (WHERE r.state = 'failed') AS failed,
				 round((count(*) FILTER (WHERE r.state = 'created' AND r.finished_at > clock_timestamp() - interval '1 minute')
						/ greatest(extract(epoch FROM max(r.finished_at)
										   - greatest(min(r.enqueued_at), clock_timestamp() - interval '1 minute')), 1))::numeric, 1)
					 AS users_per_second,
				 date_trunc('second', min(r.enqueued_at) FILTER (WHERE r.state = 'pending')) AS oldest_pending,
				 greatest(min(coalesce(r.next_attempt_at, r.sent_at))
						  FILTER (WHERE r.state IN ('pending', 'sending', 'uncertain')), max(r.sent_at))
					 AS waits_since,
				 (array_agg(coalesce(r.error, r.reason) ORDER BY coalesce(r.finished_at, r.sent_at, r.enqueued_at) DESC)
				  FILTER (WHERE r.error IS NOT NULL OR r.reason IS NOT NULL))[1] AS last_error
		  FROM @extschema@.lp_results r
		  WHERE r.path = 'queue'
		  GROUP BY r.account) p
	ORDER BY p.account;
COMMENT ON VIEW @extschema@.lp_progress IS 'the queue of each account: how many in each state, how fast, until when, and what is wrong';

