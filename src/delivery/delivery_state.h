/*
 * delivery_state.h: a delivery under way, for the files of this folder.
 */
#ifndef LPU_DELIVERY_DELIVERY_STATE_H
#define LPU_DELIVERY_DELIVERY_STATE_H

#include "utils/hsearch.h"

#include "delivery/create_batch.h"
#include "delivery/delivery.h"
#include "delivery/lookup.h"
#include "queue/claim_change.h"
#include "queue/settle.h"

/* Why nothing can be sent now with a mapping. */
typedef struct LpuListFailure
{
	Oid			mapping;		/* InvalidOid: with any */
	const char *why;
	int64		wait_ms;
	int			status;
	TimestampTz since;			/* the attempt began */
} LpuListFailure;

/*
 * The users of the account before anything is sent, as listed through one server. Servers with the
 * same account id may belong to roles that do not trust each other, so a listing through one server
 * is used for its own rows only.
 */
typedef struct LpuPresence
{
	Oid			server;
	int			ndue;			/* rows of the round */
	bool		few;			/* each is sent in a request of its own */
	LpuLookup  *users;			/* NULL: few */
	List	   *failures;		/* LpuListFailure */
} LpuPresence;

/* Rows of a refused batch. */
typedef struct LpuRefusedBatch
{
	const LpuOptions *options;
	LpuQueueRow **rows;
	int			n;
} LpuRefusedBatch;

struct LpuDelivery
{
	Oid			schema_oid;
	Oid			table;			/* lp_requests, since the first step */
	const char *account;
	Oid			party;			/* of the servers that it serves */
	const LpuDeliverer *deliverer;
	LpuTotals  *totals;
	MemoryContext context;		/* for the lifetime of the delivery */
	bool		looked;			/* for rows in doubt, since the last claim */
	TimestampTz looked_at;		/* ... or when it began */
	bool		shares;			/* holds the revision lock, since: */
	TimestampTz shared_since;
	List	   *ready;			/* batches to be sent */
	List	   *flying;			/* batches under way */
	List	   *done;			/* batches to be settled */
	bool		refused;		/* ... not all of which were accepted */

	/* listings of the account under way, or NULL: of these files */
	struct LpuLookAhead *look_ahead;
	struct LpuRefusal *refusal;
	struct LpuReconciliation *reconciliation;

	struct LpuChangeChain *chain;	/* updates and deletes under way, or NULL */
	LpuNextChange next_change;
	bool		changes_due;	/* an update or delete can be claimed: no
								 * creates are started */
	bool		changes_left;	/* ... but the turn is over */
	TimestampTz changes_checked;	/* time of that check */
	bool		changes_stale;	/* ... before something was settled */
	bool		changes_locked; /* the chain has set back changes that wait
								 * for locked rows: check again later */
	int			unrest;			/* writes in a row that were stale */
	int			calm;			/* ... and since then were not */
	TimestampTz unrest_since;
	TimestampTz unrest_until;	/* changes wait until this time */

	LpuClaimer *claimer;
	bool		in_round;		/* only rows due at the start of the round are
								 * claimed */
	bool		must_look;		/* ... the account has to be listed before
								 * rows are claimed */
	bool		claimed;		/* ... some were claimed */
	bool		changed;		/* ... users were changed meanwhile */
	LpuQueueRow *due;			/* ... rows that were due then: role, server
								 * and login */
	int			ndue;
	List	   *presences;		/* ... LpuPresence */
	MemoryContext present_context;
	int64		revision;		/* of the account then; -1 after a create */
	List	   *refused_batches;	/* LpuRefusedBatch */
	List	   *proved;			/* mappings (OID) that the account has
								 * accepted */
	LpuSettlement *settlements[2];	/* of the transaction, or NULL; by
									 * response, by lookup */
	List	   *settled;		/* the rows in them */
	HTAB	   *unfinished;		/* rows that were counted and are not finished */
	int			claim_size;
	int			max_connections;
	double		rate_limit;
	TimestampTz next_start;		/* by rate_limit, or Retry-After */
	bool		asked_to_wait;	/* the delay is so long that ready batches go
								 * back into the queue */
	bool		empty;			/* the last claim found nothing */
	TimestampTz slice_end;		/* no claims after this */
	TimestampTz send_end;		/* a worker starts no batch after this; not
								 * before slice_end */
};

/*
 * delivery_state.c: begin and end a step of the delivery, which is a transaction. Memory allocated
 * in a step lives as long as the delivery, unless it is freed.
 */
extern MemoryContext lpu_delivery_begin(LpuDelivery *d);
extern void lpu_delivery_commit(LpuDelivery *d, MemoryContext caller);

/* In a step: settle rows of one request, when the step ends. */
extern void lpu_delivery_settle(LpuDelivery *d, LpuQueueRow **rows, int n);

/* In a step: write the results of the rows settled so far; the end of the step does the rest. */
extern void lpu_delivery_write_settled(LpuDelivery *d);

/* In a step: settle one row whose outcome is known from a lookup. */
extern void lpu_delivery_settle_looked(LpuDelivery *d, LpuQueueRow *row);

/* In a step: settle one batch that is done. */
extern void lpu_delivery_settle_batch(LpuDelivery *d, LpuCreateBatch *batch);

/* In a step: return claimed rows that will not be sent soon to the queue. */
extern void lpu_delivery_give_back(LpuDelivery *d);

/*
 * Return true if rate_limit and Retry-After allow a request now, and count it; return the time
 * until they do.
 */
extern bool lpu_delivery_may_request(LpuDelivery *d);
extern long lpu_delivery_request_wait(const LpuDelivery *d);

/* The shorter of two times to wait; -1: no limit. */
extern long lpu_delivery_shorter(long a, long b);

/*
 * In a step: let claimed rows wait as long as a request that could not be sent; the milliseconds
 * until the next one is tried.
 */
extern void lpu_delivery_note_unreachable(LpuDelivery *d, const LpuOptions *options,
										  const LpuNextChange *sender, TimestampTz since,
										  const char *why, int64 wait_ms);
extern int64 lpu_delivery_silence(const LpuDelivery *d, const LpuOptions *options,
								  const LpuQueueRow *row, const char **why);

/* Count a row's result among the totals. */
extern void lpu_delivery_count(LpuDelivery *d, const LpuQueueRow *row);

/*
 * In a step: a listing or a request of these options was refused.  Hold the other rows that would
 * be sent with these options.
 */
extern void lpu_delivery_hold_role(LpuDelivery *d, const LpuOptions *options,
								   const LpuQueueRow *row, LpuHoldKind hold,
								   const char *why);

/* Note that the account was reached. */
extern void lpu_delivery_note_reached(LpuDelivery *d, const LpuOptions *options);

/* In a step: the account requested a delay, and nothing is sent to it until then. */
extern void lpu_delivery_wait_as_asked(LpuDelivery *d, int64 wait_ms, int64 patience_ms);

/* Remove the next batch that may be started from the ready ones; NULL if there is none. */
extern LpuCreateBatch *lpu_delivery_next_batch(LpuDelivery *d);
extern bool lpu_delivery_has_next_batch(const LpuDelivery *d);

/* Interval of attempts to take the revision lock while a writer has it. */
#define LPU_REVISION_POLL_MS 50

/* Number of batches claimed at a time, or kept ready. */
#define LPU_CLAIM_BATCHES 2

/* delivery.c: mark the rows of an earlier delivery as uncertain; claim a few batches. */
extern void lpu_delivery_take_over(LpuDelivery *d);
extern void lpu_delivery_claim(LpuDelivery *d);

/*
 * delivery.c: the options for a row; NULL and *why if its role cannot send.
 * They live as long as the memory context.
 */
extern const LpuOptions *lpu_delivery_options(LpuDelivery *d, const LpuQueueRow *row,
											  MemoryContext context,
											  const char **why);

/* delivery_step.c: raise if another party has released the deliverer's lock. */
extern void lpu_delivery_check_lock(const LpuDelivery *d);

/* delivery_step.c: release the revision lock. */
extern void lpu_delivery_unshare_revision(LpuDelivery *d);

/* delivery_step.c: return true if claims are over because the process is asked to stop. */
extern bool lpu_delivery_must_stop(const LpuDelivery *d);

/*
 * delivery_step.c: extend the time for claims; extend the time for sending ready batches to a full
 * turn.
 */
extern void lpu_delivery_extend_turn(LpuDelivery *d, int64 ms);
extern void lpu_delivery_extend_sending(LpuDelivery *d);

/* presence.c: which users the account has before anything is sent. */
extern void lpu_delivery_begin_round(LpuDelivery *d);
extern void lpu_delivery_end_round(LpuDelivery *d);
extern LpuStep lpu_delivery_look_ahead(LpuDelivery *d, long *wait_ms);
extern void lpu_delivery_make_batches(LpuDelivery *d, const LpuOptions *options, LpuQueueRow **rows,
									  int n);
extern bool lpu_delivery_login_becomes_free(LpuDelivery *d, LpuQueueRow *row,
											const LpuListedUser *user);

/* refusal.c: the results of refused batches. */
extern void lpu_delivery_put_refused(LpuDelivery *d, const LpuOptions *options, LpuQueueRow **rows,
									 int n);
extern LpuStep lpu_delivery_judge_refused(LpuDelivery *d, long *wait_ms);

/* change_chain.c, change_turn.c: updates and deletes. */
extern LpuStep lpu_delivery_change(LpuDelivery *d, long *wait_ms);
extern bool lpu_change_chain_begin(LpuDelivery *d);
extern bool lpu_change_chain_step(LpuDelivery *d, long *wait_ms);
extern void lpu_change_chain_report(const struct LpuChangeChain *chain);

/*
 * reconcile.c: how a user in the account differs from the data sent, as the text of an error; NULL
 * if it does not. Needs a transaction.
 */
extern char *lpu_delivery_differences(const char *body, const LpuListedUser *user);

/* reconcile.c: look up the rows whose outcome is unknown. */
extern LpuStep lpu_delivery_look_up(LpuDelivery *d, long *wait_ms);

#endif
