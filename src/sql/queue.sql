/* queue.sql: the queue, as its deliverer sees it. */

/*
 * Where a row is written: system identifier/database OID/timeline. Only what was written here is sent from here.
 */
CREATE FUNCTION @extschema@.lp_origin() RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.lp_origin() IS 'system identifier/database OID/timeline of this database, as in lp_requests.origin';

/*
 * Time until attempt number n + 1 after a failure of the network or the service: 5, 10, 15 s, then 2, 4, 8 min, give or
 * take a tenth.
 */
CREATE FUNCTION @extschema@.lp_backoff(attempts integer) RETURNS interval
	LANGUAGE sql VOLATILE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT (ARRAY[5, 10, 15, 120, 240, 480])[greatest(1, least(attempts, 6))]
			   * (0.9 + 0.2 * random()) * interval '1 second';
	END;
COMMENT ON FUNCTION @extschema@.lp_backoff(integer) IS 'time to wait after so many attempts that the network or the service failed';

/*
 * Take on rows that were written elsewhere: they are looked up before they are sent. Where they were written they may have
 * been sent a moment ago, also those that were not when this copy last heard of them, and the service may still be at it:
 * the first retry delay begins now. Of several with one login only one can be in doubt at a time; the others wait for its
 * result. Writes lp_requests. Returns how many.
 */
CREATE FUNCTION @extschema@.lp_doubt(ids bigint[]) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	UPDATE @extschema@.lp_requests r
	SET state = CASE WHEN d.place = 1 THEN 'uncertain' ELSE 'pending' END,
		next_attempt_at = clock_timestamp() + @extschema@.lp_backoff(1), reason = NULL, origin = @extschema@.lp_origin()
	FROM (SELECT q.id, row_number() OVER (PARTITION BY q.account, lower(q.login_name)
										  ORDER BY q.state IN ('sending', 'uncertain') DESC, q.id) AS place
		  FROM @extschema@.lp_requests q
		  WHERE q.state IN ('sending', 'uncertain') OR q.id = ANY (ids)) d
	WHERE r.id = d.id AND r.id = ANY (ids);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_doubt(bigint[]) IS 'internal: has requests of another system or timeline looked up here before they are sent';

/*
 * First thing under the lock on an account. Whoever was sending is gone, so a row "sending" has an unknown outcome. It may
 * have been claimed long before it was sent, and the service may still be at it: the first retry delay begins now. Rows
 * written on another timeline are held or looked up (resume), rows written in another system or database are held.
 * Parameters: account, lpusers.after_promotion = 'resume'. Writes lp_requests. Returns the number of rows changed.
 */
CREATE FUNCTION @extschema@.lp_take_over(account text, resume boolean) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here text := @extschema@.lp_origin();
	n bigint;
	changed bigint := 0;
BEGIN
	/* as a rule there are none */
	IF EXISTS (SELECT FROM @extschema@.lp_requests r
			   WHERE hashtext(r.account) = hashtext(lp_take_over.account) AND r.account = lp_take_over.account
				 AND r.state = 'pending' AND r.origin IS DISTINCT FROM here)
	   OR EXISTS (SELECT FROM @extschema@.lp_requests r
				  WHERE r.account = lp_take_over.account AND r.state IN ('sending', 'uncertain')
					AND r.origin IS DISTINCT FROM here) THEN
		changed := @extschema@.lp_doubt(ARRAY(
			SELECT r.id FROM @extschema@.lp_requests r
			WHERE r.account = lp_take_over.account AND r.state IN ('pending', 'sending', 'uncertain')
			  AND r.origin <> here AND resume
			  AND split_part(r.origin, '/', 1) = split_part(here, '/', 1)
			  AND split_part(r.origin, '/', 2) = split_part(here, '/', 2)));

		UPDATE @extschema@.lp_requests r
		SET state = 'held', next_attempt_at = NULL, held_at = clock_timestamp(),
			reason = 'written elsewhere (' || r.origin || ', here is ' || here || '): a failover, a restore or a copy; see lp_adopt()'
		WHERE r.account = lp_take_over.account AND r.state IN ('pending', 'sending', 'uncertain')
		  AND r.origin IS DISTINCT FROM here;
		GET DIAGNOSTICS n = ROW_COUNT;
		changed := changed + n;
	END IF;

	UPDATE @extschema@.lp_requests r
	SET state = 'uncertain', next_attempt_at = clock_timestamp() + @extschema@.lp_backoff(1)
	WHERE r.account = lp_take_over.account AND r.state = 'sending';
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN changed + n;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_take_over(text, boolean) IS 'internal: settles what an earlier deliverer, system or timeline left';

/*
 * The rows of an account that are due now, oldest first and at most n; none while a row of the account waits because the
 * service said so (429). A deliverer claims from this list, row by row (claim.c). With the places where they are now.
 */
CREATE FUNCTION @extschema@.lp_list(account text, n integer, OUT ids bigint[], OUT places tid[])
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	/* a young queue has no statistics: no plan but that by the index of waiting rows will do */
	SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
	wait boolean;
	at timestamptz := clock_timestamp();
BEGIN
	SELECT (array_agg(r.id ORDER BY r.next_attempt_at, r.id) FILTER (WHERE r.next_attempt_at <= at))[1:n],
		   (array_agg(r.ctid ORDER BY r.next_attempt_at, r.id) FILTER (WHERE r.next_attempt_at <= at))[1:n],
		   bool_or(r.status = 429 AND r.next_attempt_at > at)
	INTO ids, places, wait
	FROM @extschema@.lp_requests r
	WHERE hashtext(r.account) = hashtext(lp_list.account) AND r.account = lp_list.account AND r.state = 'pending';
	IF wait THEN
		ids := NULL;
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_list(text, integer) IS 'internal: rows of the queue that are due';

/*
 * Write down what became of claimed or looked-up rows, element by element of the arrays. A row whose wait is given is
 * due again after so many milliseconds, -1: after lp_backoff() of its attempts. The state "unsent" is pending, and the
 * attempt does not count: the service refused it unread (429), or it was never sent. A row whose batch is null keeps the
 * one it had. The payload leaves with success. (What an answer says was created is written down by settle.c, in the same
 * transaction and the same way.)
 */
CREATE FUNCTION @extschema@.lp_settle(ids bigint[], states text[], statuses integer[], revisions bigint[], user_ids bigint[],
						  errors text[], reasons text[], waits bigint[], batches bigint[], evidence text)
	RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
	at timestamptz := clock_timestamp();
BEGIN
	/*
	 * A look-up found the login with the data that were sent: the user is of this request, unless another request has
	 * created that very user. One pass over the finished rows for all of them.
	 */
	IF lp_settle.evidence = 'lookup' THEN
		SELECT array_agg(CASE WHEN t.other IS NOT NULL AND u.state = 'created' THEN 'failed' ELSE u.state END ORDER BY u.n),
			   array_agg(CASE WHEN t.other IS NOT NULL AND u.state = 'created'
							  THEN 'login exists: another request has created it' ELSE u.error END ORDER BY u.n)
		INTO states, errors
		FROM ROWS FROM (unnest(states), unnest(user_ids), unnest(errors)) WITH ORDINALITY AS u(state, user_id, error, n)
		LEFT JOIN (SELECT o.user_id, min(o.id) AS other
				   FROM @extschema@.lp_requests o
				   WHERE o.account = (SELECT r.account FROM @extschema@.lp_requests r WHERE r.id = ids[1])
					 AND o.operation = 'create' AND o.state = 'created'
					 AND o.user_id IN (SELECT x FROM unnest(user_ids) x WHERE x IS NOT NULL)
					 AND o.id NOT IN (SELECT unnest(ids))
				   GROUP BY o.user_id) t ON t.user_id = u.user_id;
	END IF;

	UPDATE @extschema@.lp_requests r
	SET state = CASE u.state WHEN 'unsent' THEN 'pending' ELSE u.state END,
		attempts = r.attempts - (u.state = 'unsent')::integer,
		sent_at = CASE WHEN u.state <> 'unsent' OR u.status IS NOT NULL THEN r.sent_at END,
		status = coalesce(u.status, r.status), ac_revision = coalesce(u.revision, r.ac_revision),
		user_id = coalesce(u.user_id, r.user_id), error = u.error, reason = u.reason,
		batch = coalesce(u.batch, r.batch),
		evidence = CASE WHEN u.state IN ('created', 'failed') THEN lp_settle.evidence END,
		finished_at = CASE WHEN u.state IN ('created', 'failed') THEN at END,
		held_at = CASE WHEN u.state = 'held' THEN at END,
		next_attempt_at = CASE WHEN u.state NOT IN ('pending', 'unsent', 'uncertain') THEN NULL
							   /* a look-up that fails again and again: a quarter of the time since it was sent (if it was, from here) */
							   WHEN u.wait < 0 AND u.state = 'uncertain' AND lp_settle.evidence = 'lookup'
							   THEN at + greatest(@extschema@.lp_backoff(r.attempts),
																 least((at - coalesce(r.sent_at, at)) / 4, interval '8 minutes'))
							   WHEN u.wait < 0 THEN at + @extschema@.lp_backoff(r.attempts)
							   ELSE at + coalesce(u.wait, 0) * interval '1 millisecond' END
	FROM unnest(ids, states, statuses, revisions, user_ids, errors, reasons, waits, batches)
		 AS u(id, state, status, revision, user_id, error, reason, wait, batch)
	WHERE r.id = u.id AND r.state IN ('sending', 'uncertain');

	DELETE FROM @extschema@.lp_payloads p
	USING unnest(ids, states) AS u(id, state)
	WHERE p.request_id = u.id AND u.state = 'created';
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_settle(bigint[], text[], integer[], bigint[], bigint[], text[], text[], bigint[], bigint[], text)
	IS 'internal: writes down what became of rows of the queue';

/*
 * The rows of an account whose outcome has to be looked up now, with what was sent for them. When one is due, all are
 * taken: one listing of the account answers for all.
 */
CREATE FUNCTION @extschema@.lp_uncertain(account text, OUT id bigint, OUT send_as text, OUT login_name text, OUT attempts integer,
							 OUT body json, OUT status integer, OUT trouble text, OUT rejected boolean)
	RETURNS SETOF record
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
	IF EXISTS (SELECT FROM @extschema@.lp_requests r
			   WHERE r.account = lp_uncertain.account AND r.state = 'uncertain'
				 AND r.next_attempt_at <= clock_timestamp()) THEN
		RETURN QUERY
		SELECT r.id, r.send_as, r.login_name, r.attempts, b.body, r.status,
			   coalesce(r.error, CASE WHEN r.reason NOT LIKE 'look-up failed: %' THEN r.reason END),
			   r.error IS NOT NULL AND r.status BETWEEN 300 AND 499 AND r.status NOT IN (401, 429)
		FROM @extschema@.lp_requests r LEFT JOIN @extschema@.lp_payloads b ON b.request_id = r.id
		WHERE r.account = lp_uncertain.account AND r.state = 'uncertain'
		  AND r.next_attempt_at <= clock_timestamp() + interval '1 second'
		ORDER BY r.id;
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_uncertain(text) IS 'internal: rows of the queue whose outcome has to be looked up';

/* Hold what is pending for a role whose credentials were refused: the next hundred attempts would lock the key. */
CREATE FUNCTION @extschema@.lp_hold(account text, send_as text, why text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	UPDATE @extschema@.lp_requests r
	SET state = 'held', reason = why, next_attempt_at = NULL, held_at = clock_timestamp()
	WHERE hashtext(r.account) = hashtext(lp_hold.account) AND r.account = lp_hold.account
	  AND r.send_as = lp_hold.send_as AND r.state = 'pending';
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END;
$$;
COMMENT ON FUNCTION @extschema@.lp_hold(text, text, text) IS 'internal: holds what is pending for a role';

/* Accounts with unfinished rows, and when the first of each is due; who has waited longest comes first. */
CREATE FUNCTION @extschema@.lp_due(OUT account text, OUT wait_ms bigint) RETURNS SETOF record
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT r.account,
			   greatest(0, ceil(extract(epoch FROM greatest(min(CASE WHEN r.state = 'sending' THEN clock_timestamp()
																	  ELSE r.next_attempt_at END),
															 max(r.next_attempt_at) FILTER (WHERE r.state = 'pending'
																							AND r.status = 429))
										 - clock_timestamp()) * 1000))::bigint
		FROM (SELECT w.account, w.state, w.status, w.next_attempt_at, w.sent_at
			  FROM @extschema@.lp_requests w WHERE w.state = 'pending'
			  UNION ALL
			  SELECT f.account, f.state, f.status, f.next_attempt_at, f.sent_at
			  FROM @extschema@.lp_requests f WHERE f.state IN ('sending', 'uncertain')) r
		GROUP BY r.account
		ORDER BY min(coalesce(r.next_attempt_at, r.sent_at));
	END;
COMMENT ON FUNCTION @extschema@.lp_due() IS 'internal: accounts with rows to deliver, and how long until the first is due';

CREATE FUNCTION @extschema@.lp_enqueue_users(account text, users jsonb) RETURNS SETOF bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_enqueue_users(text, jsonb)
	IS 'queues users to be created after commit with the caller''s credentials; returns the ids of their requests in order';

CREATE PROCEDURE @extschema@.lp_deliver(account text DEFAULT NULL)
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.lp_deliver(text) IS 'delivers now what is due in the queue, of one account or of all; commits between batches';

CREATE FUNCTION @extschema@.lp_create_users_trigger() RETURNS trigger
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON FUNCTION @extschema@.lp_create_users_trigger() IS 'queues (or, mode=sync, creates) a user for each row that a statement inserts or updates';

CREATE FUNCTION @extschema@.lp_attach_trigger(target regclass, account text, attributes jsonb, condition text DEFAULT NULL,
								  on_update boolean DEFAULT false, mode text DEFAULT 'queue', name text DEFAULT NULL)
	RETURNS SETOF text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 2 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_attach_trigger(regclass, text, jsonb, text, boolean, text, text)
	IS 'checks a mapping against a table and its owner''s rights, and creates the trigger(s); returns what was run';

CREATE FUNCTION @extschema@.lp_detach_trigger(target regclass, account text DEFAULT NULL, name text DEFAULT NULL) RETURNS SETOF text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 2 COST 1000;
COMMENT ON FUNCTION @extschema@.lp_detach_trigger(regclass, text, text)
	IS 'drops the trigger(s) that lp_attach_trigger() made for an account or under a name; returns what was run';

CREATE FUNCTION @extschema@.lp_enqueue_rows(target regclass, condition text DEFAULT NULL, name text DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION @extschema@.lp_enqueue_rows(regclass, text, text)
	IS 'queues rows that a table has already, as its trigger would; returns how many requests were made';

